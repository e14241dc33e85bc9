//! Transactions whose commit does not wait for the disk by itself.
//!
//! Such a transaction runs as under `synchronous = NORMAL`, which is set before it begins, as SQLite allows it only outside
//! of one. Its commit is acknowledged after a sync that it shares with others ([`Syncs`](crate::sqlcipher::log::syncs)).
//! Everything else on the connection is synced by SQLite itself.

use super::engine::Engine;
use crate::connector::Access;
use crate::error::Result;
use crate::sqlcipher::errors::classify;
use crate::sqlcipher::ffi::commits;
use crate::sqlcipher::log::syncs::LogFile;
use crate::sqlcipher::statement::watch::Mode;

impl Engine {
    /// Before a transaction begins.
    pub(super) fn relax(&mut self, access: Access) -> Result<()> {
        let shares = access == Access::Write && self.sharing.log.is_some();
        // Who has altered the session may have left the log.
        if !shares || self.session.is_altered() || self.session.index().is_none() || !self.connection.is_autocommit() {
            return Ok(());
        }
        self.set_synchronous("PRAGMA synchronous = NORMAL")?;
        self.sharing.relaxed = Some(commits::count(&self.connection));
        Ok(())
    }

    /// The log that has to be synced after a commit of ours.
    pub(super) fn owed(&mut self) -> Option<LogFile> {
        let owed = self.sharing.log.clone().filter(|_| self.has_written());
        // The commit stands. If this fails, what follows the work tries again.
        self.tighten().ok();
        owed
    }

    fn has_written(&self) -> bool {
        self.sharing.relaxed.is_some_and(|before| commits::count(&self.connection) != before)
    }

    /// After any work: once no transaction is open, SQLite syncs commits again. A transaction that its holder has
    /// committed by words is synced here.
    pub(crate) fn stiffen(&mut self) -> Result<()> {
        if !self.sharing.is_relaxed() || !self.connection.is_autocommit() {
            return Ok(());
        }
        let owed = self.sharing.log.clone().filter(|_| self.has_written());
        self.tighten()?;
        owed.map_or(Ok(()), |log| self.log.syncs().sync_now(&log))
    }

    fn tighten(&mut self) -> Result<()> {
        if self.sharing.is_relaxed() {
            self.set_synchronous("PRAGMA synchronous = EXTRA")?;
            self.sharing.relaxed = None;
        }
        Ok(())
    }

    fn set_synchronous(&mut self, sql: &str) -> Result<()> {
        self.watch.look(Mode::Open);
        self.connection.execute_batch(sql).map_err(classify)
    }
}
