//! Data keys that are encrypted to age recipients.
//!
//! The `age` crate finds the matching stanza and verifies the header. The 32 or 33 bytes behind it are decrypted here:
//! the crate's own reader would leave a copy of them on the heap.

use std::cell::RefCell;
use std::io::Read as _;

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor};
use age_core::format::{FileKey, Stanza};
use age_core::primitives::hkdf;
use age_core::secrecy::ExposeSecret as _;
use chacha20poly1305::{AeadInPlace as _, ChaCha20Poly1305, KeyInit as _};
use zeroize::Zeroizing;

use super::identity::BoxedIdentity;

/// Far more than an age file of 33 bytes with a few recipients needs.
const MAX_ENTRY: u64 = 64 << 10;
const NONCE: usize = 16;
const TAG: usize = 16;

/// Opens one armored age file; `None` if no identity fits or the file is damaged.
pub(super) fn unwrap(armored: &str, identities: &[BoxedIdentity]) -> Option<Zeroizing<Vec<u8>>> {
    let mut file = Vec::new();
    // The armor reader wants no white space around, which YAML block scalars and people leave there.
    ArmoredReader::new(armored.trim().as_bytes()).take(MAX_ENTRY).read_to_end(&mut file).ok()?;
    let mut rest = file.as_slice();
    let decryptor = Decryptor::new_buffered(&mut rest).ok()?;
    let file_key = RefCell::new(None);
    let listening: Vec<_> = identities.iter().map(|identity| Listening { identity, file_key: &file_key }).collect();
    decryptor.decrypt(listening.iter().map(|identity| identity as _)).ok()?;
    let nonce = file.len() - rest.len();
    let nonce = &file[nonce.checked_sub(NONCE)?..nonce];
    payload(file_key.take()?.expose_secret(), nonce, rest)
}

/// Decrypts a payload of one chunk: what the data key or a share of it always is.
fn payload(file_key: &[u8], nonce: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let key = Zeroizing::new(hkdf(nonce, b"payload", file_key));
    let cipher = ChaCha20Poly1305::new((&*key).into());
    let (body, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG)?)?;
    let mut clear = Zeroizing::new(body.to_vec());
    // Chunk 0, and the last.
    let nonce = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    cipher.decrypt_in_place_detached(&nonce.into(), b"", &mut clear, tag.into()).ok()?;
    Some(clear)
}

/// An identity that keeps the file key it found, and does not let an entry that is damaged for it stop the others.
struct Listening<'a> {
    identity: &'a BoxedIdentity,
    file_key: &'a RefCell<Option<FileKey>>,
}

impl age::Identity for Listening<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        let found = self.identity.unwrap_stanza(stanza)?.ok()?;
        let copy = FileKey::init_with_mut(|copy| copy.copy_from_slice(found.expose_secret()));
        self.file_key.replace(Some(copy));
        Some(Ok(found))
    }
}
