//! What an error, told or hidden, means for the connection and for the log.

use std::fmt;

use super::engine::Engine;
use crate::error::{Error, ErrorKind, Reason};
use crate::sqlcipher::errors::{self, poisons};
use crate::sqlcipher::ffi::commits;
use crate::sqlcipher::statement::seals;

impl Engine {
    /// Whether SQLCipher has given the connection up, because it met a page that it could not authenticate. It may have
    /// said so in an integrity check only.
    pub(crate) fn is_given_up(&self) -> bool {
        self.watch.is_encrypted() && seals::is_given_up(&self.connection)
    }

    /// Sees to it that a connection that met damage without an error is closed instead of lent again.
    pub(crate) fn retire_if_given_up(&mut self) {
        self.session.alter(self.is_given_up());
    }

    /// Adds the system's own message to the error. True: the connection must not be used again. One that was told once that
    /// the file cannot be written keeps to that, also when the file can be written again.
    pub(crate) fn complete_error(&self, error: &mut Error) -> bool {
        if self.way.only_reads() && error.reason() == Reason::NotWritable {
            *error = self.way.refused();
            return false;
        }
        // SQLCipher reports page 1 that fails its seal once, and then that nothing can be written.
        if matches!(error.reason(), Reason::WrongKey | Reason::NotWritable) && self.is_given_up() {
            *error = errors::another_key();
            return true;
        }
        // To write on after such a page is refused as if there were no memory.
        if error.reason() == Reason::TooLarge && self.is_given_up() {
            *error = seals::broken().caused_by(error.clone());
        }
        *error = errors::with_the_system(error.clone(), &self.connection);
        // A commit's; a checkpoint syncs two files, and looks after them itself.
        if error.kind() == ErrorKind::OutcomeUnknown && errors::is_failed_sync(error) {
            self.note_failed_sync(error);
        }
        if error.reason() == Reason::Io && self.session.index().is_some() {
            self.log.distrust(&self.connection);
        } else if error.reason() == Reason::Io && self.session.has_log() {
            self.log.distrust_unseen();
        }
        // SQLite opens for reading what it could not open for writing, be it the log, and stays with that.
        let only_asks = || self.connection.query_row("PRAGMA query_only", (), |row| row.get(0)).unwrap_or(false);
        poisons(error) || (error.reason() == Reason::NotWritable && (self.is_given_up() || !only_asks()))
    }

    /// A sync of a commit failed. Where there is no log, what was not committed is undone from the journal.
    fn note_failed_sync(&self, error: &dyn fmt::Display) {
        if self.log.is_private() || self.session.has_log() {
            self.log.syncs().note_failure(error);
        }
    }

    /// The user has worked with the raw connection since there were so many commits, and may have hidden that one failed, or
    /// a checkpoint.
    pub(crate) fn note_hidden_failure(&self, commits: i32) {
        let Some(why) = errors::failure_of_the_disk(&self.connection) else { return };
        if commits::count(&self.connection) != commits {
            self.note_failed_sync(&why);
        }
        if self.session.has_log() {
            self.log.distrust_unseen();
        }
    }
}
