//! Secrets: bytes that are wiped when the last holder lets go, and that nothing prints.
//!
//! Floor 0. A [`Secret`] carries its form, because a passphrase and a raw key are used differently: a passphrase is
//! stretched, a raw key is the key. Clones share one buffer, so a secret exists once however many hold it.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretSlice, SecretString};
use zeroize::{Zeroize, Zeroizing};

/// A passphrase, key or password in memory that is zeroized on drop.
///
/// `Debug` shows the form only; there is no `Display`, no `Serialize` and no comparison. [`expose`](Secret::expose) is
/// the one way to the bytes, so every use can be found by searching for that word.
///
/// What zeroizing cannot reach: copies made before the value came here (a literal, an environment variable, a `String`
/// that grew), swap and core dumps.
///
/// ```
/// use strongroom::Secret;
///
/// let secret = Secret::new("correct horse battery staple");
/// assert_eq!(secret.expose(), b"correct horse battery staple");
/// assert_eq!(format!("{secret:?}"), "Secret(Passphrase, [REDACTED])");
/// ```
#[derive(Clone)]
pub struct Secret {
    form: SecretForm,
    bytes: Arc<SecretSlice<u8>>,
}

/// How the bytes of a [`Secret`] are to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SecretForm {
    /// Text or bytes to derive a key from, or to present as a password.
    Passphrase,
    /// 32 bytes that are the key itself.
    RawKey,
    /// 32 bytes of key followed by the 16 bytes of salt that the file starts with.
    RawKeyWithSalt,
}

impl Secret {
    /// Takes a passphrase: `&str`, `String`, `&[u8]`, `Vec<u8>` or a secrecy `SecretString`. Owned buffers are wiped
    /// after their bytes were copied into one of exact size.
    pub fn new(passphrase: impl Into<SecretBytes>) -> Self {
        Self::of(SecretForm::Passphrase, passphrase.into().0)
    }

    /// Takes a 256-bit key that is used as it is, without key derivation.
    pub fn raw_key(key: [u8; 32]) -> Self {
        let key = Zeroizing::new(key);
        Self::of(SecretForm::RawKey, exact(&*key))
    }

    /// Takes a 256-bit key together with the salt of the file, so that not even the salt has to be read.
    pub fn raw_key_with_salt(key: [u8; 32], salt: [u8; 16]) -> Self {
        let key = Zeroizing::new(key);
        let mut both = Zeroizing::new([0; 48]);
        both[..32].copy_from_slice(&*key);
        both[32..].copy_from_slice(&salt);
        Self::of(SecretForm::RawKeyWithSalt, exact(&*both))
    }

    fn of(form: SecretForm, bytes: SecretSlice<u8>) -> Self {
        Self { form, bytes: Arc::new(bytes) }
    }

    /// The bytes. Whoever calls this is responsible for the copies it makes.
    pub fn expose(&self) -> &[u8] {
        self.bytes.expose_secret()
    }

    /// What the bytes are.
    pub fn form(&self) -> SecretForm {
        self.form
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({:?}, [REDACTED])", self.form)
    }
}

impl<T: Into<SecretBytes>> From<T> for Secret {
    fn from(passphrase: T) -> Self {
        Self::new(passphrase)
    }
}

/// What [`Secret::new`] accepts: the bytes in a buffer of exact size that is wiped on drop.
pub struct SecretBytes(SecretSlice<u8>);

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes([REDACTED])")
    }
}

/// Copies into a buffer that is allocated once at its final size, so that no partial copy stays behind.
fn exact(bytes: &[u8]) -> SecretSlice<u8> {
    let boxed: Box<[u8]> = Box::from(bytes);
    SecretSlice::new(boxed)
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(exact(bytes))
    }
}

impl From<&str> for SecretBytes {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(mut bytes: Vec<u8>) -> Self {
        let secret = bytes.as_slice().into();
        bytes.zeroize();
        secret
    }
}

impl From<String> for SecretBytes {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<Zeroizing<Vec<u8>>> for SecretBytes {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        bytes.as_slice().into()
    }
}

impl From<Zeroizing<String>> for SecretBytes {
    fn from(text: Zeroizing<String>) -> Self {
        text.as_str().into()
    }
}

impl From<SecretString> for SecretBytes {
    fn from(text: SecretString) -> Self {
        text.expose_secret().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_one_buffer() {
        let secret = Secret::new(String::from("once"));
        assert!(std::ptr::eq(secret.expose(), secret.clone().expose()));
    }

    #[test]
    fn the_form_goes_with_the_bytes() {
        assert_eq!(Secret::raw_key([7; 32]).form(), SecretForm::RawKey);
        let both = Secret::raw_key_with_salt([1; 32], [2; 16]);
        assert_eq!((both.form(), both.expose().len()), (SecretForm::RawKeyWithSalt, 48));
        assert_eq!(&both.expose()[31..33], &[1, 2]);
    }

    #[test]
    fn debug_shows_no_byte() {
        for secret in [Secret::new("hunter2"), Secret::raw_key([0xAB; 32])] {
            let shown = format!("{secret:?}").to_lowercase();
            assert!(!shown.contains("hunter2") && !shown.contains("ab, ") && !shown.contains("171"));
        }
    }
}
