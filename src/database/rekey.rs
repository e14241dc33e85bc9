//! A change of key, while the database is in use.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::call::{Deadline, Stage, within};
use super::fresh_key::FreshKey;
use super::handle::AsyncDatabase;
use crate::connector::{BackupProgress, Connector, RekeyReport, TellProgress};
use crate::error::{Phase, Result};
use crate::key::KeySource;
use crate::pool::SuspendOptions;

/// For how long a change of key waits for those who work; see [`AsyncDatabase::rekey_with`].
///
/// ```
/// use std::time::Duration;
/// use strongroom::database::RekeyOptions;
///
/// let options = RekeyOptions::new()
///     .limit(Duration::from_secs(30))
///     .stop_late()
///     .on_progress(|now| println!("{:?}: {} of {}", now.stage, now.done, now.total));
/// # let _ = options;
/// ```
#[must_use = "options do nothing until they are given to `rekey_with`"]
pub struct RekeyOptions {
    drain: SuspendOptions,
    limit: Duration,
    fresh: bool,
    progress: Option<TellProgress>,
}

impl Default for RekeyOptions {
    fn default() -> Self {
        Self { drain: SuspendOptions::new(), limit: SuspendOptions::LIMIT, fresh: false, progress: None }
    }
}

impl RekeyOptions {
    /// Waits for calls under way for [`SuspendOptions::LIMIT`].
    pub fn new() -> Self {
        Self::default()
    }

    /// How long calls under way, open transactions, streams and borrowed connections may take to end. Then nothing is
    /// changed. The change itself comes after that and is not bounded by it.
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Stops what still runs at the limit, as [`SuspendOptions::stop_late`] does.
    pub fn stop_late(self) -> Self {
        Self { drain: self.drain.stop_late(), ..self }
    }

    /// Has the source make the new key and keep it, as [`AsyncDatabase::rekey_fresh`] does.
    pub fn fresh(self) -> Self {
        Self { fresh: true, ..self }
    }

    /// Tells how far it is: pages that were written anew ([`BackupStage::Pages`]), then that the file is looked at with the
    /// new key ([`BackupStage::Check`]). Called on threads that may block, while all calls wait. If it panics, the change
    /// goes on, and it is called no more.
    ///
    /// [`BackupStage::Pages`]: crate::database::BackupStage::Pages
    /// [`BackupStage::Check`]: crate::database::BackupStage::Check
    pub fn on_progress(self, progress: impl FnMut(BackupProgress) + Send + 'static) -> Self {
        Self { progress: Some(Box::new(progress)), ..self }
    }
}

impl fmt::Debug for RekeyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { drain, limit, fresh, .. } = self;
        let mut shown = f.debug_struct("RekeyOptions");
        shown.field("drain", drain).field("limit", limit).field("fresh", fresh).finish_non_exhaustive()
    }
}

