//! Copies of a database: what an engine is asked for, and what came of it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::check::CheckDepth;
use crate::secret::Secret;

/// What a copy is encrypted with.
#[derive(Debug)]
#[non_exhaustive]
pub enum CopyKey {
    /// What the original is encrypted with; nothing, if it is not.
    Same,
    /// Nothing.
    Plain,
    /// Another key.
    Other(Secret),
}

/// What a copy may take the place of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replace {
    /// Nothing: no file may stand there.
    #[default]
    Nothing,
    /// A file without a log, such as an older copy.
    File,
    /// A database with its log, which nobody may have open. It is kept under this name, if there is one.
    Database(Option<PathBuf>),
    /// The original itself, which this connection must have for itself. It is kept under this name, if there is one.
    Original(Option<PathBuf>),
}

/// What [`Connection::back_up`](crate::Connection::back_up) is asked to do.
#[non_exhaustive]
pub struct Backup {
    /// Where the copy is to stand; absolute.
    pub target: PathBuf,
    /// What it is encrypted with.
    pub key: CopyKey,
    /// What it may take the place of.
    pub replace: Replace,
    /// How thoroughly it is looked at.
    pub check: CheckDepth,
    /// How many pages are copied between two looks at whether to stop.
    pub pages: u32,
    /// How long the log may be kept from starting over.
    pub hold: Option<Duration>,
    /// Is told how far it is.
    pub progress: TellProgress,
}

impl Backup {
    /// A copy under the same key, where no file is yet.
    pub fn new(target: impl Into<PathBuf>) -> Self {
        Self {
            target: target.into(),
            key: CopyKey::Same,
            replace: Replace::Nothing,
            check: CheckDepth::Quick,
            pages: 512,
            hold: None,
            progress: Box::new(|_| {}),
        }
    }
}

/// Is told how far a copy, or a change of key, is.
pub type TellProgress = Box<dyn FnMut(BackupProgress) + Send>;

/// How far a copy, or a change of key, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupProgress {
    /// What is being done.
    pub stage: BackupStage,
    /// How many pages, or rows, are done.
    pub done: u64,
    /// How many there are.
    pub total: u64,
}

/// What is being done for a copy, or for a change of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackupStage {
    /// Pages are copied, as they are, and the log cannot start over until they are; or all of them are written anew, under
    /// another key.
    Pages,
    /// Rows are copied, as the copy is encrypted and the original is not, or the other way round. The log cannot start
    /// over until they are.
    Rows,
    /// The copy is synced and looked at. Whoever writes is held up by nothing any more.
    Check,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Pages of the copy.
    pub pages: u64,
    /// Bytes of the copy.
    pub bytes: u64,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Tables, counted when the copy was looked at.
    pub tables: u64,
    /// How long the log could not start over.
    pub held: Duration,
    /// How long all of it took.
    pub duration: Duration,
}

impl BackupProgress {
    /// `done` of `total` pages or rows, in `stage`: what an engine tells of a copy.
    pub fn new(stage: BackupStage, done: u64, total: u64) -> Self {
        Self { stage, done, total }
    }
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup")
            .field("target", &self.target)
            .field("key", &self.key)
            .field("replace", &self.replace)
            .field("check", &self.check)
            .field("pages", &self.pages)
            .field("hold", &self.hold)
            .finish_non_exhaustive()
    }
}
