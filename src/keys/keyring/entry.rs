//! One entry of a store: a text under the name of a service and a user.

use keyring_core::{CredentialStore, Entry, Error as StoreError};
use zeroize::Zeroizing;

use super::store::refused;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::keys::buffer::{empty, without_newline};
use crate::keys::file::{decode_hex, hex};
use crate::secret::{Secret, SecretForm};

/// An entry, which need not exist.
pub(super) struct KeyringEntry {
    pub(super) name: String,
    entry: Entry,
    raw: bool,
}

impl KeyringEntry {
    pub(super) fn new(store: &CredentialStore, name: String, names: (&str, &str), raw: bool) -> Result<Self> {
        match store.build(names.0, names.1, None) {
            Ok(entry) => Ok(Self { name, entry, raw }),
            Err(error) => Err(refused(&name, error)),
        }
    }

    /// The secret.
    pub(super) fn read(&self) -> Result<Secret> {
        let text = self.entry.get_password().map_err(|error| refused(&self.name, error));
        self.secret(&Zeroizing::new(text?))
    }

    /// Writes a secret that stood in another entry of this source, or was made for one.
    pub(super) fn write(&self, text: &str) -> Result<()> {
        self.entry.set_password(text).map_err(|error| refused(&self.name, error))
    }

    /// Writes a secret in the form in which it is read.
    pub(super) fn write_secret(&self, secret: &Secret) -> Result<()> {
        let digits = (secret.form() != SecretForm::Passphrase).then(|| hex(secret.expose()));
        let text = digits.as_ref().map_or(secret.expose(), |digits| digits.as_slice());
        match std::str::from_utf8(text) {
            Ok(text) => self.write(text),
            Err(_) => Err(Error::new(ErrorKind::Key, format!("{} takes text only", self.name))),
        }
    }

    /// The secret and the text that it was read from, to be written elsewhere.
    pub(super) fn read_text(&self) -> Result<(Secret, Zeroizing<String>)> {
        let text = self.entry.get_password().map_err(|error| refused(&self.name, error));
        let text = Zeroizing::new(text?);
        Ok((self.secret(&text)?, text))
    }

    pub(super) fn remove(&self) -> Result<()> {
        match self.entry.delete_credential() {
            Ok(()) | Err(StoreError::NoEntry) => Ok(()),
            Err(error) => Err(refused(&self.name, error)),
        }
    }

    fn secret(&self, text: &str) -> Result<Secret> {
        let text = without_newline(text.as_bytes());
        if text.is_empty() {
            return Err(empty(&self.name));
        }
        if !self.raw {
            return Ok(Secret::new(text));
        }
        let mut key = Zeroizing::new([0; 32]);
        if decode_hex(text, &mut key) {
            return Ok(Secret::raw_key(*key));
        }
        let error = Error::new(ErrorKind::Key, format!("{} holds no 256-bit key", self.name));
        Err(error.because(Reason::Malformed).hint("store exactly 64 hex digits"))
    }
}
