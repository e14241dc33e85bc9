//! Copying page by page: the copy is what the original is, free pages included.
//!
//! Both must be encrypted, or neither, and have pages of one size: SQLCipher crashes otherwise.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::watcher::Watcher;
use crate::connector::BackupStage;
use crate::error::Result;
use crate::sqlcipher::errors::classify;

/// How long a lock of somebody else is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Copies what `source` sees in its open transaction, so that no commit of others has it begin anew.
pub(super) fn copy(source: &Connection, target: &mut Connection, pages: u32, look: &mut Watcher<'_>) -> Result<()> {
    let pages = i32::try_from(pages).unwrap_or(i32::MAX);
    let backup = Backup::new(source, target).map_err(classify)?;
    let mut since = Instant::now();
    loop {
        let step = backup.step(pages).map_err(classify)?;
        match step {
            StepResult::Busy | StepResult::Locked if since.elapsed() > PATIENCE => {
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                return Err(classify(rusqlite::Error::SqliteFailure(code, None)));
            }
            StepResult::Busy | StepResult::Locked => std::thread::sleep(Duration::from_millis(3)),
            _ => since = Instant::now(),
        }
        let now = backup.progress();
        let total = u64::try_from(now.pagecount).unwrap_or(0);
        look.at(BackupStage::Pages, total - u64::try_from(now.remaining).unwrap_or(0).min(total), total)?;
        if step == StepResult::Done {
            return Ok(());
        }
    }
}
