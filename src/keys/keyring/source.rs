//! The source over an entry of the system's store.

use async_trait::async_trait;

use super::entry::KeyringEntry;
use super::life::{NEXT, Pair};
use super::store::KeyringStore;
use crate::clock;
use crate::errand;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::key::{KeyCandidate, KeySource};
use crate::secret::Secret;
use crate::veiled::Veiled;

/// Reads an entry in the store of the system, anew at each call: Secret Service (gnome-keyring, `KWallet`, `KeePassXC`) on
/// Linux and BSD desktops, the login keychain on macOS, the Credential Manager on Windows, or the [kernel](Self::kernel)
/// of Linux.
///
/// - Entries are text, under the name of a service and a user. On Linux these are the attributes `service` and `username`:
///   `secret-tool store --label=shop service com.example.shop username database` stores one.
/// - One newline at the end is not part of the secret.
/// - A keyring that is locked is asked to unlock, which may show a prompt. Dropping the future leaves that open.
///
/// The entry can also be made, and its secret replaced: [`create_if_missing`](Self::create_if_missing),
/// [`rekey_fresh`](crate::AsyncDatabase::rekey_fresh). A new secret is 64 random hex digits. It first stands in a second
/// entry, whose user goes on with `.next`, and takes the place of the other once the database was read with it. While both
/// are there, both are offered. Processes of one user that make a secret at the same time agree on one, if they have the
/// same temporary directory: there a lock keeps them apart, as the stores cannot.
///
/// This crate wipes what it reads. The crates that speak to the stores do not: a copy can stay in freed memory until
/// something else is stored there.
///
/// ```no_run
/// use strongroom::AsyncDatabase;
/// use strongroom::keys::KeyringKeySource;
///
/// # async fn example() -> strongroom::Result<()> {
/// let key = KeyringKeySource::new("com.example.shop", "database").raw_key().create_if_missing(true);
/// let db = AsyncDatabase::builder("shop.db").key(key.clone()).open().await?;
///
/// // At any time later:
/// db.rekey_fresh(key).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct KeyringKeySource {
    service: Veiled<String>,
    user: Veiled<String>,
    store: KeyringStore,
    raw: bool,
    creates: bool,
}

impl KeyringKeySource {
    /// Reads a passphrase from the entry of `user` for `service`. The service is best a name that no other program has.
    pub fn new(service: impl Into<String>, user: impl Into<String>) -> Self {
        let (service, user) = (Veiled(service.into()), Veiled(user.into()));
        Self { service, user, store: KeyringStore::System, raw: false, creates: false }
    }

    /// Looks in the keyrings of the Linux kernel instead (`keyctl padd user keyring:database@com.example.shop @s`).
    ///
    /// **They forget**: at the latest with the next start of the system, and three days after their last use, unless the
    /// system is set otherwise. They suit a key that somebody brings after each start, and databases that need not last.
    #[must_use]
    pub fn kernel(self) -> Self {
        Self { store: KeyringStore::Kernel, ..self }
    }

    /// Takes the text as a 256-bit key instead of a passphrase: exactly 64 hex digits (`openssl rand -hex 32`).
    #[must_use]
    pub fn raw_key(self) -> Self {
        Self { raw: true, ..self }
    }

    /// Whether a new database gets a new secret, which is stored; false by default, and a missing entry is an error.
    ///
    /// Where the entry exists and the database does not, opening fails: the secret belongs to another database. A database
    /// that exists never gets a new secret. No entry is written over.
    #[must_use]
    pub fn create_if_missing(self, create: bool) -> Self {
        Self { creates: create, ..self }
    }

    /// An entry as errors name it.
    fn name(&self, user: &str) -> String {
        format!("{} {} of {}", self.store.noun(), Veiled(user), self.service)
    }

    fn pair(&self) -> Result<Pair> {
        let (service, user) = (&*self.service.0, &*self.user.0);
        if service.is_empty() || user.is_empty() {
            let error = Error::new(ErrorKind::Key, "a keyring entry without a service or a user");
            return Err(error.because(Reason::Malformed).hint("name both"));
        }
        let next = format!("{user}{NEXT}");
        let name = self.name(user);
        let store = self.store.open().map_err(|error| self.store.unreachable(&name, error))?;
        let entry = |name, user| KeyringEntry::new(&*store, name, (service, user), self.raw);
        Ok(Pair { present: entry(name, user)?, next: entry(self.name(&next), &next)? })
    }

    /// Opens the store and does `work` on a thread that may block.
    async fn with<T: Send + 'static>(&self, work: impl FnOnce(&Pair) -> Result<T> + Send + 'static) -> Result<T> {
        let this = self.clone();
        clock::present()?;
        let done = errand::send(move || this.pair().and_then(|pair| work(&pair))).await;
        done.unwrap_or_else(|_| {
            let error = Error::new(ErrorKind::Key, format!("{}: the store's library panicked", self.describe()));
            Err(error.because(Reason::Panicked))
        })
    }
}

/// Fails with [`Reason::Missing`] (no entry), [`Reason::Locked`], [`Reason::Empty`], [`Reason::Malformed`] (no text, no raw
/// key, several entries of the same name), [`Reason::ProgramMissing`] (no store) or [`Reason::ProgramFailed`].
#[async_trait]
impl KeySource for KeyringKeySource {
    async fn resolve(&self) -> Result<Secret> {
        self.with(|pair| pair.offered().map(|mut found| found.swap_remove(0).secret)).await
    }

    fn describe(&self) -> String {
        self.name(&self.user.0)
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        self.with(Pair::offered).await
    }

    async fn create(&self) -> Result<Option<Secret>> {
        if self.creates { self.with(Pair::first).await.map(Some) } else { Ok(None) }
    }

    async fn replace(&self) -> Result<Secret> {
        self.with(Pair::next).await
    }

    async fn settle(&self, secret: &Secret) -> Result<()> {
        let secret = secret.clone();
        self.with(move |pair| pair.keep(&secret)).await
    }
}
