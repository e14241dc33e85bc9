//! SSH private keys as age identities.

use age::Identity as _;
use age::secrecy::{ExposeSecret as _, SecretString};
use age::ssh::UnsupportedKey;
use age_core::format::Stanza as AgeStanza;

use crate::secret::Secret;

use super::age::{BoxedIdentity, FileKey, Identity, Refusal, Stanza};
use super::passphrase::usable;

/// Whether this build reads SSH keys itself.
pub(super) const NATIVE: bool = true;

struct Ssh(age::ssh::Identity);

impl Identity for Ssh {
    fn unwrap(&self, stanza: &Stanza) -> Result<FileKey, Refusal> {
        let Stanza { kind, args, body } = stanza;
        let stanza = AgeStanza { tag: kind.clone(), args: args.clone(), body: body.clone() };
        let answer = self.0.unwrap_stanza(&stanza).ok_or(Refusal::Foreign)?;
        answer.ok().and_then(|key| FileKey::new(key.expose_secret())).ok_or(Refusal::Unfit)
    }
}

/// Reads one SSH private key; `passphrase` opens it if it is protected.
pub(super) fn parse(text: &str, passphrase: Option<&Secret>) -> Result<BoxedIdentity, String> {
    // A slice is its own buffer; a `BufReader` would leave another copy.
    match age::ssh::Identity::from_buffer(text.as_bytes(), None) {
        Ok(identity @ age::ssh::Identity::Unencrypted(_)) => Ok(Box::new(Ssh(identity))),
        Ok(age::ssh::Identity::Encrypted(key)) => {
            let passphrase = SecretString::from(usable(passphrase)?);
            let key = key.decrypt(passphrase).map_err(|_| "its passphrase does not fit")?;
            Ok(Box::new(Ssh(age::ssh::Identity::Unencrypted(key))))
        }
        Ok(age::ssh::Identity::Unsupported(key)) => Err(unsupported(&key)),
        Err(_) => Err("it is not an SSH key of a kind that age knows".into()),
    }
}

fn unsupported(key: &UnsupportedKey) -> String {
    match key {
        UnsupportedKey::EncryptedPem => {
            "it is an SSH key in the old PEM form with a passphrase, convert it by `ssh-keygen -p -f FILE`".into()
        }
        UnsupportedKey::EncryptedSsh(cipher) => {
            format!(
                "the SSH key is encrypted by {cipher}, which age does not know, change it by `ssh-keygen -p -Z aes256-ctr`"
            )
        }
        UnsupportedKey::Hardware(kind) => {
            format!("the SSH key of type {kind} is in a security key, which age cannot use")
        }
        UnsupportedKey::Type(kind) => {
            format!("the SSH key is of type {kind}, and age knows ssh-ed25519 and ssh-rsa only")
        }
    }
}
