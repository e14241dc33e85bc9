//! The contract of a source of keys.
//!
//! Floor 1. Implementations stand in [`keys`](crate::keys).

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secret;

/// Produces one secret: the key of a database, or the password of a server.
///
/// **For implementors.** [`resolve`](KeySource::resolve) is called when a connection needs the key: once per pool by
/// SQLCipher (which derives once and then forgets the passphrase), and again if the file has another key later; on every
/// connect by networked engines (passwords rotate). It may be called from several tasks at once and its future may be dropped at any await; it must not block
/// the thread (use `tokio::task::spawn_blocking`). Fail with [`ErrorKind::Key`](crate::ErrorKind::Key), and never put
/// the value, or part of it, into an error or a log.
///
/// A source that can also store secrets overrides [`create`](KeySource::create), or [`replace`](KeySource::replace) with
/// [`settle`](KeySource::settle). Its order is: a secret is stored before a database is encrypted under it, and no other
/// is removed before the database was read with it. So whenever the process is killed, the database opens with one of
/// the [`candidates`](KeySource::candidates). One source serves one database.
///
/// **For callers.** What comes back may be empty or unusable as a key; the engine refuses such keys by name.
///
/// ```
/// use strongroom::{KeySource, Result, Secret};
///
/// struct Keyring;
///
/// #[strongroom::keys::async_trait]
/// impl KeySource for Keyring {
///     async fn resolve(&self) -> Result<Secret> {
///         Ok(Secret::new("from the keyring"))
///     }
///     fn describe(&self) -> String {
///         "the desktop keyring".into()
///     }
/// }
/// ```
#[async_trait]
pub trait KeySource: Send + Sync {
    /// Fetches the secret.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) when there is no secret to be had; the message names the source and
    /// the reason, never a value.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the next call asks again.
    async fn resolve(&self) -> Result<Secret>;

    /// Names the source for people; safe to log, never the value.
    fn describe(&self) -> String;

    /// The secrets of which one may be the right one, the likeliest first. An engine that finds out which one opens its
    /// database tries them in this order; a new database gets the first. By default there is one, that of
    /// [`resolve`](KeySource::resolve).
    ///
    /// # Errors
    /// As [`resolve`](KeySource::resolve).
    ///
    /// # Cancel safety
    /// As [`resolve`](KeySource::resolve).
    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        Ok(vec![KeyCandidate { secret: self.resolve().await?, source: self.describe() }])
    }

    /// Makes and stores a secret for a database file that does not exist yet. `None`, by default: the source makes none,
    /// and the new database gets the first of its [`candidates`](KeySource::candidates).
    ///
    /// Engines call it only where the file is missing and may be made, or a file without a key is to get one
    /// (`encrypt` of the builder). What it returns is durable, and among the
    /// candidates from then on. Until it is settled, further calls return the same secret, from other processes too.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) when the secret cannot be stored, or when the source has a secret
    /// already: that belongs to another database.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no secret or one that the next call returns.
    async fn create(&self) -> Result<Option<Secret>> {
        Ok(None)
    }

    /// Makes and stores a secret that is to take the place of the present one. Both are among the
    /// [`candidates`](KeySource::candidates) from then on, the present one first, until the new one is settled; until
    /// then, further calls return the same new secret: by that, a change of key finds out whether another was faster. By default this is
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) when there is no secret that could be replaced, or the new one cannot be
    /// stored.
    ///
    /// # Cancel safety
    /// As [`create`](KeySource::create).
    async fn replace(&self) -> Result<Secret> {
        let message = format!("{} cannot make another secret", self.describe());
        let error = Error::new(ErrorKind::Unsupported, message);
        Err(error.hint("make one yourself, and give its source to rekey()"))
    }

    /// Keeps `secret` alone: it was made by [`create`](KeySource::create) or [`replace`](KeySource::replace), and opens
    /// the database. Does nothing where it was settled before.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) when that cannot be stored; both secrets stay then. With
    /// [`Reason::WrongKey`](crate::Reason::WrongKey) when the source has neither as the present nor as the next one what
    /// opens the database: it is stored as the next one then, if there is none.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the secret settled or not.
    async fn settle(&self, secret: &Secret) -> Result<()> {
        let _ = secret;
        Ok(())
    }

    /// Forgets what is remembered, so that the next answer is what there is then: before a key is changed or a file gets one, and
    /// after the secret that was given last was refused. Nothing that is stored goes. Does nothing by default, which is right for a source that looks anew each time.
    fn forget(&self) {}

    /// Whether the secret is always the same, so that there is no use in asking again, and an engine need not keep the
    /// source once it has the key. False by default.
    fn is_fixed(&self) -> bool {
        false
    }
}

/// A secret that may be the right one, and where it is from.
#[derive(Clone, Debug)]
pub struct KeyCandidate {
    /// The secret.
    pub secret: Secret,
    /// The name of its source, as [`KeySource::describe`] gives it.
    pub source: String,
}

/// A pointer to a source asks that.
macro_rules! asks_what_it_points_to {
    ($pointer:ident) => {
        #[async_trait]
        impl<K: KeySource + ?Sized> KeySource for $pointer<K> {
            async fn resolve(&self) -> Result<Secret> {
                (**self).resolve().await
            }

            fn describe(&self) -> String {
                (**self).describe()
            }

            async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
                (**self).candidates().await
            }

            async fn create(&self) -> Result<Option<Secret>> {
                (**self).create().await
            }

            async fn replace(&self) -> Result<Secret> {
                (**self).replace().await
            }

            async fn settle(&self, secret: &Secret) -> Result<()> {
                (**self).settle(secret).await
            }

            fn forget(&self) {
                (**self).forget();
            }

            fn is_fixed(&self) -> bool {
                (**self).is_fixed()
            }
        }
    };
}

asks_what_it_points_to!(Arc);
asks_what_it_points_to!(Box);

/// A secret at hand is its own source.
#[async_trait]
impl KeySource for Secret {
    async fn resolve(&self) -> Result<Self> {
        Ok(self.clone())
    }

    fn describe(&self) -> String {
        "a secret given by the caller".into()
    }

    fn is_fixed(&self) -> bool {
        true
    }
}
