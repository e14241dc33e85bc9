//! Copies of a database, made while it is worked with.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use super::call::{Stage, within};
use super::handle::AsyncDatabase;
use super::observed::{self, observe, over};
use super::route;
use crate::clock;
use crate::connector::{
    AskedKeySource, Backup, BackupProgress, BackupReport, CheckDepth, Connection, Connector, CopyKey, EngineListener,
    Replace, Resource as _,
};
use crate::error::{Phase, Result};
use crate::key::KeySource;
use crate::observer::CallKind;

/// How a copy is made; see [`AsyncDatabase::backup_with`].
///
/// ```
/// use std::time::Duration;
/// use strongroom::PassphraseKeySource;
/// use strongroom::database::{BackupOptions, CheckDepth};
///
/// let options = BackupOptions::new()
///     .key(PassphraseKeySource::new("for the safe"))
///     .check(CheckDepth::Full)
///     .hold_log_at_most(Duration::from_secs(60))
///     .on_progress(|now| println!("{:?}: {} of {}", now.stage, now.done, now.total));
/// # let _ = options;
/// ```
#[must_use = "options do nothing until they are given to `backup_with`"]
pub struct BackupOptions {
    key: CopyKeySource,
    backup: Backup,
}

/// Where the key of a copy comes from.
enum CopyKeySource {
    Same,
    Plain,
    Source(Box<dyn KeySource>),
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self { key: CopyKeySource::Same, backup: Backup::new(PathBuf::new()) }
    }
}

impl BackupOptions {
    /// Under the same key, where no file is yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encrypts the copy with the key from `source`, which is asked once. The copy has a salt of its own and the format
    /// that the builder names; its header is encrypted.
    pub fn key(self, source: impl KeySource + 'static) -> Self {
        Self { key: CopyKeySource::Source(Box::new(source)), ..self }
    }

    /// Does not encrypt the copy: anybody with the file can read all of it.
    pub fn plaintext(self) -> Self {
        Self { key: CopyKeySource::Plain, ..self }
    }

    /// Whether the copy may take the place of a file that stands there, which nobody may have open then; false by
    /// default.
    pub fn replace(mut self, replace: bool) -> Self {
        self.backup.replace = if replace { Replace::File } else { Replace::Nothing };
        self
    }

    /// How thoroughly the copy is looked at before it gets its name. [`CheckDepth::Quick`], the default: it opens with its
    /// key, has the same schema, and each page carries its seal (encrypted), or holds together (`quick_check`).
    /// [`CheckDepth::Full`]: also `integrity_check`, and the rows of each table are counted in both.
    pub fn check(mut self, depth: CheckDepth) -> Self {
        self.backup.check = depth;
        self
    }

    /// How many pages are copied between two looks at whether the call was given up, and two reports of progress: 1 to
    /// 65,536; 512 by default.
    pub fn step_pages(mut self, pages: u32) -> Self {
        self.backup.pages = pages.clamp(1, 65_536);
        self
    }

    /// How long the copy may keep the write-ahead log from starting over; as long as it takes if not set. What others
    /// write meanwhile makes the log longer. After that, the call fails and leaves nothing behind.
    pub fn hold_log_at_most(mut self, limit: Duration) -> Self {
        self.backup.hold = Some(limit);
        self
    }

    /// Tells how far the copy is. Called on a thread that may block, between two steps.
    pub fn on_progress(mut self, progress: impl FnMut(BackupProgress) + Send + 'static) -> Self {
        self.backup.progress = Box::new(progress);
        self
    }

    /// What the engine is asked for.
    async fn resolved(self, target: PathBuf, listener: Option<EngineListener>) -> Result<Backup> {
        let key = match self.key {
            CopyKeySource::Same => CopyKey::Same,
            CopyKeySource::Plain => CopyKey::Plain,
            CopyKeySource::Source(source) => {
                let source = AskedKeySource::new(source, listener);
                // The copy gets the key that the source has now, not one that it remembers.
                source.forget();
                let secret = source.resolve().await;
                CopyKey::Other(secret.map_err(|error| error.about(source.describe()).during(Phase::Key))?)
            }
        };
        Ok(Backup { target, key, ..self.backup })
    }
}

