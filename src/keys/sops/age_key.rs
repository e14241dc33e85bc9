//! Data keys that are encrypted to age recipients.
//!
//! The `age` crate does the stanzas and the header. The payload behind it, one short chunk, is done here: the crate's
//! writer leaves a copy of it on the heap, and its reader shrinks the buffer it stands in, which may move it.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, Read as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, EncryptError, Encryptor};
use age_core::format::{FileKey, Stanza};
use age_core::primitives::hkdf;
use age_core::secrecy::ExposeSecret as _;
use chacha20poly1305::{AeadInPlace as _, ChaCha20Poly1305, KeyInit as _};
use zeroize::Zeroizing;

use crate::error::{Reason, Result};

use super::fault;
use super::identity::BoxedIdentity;

/// Far more than an age file of 33 bytes with a few recipients needs, and less than the 64 KiB of two chunks.
const MAX_ENTRY: u64 = 64 << 10;
const NONCE: usize = 16;
const TAG: usize = 16;

/// The most work that a protected identity may ask for: N = 2^22, the bound of the `age` program. The `age` crate would
/// measure the machine instead, and then refuse on a slow one, or in a debug build, what opens on another.
/// Fuzzing has neither the time nor the memory for that.
const MAX_WORK: u8 = if cfg!(fuzzing) { 10 } else { 22 };

/// Opens an identity file that is protected by a passphrase; or says why not.
pub(super) fn unprotect(file: &[u8], passphrase: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase));
    identity.set_max_work_factor(MAX_WORK);
    let refusal = Arc::default();
    let telling = Telling { identity, refusal: Arc::clone(&refusal) };
    if let Some(text) = unwrap(file, &[Box::new(telling)]) {
        return Ok(text);
    }
    let refusal = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
    Err(match refusal {
        Some(DecryptError::ExcessiveWork { required, .. }) => {
            format!("it asks for scrypt with a work factor of {required}, and {MAX_WORK} is the most that is done")
        }
        Some(DecryptError::DecryptionFailed) => "its passphrase does not fit".into(),
        Some(_) => "it is damaged".into(),
        None if file.len() as u64 > MAX_ENTRY => format!("it is larger than {MAX_ENTRY} bytes"),
        None => "it is damaged, or encrypted to other keys than a passphrase".into(),
    })
}

/// Opens one age file, armored or not; `None` if no identity fits or the file is damaged.
pub(super) fn unwrap(file: &[u8], identities: &[BoxedIdentity]) -> Option<Zeroizing<Vec<u8>>> {
    // The armor reader wants no white space around, which YAML block scalars and people leave there.
    let armored = file.trim_ascii_start().starts_with(b"-----BEGIN");
    let file = if armored { file.trim_ascii() } else { file };
    let mut bytes = Vec::new();
    ArmoredReader::new(file).take(MAX_ENTRY).read_to_end(&mut bytes).ok()?;
    let mut rest = bytes.as_slice();
    let decryptor = Decryptor::new_buffered(&mut rest).ok()?;
    let file_key = RefCell::new(None);
    let listening: Vec<_> = identities.iter().map(|identity| Listening { identity, file_key: &file_key }).collect();
    decryptor.decrypt(listening.iter().map(|identity| identity as _)).ok()?;
    let nonce = bytes.len() - rest.len();
    let nonce = &bytes[nonce.checked_sub(NONCE)?..nonce];
    decrypt(file_key.take()?.expose_secret(), nonce, rest)
}

/// Encrypts `clear` to one recipient, as an armored age file.
pub(super) fn wrap(clear: &[u8], recipient: &str) -> Result<String> {
    let unusable = || fault(Reason::Malformed, format!("`{recipient}` is not an age recipient (`age1...`)"));
    let recipient: age::x25519::Recipient = recipient.parse().map_err(|_| unusable())?;
    let listening = ListeningRecipient { recipient, file_key: RefCell::new(None) };
    let write = || -> io::Result<Vec<u8>> {
        let encryptor = Encryptor::with_recipients(std::iter::once(&listening as _)).map_err(io::Error::other)?;
        // The age file of nothing: header, nonce, and a tag that is replaced by the true payload.
        let mut file = encryptor.wrap_output(Vec::new())?.finish()?;
        let end = file.len().saturating_sub(TAG);
        file.truncate(end);
        let file_key = listening.file_key.take().ok_or_else(|| io::Error::other("no stanza was made"))?;
        let sealed = encrypt(file_key.expose_secret(), &file[end.saturating_sub(NONCE)..], clear);
        file.extend_from_slice(&sealed.ok_or_else(|| io::Error::other("the payload is too long"))?);
        let mut armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
        armor.write_all(&file)?;
        armor.finish()
    };
    let armored = write().map_err(|_| fault(Reason::Unspecified, "cannot encrypt the data key with age"))?;
    String::from_utf8(armored).map_err(|_| unusable())
}

/// Chunk 0, and the last: the data key, a share of it or an identity file is never longer than one chunk.
const ONLY_CHUNK: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn payload_cipher(file_key: &[u8], nonce: &[u8]) -> ChaCha20Poly1305 {
    let key = Zeroizing::new(hkdf(nonce, b"payload", file_key));
    ChaCha20Poly1305::new((&*key).into())
}

fn decrypt(file_key: &[u8], nonce: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (body, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG)?)?;
    let mut clear = Zeroizing::new(body.to_vec());
    let cipher = payload_cipher(file_key, nonce);
    cipher.decrypt_in_place_detached(&ONLY_CHUNK.into(), b"", &mut clear, tag.into()).ok()?;
    Some(clear)
}

fn encrypt(file_key: &[u8], nonce: &[u8], clear: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut sealed = Zeroizing::new(Vec::with_capacity(clear.len() + TAG));
    sealed.extend_from_slice(clear);
    let cipher = payload_cipher(file_key, nonce);
    let tag = cipher.encrypt_in_place_detached(&ONLY_CHUNK.into(), b"", &mut sealed).ok()?;
    sealed.extend_from_slice(&tag);
    Some(sealed)
}

/// An identity that keeps the file key it found, and does not let an entry that is damaged for it stop the others.
struct Listening<'a> {
    identity: &'a BoxedIdentity,
    file_key: &'a RefCell<Option<FileKey>>,
}

impl age::Identity for Listening<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        let found = self.identity.unwrap_stanza(stanza)?.ok()?;
        self.file_key.replace(Some(copy(&found)));
        Some(Ok(found))
    }
}

/// A passphrase that remembers why it was refused.
struct Telling {
    identity: age::scrypt::Identity,
    refusal: Arc<Mutex<Option<DecryptError>>>,
}

impl age::Identity for Telling {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        let answer = self.identity.unwrap_stanza(stanza)?;
        if let Err(error) = &answer {
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
        }
        Some(answer)
    }
}

/// A recipient that keeps the file key it was given.
struct ListeningRecipient {
    recipient: age::x25519::Recipient,
    file_key: RefCell<Option<FileKey>>,
}

impl age::Recipient for ListeningRecipient {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        self.file_key.replace(Some(copy(file_key)));
        self.recipient.wrap_file_key(file_key)
    }
}

fn copy(file_key: &FileKey) -> FileKey {
    FileKey::init_with_mut(|copy| copy.copy_from_slice(file_key.expose_secret()))
}
