//! Whole files: opened, and written.

use zeroize::Zeroizing;

use crate::error::{Reason, Result};

use crate::keys::sops::data_key::random;
use crate::keys::sops::fault::fault;

use super::header::{Header, Stanza};
use super::identity::{BoxedIdentity, Identity, Refusal};
use super::passphrase::{self, MAX_WORK, Passphrase};
use super::primitives::{FileKey, TAG, hkdf, open as open_chunk, seal};
use super::{armor, x25519};

/// Far more than an age file of 33 bytes with a few recipients needs. A chunk has 64 KiB, so there is one at most.
const MAX_FILE: usize = 64 << 10;
const NONCE: usize = 16;
/// Chunk 0, and the last.
const ONLY_CHUNK: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Opens a file, armored or not, with the first identity that fits; `None` if none does, or the file is damaged.
pub(in crate::keys::sops) fn unwrap(file: &[u8], identities: &[BoxedIdentity]) -> Option<Zeroizing<Vec<u8>>> {
    let mut identities = identities.iter().map(AsRef::as_ref);
    open(file, &mut identities).ok()
}

/// Opens an identity file that is protected by a passphrase; or says why not.
pub(in crate::keys::sops) fn unprotect(file: &[u8], passphrase: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let passphrase = Passphrase(passphrase);
    open(file, &mut std::iter::once(&passphrase as _)).map_err(|refusal| match refusal {
        Refusal::Work(work) => {
            format!("it asks for scrypt with a work factor of {work}, and {MAX_WORK} is the most that is done")
        }
        Refusal::Memory(work) => {
            format!("it asks for scrypt with a work factor of {work}, for which the system does not give the memory")
        }
        Refusal::Unfit => "its passphrase does not fit".into(),
        Refusal::TooLarge => format!("it is larger than {MAX_FILE} bytes"),
        Refusal::Foreign => "it is damaged, or encrypted to other keys than a passphrase".into(),
        Refusal::Payload | Refusal::Mac | Refusal::Header | Refusal::Armor => "it is damaged".into(),
    })
}

pub(super) fn open(
    file: &[u8],
    identities: &mut dyn Iterator<Item = &'_ dyn Identity>,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let bytes;
    let file = if file.trim_ascii_start().starts_with(b"-----BEGIN") {
        // A quarter of the armor is no data, and lines have ends.
        if file.len() > MAX_FILE * 3 / 2 {
            return Err(Refusal::TooLarge);
        }
        bytes = armor::decode(file).ok_or(Refusal::Armor)?;
        &bytes
    } else {
        file
    };
    if file.len() > MAX_FILE {
        return Err(Refusal::TooLarge);
    }
    let (header, payload) = Header::parse(file).ok_or(Refusal::Header)?;
    // Who holds one of several keys of a file could otherwise learn about its passphrase.
    if header.stanzas.len() > 1 && header.stanzas.iter().any(|stanza| stanza.kind == passphrase::KIND) {
        return Err(Refusal::Header);
    }
    let file_key = file_key(&header.stanzas, identities)?;
    if !header.is_authentic(&file_key) {
        return Err(Refusal::Mac);
    }
    let (nonce, sealed) = payload.split_at_checked(NONCE).ok_or(Refusal::Header)?;
    open_chunk(&payload_key(&file_key, nonce), &ONLY_CHUNK, sealed).ok_or(Refusal::Payload)
}

/// What the first stanza that fits an identity holds. One that is damaged does not stop the others.
fn file_key(stanzas: &[Stanza], identities: &mut dyn Iterator<Item = &'_ dyn Identity>) -> Result<FileKey, Refusal> {
    let mut worst = Refusal::Foreign;
    for identity in identities {
        for stanza in stanzas {
            match identity.unwrap(stanza) {
                Ok(file_key) => return Ok(file_key),
                Err(refusal) => worst = worst.max(refusal),
            }
        }
    }
    Err(worst)
}

/// Encrypts `clear`, at most a few bytes, to one recipient, as an armored file.
pub(in crate::keys::sops) fn wrap(clear: &[u8], recipient: &str) -> Result<String> {
    let file_key = FileKey::generate()?;
    let mut file = Header::write(&x25519::wrap(&file_key, recipient)?, &file_key);
    let mut nonce = [0; NONCE];
    random(&mut nonce)?;
    file.extend_from_slice(&nonce);
    let sealed = seal(&payload_key(&file_key, &nonce), &ONLY_CHUNK, clear);
    let sealed = sealed.filter(|_| clear.len() <= MAX_FILE - TAG);
    file.extend_from_slice(&sealed.ok_or_else(|| fault(Reason::TooLarge, "the data key is too long for age"))?);
    Ok(armor::encode(&file))
}

fn payload_key(file_key: &FileKey, nonce: &[u8]) -> Zeroizing<[u8; 32]> {
    hkdf(nonce, b"payload", file_key.bytes())
}
