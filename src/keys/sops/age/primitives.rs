//! The ciphers of the format, each in the one form that it uses.

use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Tag};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::Result;

use crate::keys::sops::data_key::random;

pub(super) const TAG: usize = 16;

/// What the payload is encrypted by; on the heap, so that moving it leaves no copies.
pub(in crate::keys::sops) struct FileKey(Box<Zeroizing<[u8; 16]>>);

impl FileKey {
    pub(super) fn generate() -> Result<Self> {
        let mut key = Box::new(Zeroizing::new([0; 16]));
        random(&mut **key)?;
        Ok(Self(key))
    }

    /// `None` if the length is another one.
    pub(in crate::keys::sops) fn new(bytes: &[u8]) -> Option<Self> {
        let mut key = Box::new(Zeroizing::new([0; 16]));
        if bytes.len() != key.len() {
            return None;
        }
        key.copy_from_slice(bytes);
        Some(Self(key))
    }

    pub(super) fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Opens the body of a stanza. The length is looked at first, as the format demands: a longer body could be made
    /// to open under several keys.
    pub(super) fn open(key: &[u8; 32], body: &[u8]) -> Option<Self> {
        if body.len() != 16 + TAG {
            return None;
        }
        Self::new(&open(key, &[0; 12], body)?)
    }

    /// The body of a stanza.
    pub(super) fn seal(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        seal(key, &[0; 12], self.bytes())
    }
}

pub(super) fn open(key: &[u8; 32], nonce: &[u8; 12], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (body, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG)?)?;
    let mut clear = Zeroizing::new(body.to_vec());
    let tag = Tag::try_from(tag).ok()?;
    let cipher = ChaCha20Poly1305::new(key.into());
    cipher.decrypt_inout_detached(nonce.into(), b"", clear.as_mut_slice().into(), &tag).ok()?;
    Some(clear)
}

pub(super) fn seal(key: &[u8; 32], nonce: &[u8; 12], clear: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = Zeroizing::new(Vec::with_capacity(clear.len() + TAG));
    sealed.extend_from_slice(clear);
    let cipher = ChaCha20Poly1305::new(key.into());
    let tag = cipher.encrypt_inout_detached(nonce.into(), b"", sealed.as_mut_slice().into()).ok()?;
    sealed.extend_from_slice(&tag);
    Some(std::mem::take(&mut *sealed))
}

/// HKDF-SHA-256 for one block of output (RFC 5869). The salt has at most 64 bytes.
pub(super) fn hkdf(salt: &[u8], info: &[u8], secret: &[u8]) -> Zeroizing<[u8; 32]> {
    hmac(&*hmac(salt, &[secret]), &[info, &[1]])
}

/// HMAC-SHA-256 under a key of at most 64 bytes, which zeros make one block (RFC 2104).
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut block = Zeroizing::new([0; 64]);
    block[..key.len()].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}