impl<C: Connector> AsyncDatabase<C> {
    /// Encrypts the database with the key from `source` from now on, while the handle and its clones stay in use.
    ///
    /// The source is asked first, while everybody works; of several that it offers, the first is taken. It is asked again when
    /// nobody else has the file open: nothing is changed if it does not offer that key any more. Before that, calls under
    /// way may end, for [`SuspendOptions::LIMIT`]; those that come meanwhile wait, and work afterwards. Every page is
    /// written anew in one transaction, under the same salt, and the file is opened with the new key and each page looked
    /// at. All further connections use that key. A file of 200 MB takes about two seconds, and as much room again
    /// beside it.
    ///
    /// Killed at any moment, the file opens with the old key or the new one. So whoever opens it while the key is changed
    /// should offer both, by [`CandidateKeySource`](crate::keys::CandidateKeySource); see [the page about
    /// it](crate::_docs::copies), also for the order in which secrets are stored.
    ///
    /// ```
    /// use strongroom::{AsyncDatabase, PassphraseKeySource};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("app.db");
    /// let db = AsyncDatabase::builder(&path).key(PassphraseKeySource::new("of last year")).open().await?;
    /// db.execute_script("CREATE TABLE t (a)").await?;
    /// let report = db.rekey(PassphraseKeySource::new("of this year")).await?;
    /// assert!(report.pages > 0);
    ///
    /// db.execute("INSERT INTO t VALUES (1)", ()).await?;
    /// db.close().await?;
    /// let db = AsyncDatabase::builder(&path).key(PassphraseKeySource::new("of this year")).open().await?;
    /// # db.close().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What the source answers, both times; [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) when that comes later than the
    /// [limit](Self::with_timeout) of the handle; [`StillLent`](crate::Reason::StillLent) when somebody kept a connection for too long, and
    /// who; [`ErrorKind::Busy`](crate::ErrorKind::Busy) when another process has the file open, or the database is
    /// suspended until somebody resumes; [`ErrorKind::Config`](crate::ErrorKind::Config) for a database that is not
    /// encrypted or in memory, and for a key that brings another salt;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for one that is only read, and for other engines;
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) when the disk is full or fails. The old key stays in use then, and
    /// everybody works on; where the new one is in use already, the message says so.
    ///
    /// # Cancel safety
    /// Dropped while it waits, it changes nothing. Once pages are written, that goes on to its end without the caller:
    /// calls wait for it, and use the key that opens the file.
    #[track_caller]
    pub fn rekey(&self, source: impl KeySource + 'static) -> impl Future<Output = Result<RekeyReport>> + Send {
        self.rekey_with(source, RekeyOptions::new())
    }

    /// [`rekey`](Self::rekey) with a key that `source` makes, and keeps in place of the one that it has:
    /// [`FileKeySource`](crate::FileKeySource) and [`SopsKeySource`](crate::SopsKeySource) can.
    ///
    /// The new key is stored first, beside the old one, and the source offers both. The old one goes away once the
    /// database was read with the new one. So whenever the process is killed, the database opens with this source. A
    /// change that was cut off, or failed, is taken up by the next call, with the key that was stored for it.
    ///
    /// ```
    /// use strongroom::{AsyncDatabase, FileKeySource};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("app.db");
    /// let key = FileKeySource::new(directory.path().join("app.key")).create_if_missing(true);
    /// let db = AsyncDatabase::builder(&path).key(key.clone()).open().await?;
    /// db.rekey_fresh(key.clone()).await?;
    /// db.close().await?;
    /// let db = AsyncDatabase::builder(&path).key(key).open().await?;
    /// # db.close().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`rekey`](Self::rekey); [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a source that cannot make
    /// a key, and [`ErrorKind::Key`](crate::ErrorKind::Key) for one that cannot store it. Transient
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) when another call or process was faster, and the source has a later key
    /// than the one that it made here; nothing was changed then. Where the source could not let the old key go, the message
    /// says that the database has the new one; both are offered then. Where it has lost the new one
    /// ([`WrongKey`](crate::Reason::WrongKey)), the advice says what to do before the handle is closed.
    ///
    /// # Cancel safety
    /// As [`rekey`](Self::rekey). The source then goes on to offer both keys.
    #[track_caller]
    pub fn rekey_fresh(&self, source: impl KeySource + 'static) -> impl Future<Output = Result<RekeyReport>> + Send {
        self.rekey_with(source, RekeyOptions::new().fresh())
    }

    /// [`rekey`](Self::rekey) with other limits.
    ///
    /// ```
    /// use std::time::Duration;
    /// use strongroom::database::RekeyOptions;
    /// use strongroom::{AsyncDatabase, EnvKeySource, Result};
    ///
    /// # async fn rotate(db: AsyncDatabase) -> Result<()> {
    /// let options = RekeyOptions::new().limit(Duration::from_secs(30)).stop_late();
    /// db.rekey_with(EnvKeySource::new("APP_DB_NEW_KEY"), options).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`rekey`](Self::rekey).
    ///
    /// # Cancel safety
    /// As [`rekey`](Self::rekey).
    #[track_caller]
    pub fn rekey_with(
        &self,
        source: impl KeySource + 'static,
        options: RekeyOptions,
    ) -> impl Future<Output = Result<RekeyReport>> + Send {
        let (location, source) = (Location::caller(), Arc::new(source));
        async move {
            let call = self.call(location);
            let key_source = source.describe();
            let fresh = options.fresh.then(|| FreshKey::of(source.clone()));
            let asked: Box<dyn KeySource> = match &fresh {
                Some(fresh) => Box::new(fresh.clone()),
                None => Box::new(source),
            };
            let limit = call.limit(|| Stage::Before("preparing the new key", Phase::Key));
            let change = within(limit, self.pool().prepare_rekey(asked, options.progress)).await?;
            let drain = options.drain.limit(call.deadline.map_or(options.limit, |end| end.left().min(options.limit)));
            let report = self.pool().rekey_at(change, drain, location).await?;
            if let Some(fresh) = fresh {
                let end = call.deadline.map(Deadline::or_grace);
                fresh.settle(end.map(|end| (end, Stage::After("letting the old key go", Phase::Key)))).await?;
            }
            let (database, RekeyReport { pages, duration: took, .. }) =
                (self.capabilities().namespace.as_deref(), report);
            tracing::info!(database, key_source, pages, ?took, "the database has another key");
            Ok(report)
        }
    }
}
