//! X25519 identities and recipients.

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::error::{Reason, Result};
use crate::veiled::holds_a_key;

use crate::keys::sops::data_key::random;
use crate::keys::sops::fault::fault;

use super::header::{Stanza, decode, encode};
use super::identity::{Identity, Refusal};
use super::primitives::{FileKey, hkdf};

const KIND: &str = "X25519";
const INFO: &[u8] = b"age-encryption.org/v1/X25519";
const IDENTITY: Hrp = Hrp::parse_unchecked("age-secret-key-");
const RECIPIENT: Hrp = Hrp::parse_unchecked("age");

/// A private key, `AGE-SECRET-KEY-1...`.
pub(in crate::keys::sops) struct X25519 {
    secret: StaticSecret,
    public: PublicKey,
}

impl X25519 {
    pub(in crate::keys::sops) fn generate() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        random(&mut *bytes)?;
        Ok(Self::new(&bytes))
    }

    pub(in crate::keys::sops) fn parse(text: &str) -> Option<Self> {
        parse(text, IDENTITY).map(|bytes| Self::new(&bytes))
    }

    fn new(bytes: &[u8; 32]) -> Self {
        let secret = StaticSecret::from(*bytes);
        let public = PublicKey::from(&secret);
        Self { secret, public }
    }

    /// The identity as text.
    pub(in crate::keys::sops) fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(128));
        // Fails only for what is longer than the checksum covers.
        let _ = bech32::encode_upper_to_fmt::<Bech32, _>(&mut *text, IDENTITY, self.secret.as_bytes());
        text
    }

    /// The public key as text, `age1...`.
    pub(in crate::keys::sops) fn recipient(&self) -> String {
        let mut text = String::new();
        let _ = bech32::encode_lower_to_fmt::<Bech32, _>(&mut text, RECIPIENT, self.public.as_bytes());
        text
    }
}

impl Identity for X25519 {
    fn unwrap(&self, stanza: &Stanza) -> Result<FileKey, Refusal> {
        if stanza.kind != KIND {
            return Err(Refusal::Foreign);
        }
        let [share] = stanza.args.as_slice() else { return Err(Refusal::Header) };
        let share: [u8; 32] =
            decode(share.as_bytes()).and_then(|share| share.try_into().ok()).ok_or(Refusal::Header)?;
        let key = agree(&self.secret, &PublicKey::from(share), [share, self.public.to_bytes()]);
        let key = key.filter(|_| stanza.body.len() == 32).ok_or(Refusal::Header)?;
        FileKey::open(&key, &stanza.body).ok_or(Refusal::Unfit)
    }
}

/// Encrypts `file_key` to the owner of `recipient`; `None` if that is no recipient.
pub(super) fn wrap(file_key: &FileKey, recipient: &str) -> Result<Stanza> {
    let unusable = || {
        if holds_a_key(recipient) {
            let error = fault(Reason::Malformed, "what is given as an age recipient is the private key itself");
            return error.hint("give its public key, `age1...`");
        }
        fault(Reason::Malformed, format!("`{recipient}` is not an age recipient (`age1...`)"))
    };
    let theirs = parse(recipient, RECIPIENT).ok_or_else(unusable)?;
    let ours = X25519::generate()?;
    let key = agree(&ours.secret, &PublicKey::from(*theirs), [ours.public.to_bytes(), *theirs]);
    let body = key.and_then(|key| file_key.seal(&key)).ok_or_else(unusable)?;
    Ok(Stanza { kind: KIND.into(), args: vec![encode(ours.public.as_bytes())], body })
}

/// The key that both sides find; `None` where a point of low order would make it known to everyone.
fn agree(secret: &StaticSecret, theirs: &PublicKey, public: [[u8; 32]; 2]) -> Option<Zeroizing<[u8; 32]>> {
    let shared = secret.diffie_hellman(theirs);
    shared.was_contributory().then(|| hkdf(public.as_flattened(), INFO, shared.as_bytes()))
}

/// The 32 bytes in `text`, which must begin with the name of `kind`.
fn parse(text: &str, kind: Hrp) -> Option<Zeroizing<[u8; 32]>> {
    let text = CheckedHrpstring::new::<Bech32>(text).ok().filter(|text| text.hrp() == kind)?;
    text.validate_segwit_padding().ok()?;
    let mut bytes = Zeroizing::new([0; 32]);
    let (mut found, mut length) = (text.byte_iter(), 0);
    for (place, byte) in bytes.iter_mut().zip(&mut found) {
        *place = byte;
        length += 1;
    }
    (length == 32 && found.next().is_none()).then_some(bytes)
}