impl fmt::Debug for BackupOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match &self.key {
            CopyKeySource::Same => "the same".to_owned(),
            CopyKeySource::Plain => "none".to_owned(),
            CopyKeySource::Source(source) => source.describe(),
        };
        f.debug_struct("BackupOptions").field("key", &key).field("backup", &self.backup).finish()
    }
}

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// Copies the database into a new file at `path`, while everybody works: as it is at one moment, under the same key.
    /// The copy is made beside its place, synced, looked at, and then given its name.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let (path, copy) = (directory.path().join("app.db"), directory.path().join("copy.db"));
    /// let db = AsyncDatabase::builder(&path).open().await?;
    /// db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await?;
    /// let report = db.backup_to(&copy).await?;
    /// println!("{} bytes in {:?}", report.bytes, report.duration);
    ///
    /// let restored = AsyncDatabase::builder(&copy).open().await?;
    /// assert_eq!(restored.fetch_value::<i64>("SELECT a FROM t", ()).await?, Some(1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when something stands at `path`;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where the engine has no such thing; a full disk, and damage
    /// that was met. Nothing is left at `path` then, and what stood there is as before. Only after
    /// [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) the copy stands there, whole, but its directory could not
    /// be synced, and it may not outlive a power failure.
    ///
    /// # Cancel safety
    /// Dropping the future stops it at the next step, and removes what it has made; a copy that was done already stays. A
    /// killed process leaves a file whose name goes on with `-copy-`; the next copy to the same path removes it.
    #[track_caller]
    pub fn backup_to(&self, path: impl AsRef<Path>) -> impl Future<Output = Result<BackupReport>> + Send {
        self.backup_with(path, BackupOptions::new())
    }

    /// [`backup_to`](Self::backup_to) as `options` say: under another key or none, in the place of a file, with progress.
    ///
    /// ```
    /// use strongroom::database::BackupOptions;
    /// use strongroom::{AsyncDatabase, PassphraseKeySource};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let (path, copy) = (directory.path().join("app.db"), directory.path().join("copy.db"));
    /// let db = AsyncDatabase::builder(&path).key(PassphraseKeySource::new("every day")).open().await?;
    /// let options = BackupOptions::new().key(PassphraseKeySource::new("for the safe"));
    /// let report = db.backup_with(&copy, options).await?;
    /// assert!(report.encrypted);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`backup_to`](Self::backup_to), and [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) after
    /// [`hold_log_at_most`](BackupOptions::hold_log_at_most).
    ///
    /// # Cancel safety
    /// As [`backup_to`](Self::backup_to).
    #[track_caller]
    pub fn backup_with(
        &self,
        path: impl AsRef<Path>,
        options: BackupOptions,
    ) -> impl Future<Output = Result<BackupReport>> + Send {
        // Absolute from here on: the process may change its directory.
        let (path, location) = (path.as_ref().to_owned(), Location::caller());
        let target = absolute(&path).unwrap_or(path);
        async move {
            let observing = observe(self.pool().observers(), CallKind::BackUp, None, location);
            let running = async {
                let call = self.call(location);
                clock::check()?;
                let limit = call.limit(|| Stage::Before("asking for the key of the copy", Phase::Key));
                let backup = within(limit, options.resolved(target, self.pool().observers().listener())).await?;
                let mut lent = call.lend(self.pool(), route::read_access(self.capabilities())).await?;
                observed::lent();
                lent.label("backup");
                let canceller = lent.canceller();
                within(call.limit(|| Stage::Write(canceller)), lent.back_up(backup)).await
            };
            over(observing, running).await
        }
    }
}
