//! Copies that the builder makes without a pool: of files that nobody has open, or that are damaged.

use std::path::Path;

use super::connector::SqlCipherConnector;
use super::copies::{self, ReplaceOptions, SalvageOptions, SalvageReport};
use super::database::DatabaseBuilder;
use crate::clock;
use crate::connector::BackupReport;
use crate::error::Result;

impl DatabaseBuilder<SqlCipherConnector> {
    /// Puts a copy in the place of the database, which nobody may have open: the copy is opened and copied beside it,
    /// synced and looked at, and then takes its name. What was there stays until then, and is kept if
    /// [`ReplaceOptions::keep`] says so. The database has the key of this builder afterwards. Where there was none, and the
    /// copy has another key or none, a source that makes keys ([`KeySource::create`](crate::KeySource::create)) makes one.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    /// use strongroom::sqlcipher::ReplaceOptions;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let [path, copy, old] = ["app.db", "copy.db", "old.db"].map(|name| directory.path().join(name));
    /// # let db = AsyncDatabase::builder(&path).open().await?;
    /// # db.backup_to(&copy).await?;
    /// # db.close().await?;
    /// AsyncDatabase::builder(&path).restore_from(&copy, ReplaceOptions::new().keep(&old)).await?;
    /// let db = AsyncDatabase::builder(&path).open().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) when somebody has the database open; what keeps the copy from being
    /// opened; damage in it; a full disk. What was there is whole then. Only after
    /// [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) the new file is in its place, but the directory could not be
    /// synced: after a power failure either may stand there, and what was there with a log is kept under a name that the
    /// error tells.
    ///
    /// # Cancel safety
    /// Dropping the future stops it, and leaves what was there, unless the copy had taken its place already.
    pub async fn restore_from(self, copy: impl AsRef<Path> + Send, options: ReplaceOptions) -> Result<BackupReport> {
        clock::check()?;
        copies::restore(self.into_connector(), copy.as_ref(), options).await
    }

    /// Encrypts a file that is not, with the key of this builder: rows are copied into a new file beside it, compared, and
    /// that takes its name. Nobody may have the file open. It is whole until then, and is kept if
    /// [`ReplaceOptions::keep`] says so; what it held stays on the disk until something else is written there. A source that
    /// makes keys ([`KeySource::create`](crate::KeySource::create)) makes one, and refuses if it has one already.
    ///
    /// ```
    /// use strongroom::sqlcipher::ReplaceOptions;
    /// use strongroom::{AsyncDatabase, PassphraseKeySource};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("app.db");
    /// # AsyncDatabase::builder(&path).open().await?.close().await?;
    /// let key = || PassphraseKeySource::new("correct horse");
    /// let report = AsyncDatabase::builder(&path).key(key()).encrypt(ReplaceOptions::new()).await?;
    /// assert!(report.encrypted);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) without a key, and with settings of another format;
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) when somebody has the file open; [`Reason::KeyMissing`](crate::Reason::KeyMissing) when it is encrypted already; a full disk. The file is
    /// whole then. After [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) as with
    /// [`restore_from`](Self::restore_from).
    ///
    /// # Cancel safety
    /// Dropping the future stops it, and leaves the file as it was, unless that had been replaced already.
    pub async fn encrypt(self, options: ReplaceOptions) -> Result<BackupReport> {
        clock::check()?;
        copies::encrypt(self.into_connector(), options).await
    }

    /// The other way round: stores in plaintext what is encrypted with the key of this builder.
    ///
    /// ```
    /// use strongroom::sqlcipher::ReplaceOptions;
    /// use strongroom::{AsyncDatabase, PassphraseKeySource};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("app.db");
    /// # let key = || PassphraseKeySource::new("correct horse");
    /// # AsyncDatabase::builder(&path).key(key()).open().await?.close().await?;
    /// let report = AsyncDatabase::builder(&path).key(key()).decrypt(ReplaceOptions::new()).await?;
    /// assert!(!report.encrypted);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`encrypt`](Self::encrypt), and what keeps the file from being opened.
    ///
    /// # Cancel safety
    /// As [`encrypt`](Self::encrypt).
    pub async fn decrypt(self, options: ReplaceOptions) -> Result<BackupReport> {
        clock::check()?;
        copies::decrypt(self.into_connector(), options).await
    }

    /// Copies what can be read of a damaged file into a new one at `path`, encrypted under the same key unless
    /// [`SalvageOptions`] say otherwise. The damaged file is never written, and nobody should have it open. The new one is
    /// made beside its place, synced, looked at, and then given its name.
    ///
    /// Rows are read along the trees of their tables, and where a page in the middle of one is lost, from all pages that
    /// nothing leads to any more. Those of which nothing tells where they belong stand in a table `lost_and_found`. A file
    /// that is not encrypted has no seals: damage within a value is not noticed.
    ///
    /// ```
    /// use strongroom::sqlcipher::SalvageOptions;
    /// use strongroom::{AsyncDatabase, PassphraseKeySource};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let [path, new] = ["app.db", "new.db"].map(|name| directory.path().join(name));
    /// # let key = || PassphraseKeySource::new("correct horse");
    /// # let db = AsyncDatabase::builder(&path).key(key()).open().await?;
    /// # db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await?;
    /// # db.close().await?;
    /// let report = AsyncDatabase::builder(&path).key(key()).salvage_to(&new, SalvageOptions::new()).await?;
    /// println!("{} rows; {} pages are lost", report.copied(), report.lost_pages.len());
    /// assert!(report.is_complete());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Reason::WrongKey`](crate::Reason::WrongKey) when no page was written with the key, and other reasons of
    /// [`ErrorKind::Encryption`](crate::ErrorKind::Encryption) as when it is opened;
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when something stands at `path`;
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) when somebody writes the file meanwhile; a full disk. Nothing is left at
    /// `path` then, and what stood there is as before, but for
    /// [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown): the new file stands there, and its directory could not be
    /// synced.
    ///
    /// # Cancel safety
    /// Dropping the future stops it at the next step, and removes what it has made; a file that was done already stays.
    pub async fn salvage_to(self, path: impl AsRef<Path> + Send, options: SalvageOptions) -> Result<SalvageReport> {
        clock::check()?;
        copies::salvage(self.into_connector(), path.as_ref(), options).await
    }
}
