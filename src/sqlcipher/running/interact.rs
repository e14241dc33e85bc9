//! Work of the user's own on the raw connection.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::control::Control;
use super::engine::Engine;
use crate::error::Result;
use crate::sqlcipher::changes::touched::Ran;
use crate::sqlcipher::errors::{self, classify, classify_refused, in_commit};
use crate::sqlcipher::ffi::commits;
use crate::sqlcipher::ffi::switches::Switches;
use crate::sqlcipher::statement::watch::Mode;

impl Engine {
    /// Calls `user` with the raw connection, and puts back what it may have taken away.
    pub(crate) fn interact<T>(
        &mut self,
        control: &Arc<Control>,
        busy_timeout: Duration,
        user: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let was_lost = self.session.has_lost_transaction(self.in_transaction());
        if self.recorder.is_some() {
            // What was found prepared would not be seen.
            self.connection.flush_prepared_statement_cache();
            self.begin_recording();
        }
        self.watch.look(Mode::Open);
        let before = commits::count(&self.connection);
        // rusqlite does not tell what these are, so each closure finds them as they are by default.
        self.connection.set_transaction_behavior(TransactionBehavior::Deferred);
        let switches = Switches::of(&self.connection);
        let outcome = user(&mut self.connection).map_err(|error| {
            let may_commit = errors::may_come_from_a_commit(&error) && self.connection.is_autocommit();
            let begun = may_commit && commits::count(&self.connection) != before;
            in_commit(classify_refused(error, self.watch.seen()), begun, &self.connection)
        });
        // An error may be hidden in one of the caller's own, or be forgotten.
        self.note_hidden_failure(before);
        self.session.alter(errors::has_met_a_failure(&self.connection));
        self.note_prepared();
        self.watch.look(Mode::Open);
        let still_watched = self.connection.prepare("SELECT 1").is_ok() && self.watch.seen().anything();
        self.session.alter(!still_watched || Switches::of(&self.connection) != switches);
        self.retire_if_given_up();
        self.plans.forget();
        self.connection.flush_prepared_statement_cache();
        self.connection.set_prepared_statement_cache_capacity(self.statement_cache);
        if !was_lost || self.in_transaction() {
            self.session.note(self.in_transaction());
        }
        self.install(control, busy_timeout).map_err(classify)?;
        self.end_recording(Ran::Closure, &outcome);
        outcome
    }
}
