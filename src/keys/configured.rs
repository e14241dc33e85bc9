//! The key source that a configuration asks for.

use super::buffer::empty;
use super::env::EnvKeySource;
use super::passphrase::PassphraseKeySource;
use super::sops_file;
use crate::config::{CipherConfig, DatabaseConfig, KeyPlace};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::key::KeySource;
use crate::secret::Secret;

impl DatabaseConfig {
    /// The key source of the section `cipher`; `None` when it is not `enabled`. Nothing is read yet.
    ///
    /// A passphrase from the caller wins over whatever `key_source` says.
    ///
    /// ```
    /// use strongroom::{DatabaseConfig, KeySource, Secret};
    ///
    /// let mut config = DatabaseConfig::default();
    /// assert!(config.key_source(None)?.is_none());
    ///
    /// config.cipher.enabled = true;
    /// let source = config.key_source(None)?.unwrap();
    /// assert_eq!(source.describe(), "environment variable STRONGROOM_DB_KEY");
    /// let source = config.key_source(Some(Secret::new("typed")))?.unwrap();
    /// assert_eq!(source.describe(), "a secret given by the caller");
    /// # Ok::<(), strongroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// - [`ErrorKind::Key`] when encryption is enabled and no place of the key is given, or the passphrase is empty.
    /// - [`ErrorKind::Config`] when there is a passphrase, but encryption is not enabled: what was meant to be secret
    ///   would be stored as plaintext; and when there is a path of a SOPS file, but the key is to come from elsewhere.
    /// - [`ErrorKind::Unsupported`] for a SOPS file without the feature `sops`.
    pub fn key_source(&self, passphrase: Option<Secret>) -> Result<Option<Box<dyn KeySource>>> {
        let CipherConfig { enabled, key_source, key_env, sops_path, sops_key, origin } = &self.cipher;
        if !enabled {
            let unused = passphrase.map(|_| {
                Error::new(ErrorKind::Config, "a passphrase was given, but db.cipher.enabled is false")
                    .hint("set it to true, or give no passphrase")
            });
            return unused.map_or(Ok(None), Err);
        }
        if let Some(passphrase) = passphrase {
            if passphrase.is_empty() {
                return Err(empty("the passphrase"));
            }
            return Ok(Some(Box::new(PassphraseKeySource::new(passphrase))));
        }
        match (key_source, sops_path) {
            (KeyPlace::Sops, Some(path)) if !path.as_os_str().is_empty() => {
                sops_file::source(&origin.0, path, sops_key).map(Some)
            }
            (KeyPlace::Env | KeyPlace::Passphrase, Some(path)) if !path.as_os_str().is_empty() => {
                let error = Error::new(ErrorKind::Config, "db.cipher.sops_path is set, but key_source is not sops");
                Err(error.hint("set db.cipher.key_source to sops, or leave the path out"))
            }
            (KeyPlace::Env, _) => Ok(Some(Box::new(EnvKeySource::new(key_env)))),
            (KeyPlace::Sops, _) => {
                let error = missing("db.cipher.key_source is sops, but db.cipher.sops_path is not set");
                Err(error.hint("set it to the path of the encrypted file"))
            }
            (KeyPlace::Passphrase, _) => {
                let error = missing("db.cipher.key_source is passphrase, but the program gave none");
                Err(error.hint("the passphrase never stands in the configuration; hand it over when opening"))
            }
        }
    }
}

fn missing(message: &'static str) -> Error {
    Error::new(ErrorKind::Key, message).because(Reason::Missing)
}
