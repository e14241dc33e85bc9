//! What takes the place of a database that nobody has open: a copy of it, or itself under another key.

use std::fmt;
use std::path::{Path, PathBuf, absolute};

use super::draft::refuse_occupied;
use crate::connector::{
    Access, Backup, BackupProgress, BackupReport, CheckDepth, Connection as _, Connector as _, CopyKey, Replace,
    Resource as _,
};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeySource;
use crate::sqlcipher::connector::SqlCipherConnector;
use crate::sqlcipher::format::Format;
use crate::sqlcipher::keys::{self, FirstKey, OfferedKeys};
use crate::sqlcipher::running::job::on_thread;

/// How a file takes the place of a database; see
/// [`restore_from`](crate::DatabaseBuilder::restore_from), [`encrypt`](crate::DatabaseBuilder::encrypt) and
/// [`decrypt`](crate::DatabaseBuilder::decrypt).
///
/// ```
/// use strongroom::database::CheckDepth;
/// use strongroom::sqlcipher::ReplaceOptions;
///
/// let options = ReplaceOptions::new()
///     .keep("app.db.before")
///     .check(CheckDepth::Full)
///     .on_progress(|now| println!("{:?}: {} of {}", now.stage, now.done, now.total));
/// # let _ = options;
/// ```
#[must_use = "options do nothing until they are given to a call"]
pub struct ReplaceOptions {
    copy: Copy,
    keep: Option<PathBuf>,
    check: CheckDepth,
    progress: Box<dyn FnMut(BackupProgress) + Send>,
}

/// What a copy that is restored is encrypted with.
enum Copy {
    AsTheDatabase,
    Plain,
    With(Box<dyn KeySource>),
}

impl Default for ReplaceOptions {
    fn default() -> Self {
        let (copy, check) = (Copy::AsTheDatabase, CheckDepth::Quick);
        Self { copy, keep: None, check, progress: Box::new(|_| {}) }
    }
}

impl ReplaceOptions {
    /// What was there is not kept.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps what was there under this name, on the same file system, with its log if it has one. No file may have the
    /// name.
    pub fn keep(self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        Self { keep: Some(absolute(path).unwrap_or_else(|_| path.to_owned())), ..self }
    }

    /// How thoroughly the new file is looked at before it takes the place, as in
    /// [`BackupOptions::check`](crate::database::BackupOptions::check).
    pub fn check(self, depth: CheckDepth) -> Self {
        Self { check: depth, ..self }
    }

    /// The key of a copy that is restored, if it is not that of the builder.
    pub fn copy_key(self, source: impl KeySource + 'static) -> Self {
        Self { copy: Copy::With(Box::new(source)), ..self }
    }

    /// A copy that is restored is not encrypted, though the builder has a key.
    pub fn copy_plaintext(self) -> Self {
        Self { copy: Copy::Plain, ..self }
    }

    /// Tells how far it is. Called on a thread that may block, between two steps.
    pub fn on_progress(self, progress: impl FnMut(BackupProgress) + Send + 'static) -> Self {
        Self { progress: Box::new(progress), ..self }
    }

    fn backup(self, target: &Path, key: CopyKey, replace: impl FnOnce(Option<PathBuf>) -> Replace) -> Backup {
        let Self { keep, check, progress, .. } = self;
        Backup { key, replace: replace(keep), check, progress, ..Backup::new(target) }
    }
}

impl fmt::Debug for ReplaceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplaceOptions").field("keep", &self.keep).field("check", &self.check).finish_non_exhaustive()
    }
}

pub(in super::super) async fn restore(
    database: SqlCipherConnector,
    copy: &Path,
    mut options: ReplaceOptions,
) -> Result<BackupReport> {
    let copy = absolute(copy).unwrap_or_else(|_| copy.to_owned());
    let target = file_of(&database, "restored")?;
    let copied = std::mem::replace(&mut options.copy, Copy::AsTheDatabase);
    let opens = match &copied {
        Copy::AsTheDatabase => database.offered().await?,
        Copy::Plain => None,
        Copy::With(source) => Some(OfferedKeys::of(&**source).await?),
    };
    // Before a key is made: where the copy does not open, none is needed.
    let mut reads = database.like(&copy, opens.clone()).read_only().connect(Access::Read).await?;
    let is_missing = keys::is_missing(&database.location()?, true).await?;
    let (mut present, mut made) = (None, None);
    let form = match (copied, database.source().await) {
        (Copy::AsTheDatabase, _) => {
            present = opens;
            CopyKey::Same
        }
        (_, Some(source)) if is_missing => {
            let key = made.insert(FirstKey::of(source).await?);
            CopyKey::Other(key.secret.clone())
        }
        (_, Some(source)) => CopyKey::Other(present.insert(OfferedKeys::of(&*source).await?).resolve().await?),
        (_, None) => CopyKey::Plain,
    };
    fold(&database, &target, present).await?;
    let report = reads.back_up(options.backup(&target, form, Replace::Database)).await?;
    if let Some(key) = made {
        key.settle().await;
    }
    Ok(report)
}

/// Folds the log of what is to be replaced into its file, so that it is whole without. What cannot be opened is kept as it
/// stands.
async fn fold(database: &SqlCipherConnector, target: &Path, keys: Option<OfferedKeys>) -> Result<()> {
    let mut log = target.as_os_str().to_owned();
    log.push("-wal");
    if !Path::new(&log).metadata().is_ok_and(|log| log.len() > 0) {
        return Ok(());
    }
    let vacant = target.to_owned();
    on_thread(move || refuse_occupied(&vacant)).await??;
    match database.like(target, keys).connect(Access::Write).await {
        Ok(connection) => connection.close().await,
        Err(error) => {
            tracing::warn!(%error, "what is to be replaced cannot be opened, and is kept with its log as it stands");
            Ok(())
        }
    }
}

pub(in super::super) async fn encrypt(database: SqlCipherConnector, options: ReplaceOptions) -> Result<BackupReport> {
    let target = file_of(&database, "encrypted")?;
    if database.format() != Format::default() {
        let error = Error::new(ErrorKind::Config, "encrypt() writes the current format with its usual settings");
        return Err(error.hint("leave the settings of the cipher away"));
    }
    let Some(source) = database.source().await else {
        return Err(Error::new(ErrorKind::Config, "encrypt() needs a key").hint("give one with .key()"));
    };
    // Before a key is made: one that is encrypted already needs none.
    database.like(&target, None).read_only().connect(Access::Read).await?.close().await?;
    let key = FirstKey::of(source).await?;
    let mut original = database.like(&target, None).exclusive().connect(Access::Write).await?;
    let form = CopyKey::Other(key.secret.clone());
    let report = original.back_up(options.backup(&target, form, Replace::Original)).await?;
    key.settle().await;
    Ok(report)
}

pub(in super::super) async fn decrypt(database: SqlCipherConnector, options: ReplaceOptions) -> Result<BackupReport> {
    let target = file_of(&database, "decrypted")?;
    let Some(keys) = database.offered().await? else {
        return Err(Error::new(ErrorKind::Config, "decrypt() needs the key of the file").hint("give it with .key()"));
    };
    let mut source = database.like(&target, Some(keys)).exclusive().connect(Access::Write).await?;
    source.back_up(options.backup(&target, CopyKey::Plain, Replace::Original)).await
}

fn file_of(database: &SqlCipherConnector, what: &str) -> Result<PathBuf> {
    database.file().ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("a database in memory cannot be {what}")).hint("give the path of a file")
    })
}
