//! Files that are encrypted by a passphrase.

use zeroize::Zeroizing;

use crate::crypto::scrypt;

use super::header::{Stanza, decode};
use super::identity::{Identity, Refusal};
use super::primitives::FileKey;

pub(super) const KIND: &str = "scrypt";
const LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
const SALT: usize = 16;

/// The most work that a protected identity may ask for: N = 2^22, the bound of the `age` program. Fuzzing has neither
/// the time nor the memory for that.
pub(super) const MAX_WORK: u8 = if cfg!(fuzzing) { 10 } else { 22 };

pub(super) struct Passphrase<'a>(pub(super) &'a str);

impl Identity for Passphrase<'_> {
    fn unwrap(&self, stanza: &Stanza) -> Result<FileKey, Refusal> {
        if stanza.kind != KIND {
            return Err(Refusal::Foreign);
        }
        let [salt, work] = stanza.args.as_slice() else { return Err(Refusal::Header) };
        let salt = decode(salt.as_bytes()).filter(|salt| salt.len() == SALT).ok_or(Refusal::Header)?;
        let is_number = work.bytes().all(|byte| byte.is_ascii_digit()) && !work.starts_with('0');
        let work: u8 = work.parse().ok().filter(|_| is_number).ok_or(Refusal::Header)?;
        if work > MAX_WORK {
            return Err(Refusal::Work(work));
        }
        if stanza.body.len() != 32 {
            return Err(Refusal::Header);
        }
        let mut key = Zeroizing::new([0; 32]);
        let salt = [LABEL, &salt].concat();
        if !scrypt::derive(self.0.as_bytes(), &salt, work, &mut key) {
            return Err(Refusal::Memory(work));
        }
        FileKey::open(&key, &stanza.body).ok_or(Refusal::Unfit)
    }
}
