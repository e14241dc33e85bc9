//! Work of the user's own on the raw connection.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;

use super::control::Control;
use super::engine::Engine;
use crate::error::Result;
use crate::sqlcipher::changes::recorder::Ran;
use crate::sqlcipher::errors::{self, classify, classify_refused, in_commit};
use crate::sqlcipher::ffi::commits;
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
        let switches_before = switches(&self.connection);
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
        self.session.alter(!still_watched || switches(&self.connection) != switches_before);
        self.retire_if_given_up();
        self.plans.forget();
        self.connection.flush_prepared_statement_cache();
        if !was_lost || self.in_transaction() {
            self.session.note(self.in_transaction());
        }
        self.install(control, busy_timeout).map_err(classify)?;
        self.end_recording(Ran::Closure, &outcome);
        outcome
    }
}

/// What a caller of rusqlite can set without a statement.
fn switches(connection: &Connection) -> (Vec<Option<bool>>, Vec<Option<i32>>) {
    const CONFIG: [DbConfig; 11] = [
        DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY,
        DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
        DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW,
        DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
        DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG,
        DbConfig::SQLITE_DBCONFIG_TRIGGER_EQP,
        DbConfig::SQLITE_DBCONFIG_DEFENSIVE,
        DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA,
        DbConfig::SQLITE_DBCONFIG_DQS_DML,
        DbConfig::SQLITE_DBCONFIG_DQS_DDL,
        DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA,
    ];
    const LIMITS: [Limit; 12] = [
        Limit::SQLITE_LIMIT_LENGTH,
        Limit::SQLITE_LIMIT_SQL_LENGTH,
        Limit::SQLITE_LIMIT_COLUMN,
        Limit::SQLITE_LIMIT_EXPR_DEPTH,
        Limit::SQLITE_LIMIT_COMPOUND_SELECT,
        Limit::SQLITE_LIMIT_VDBE_OP,
        Limit::SQLITE_LIMIT_FUNCTION_ARG,
        Limit::SQLITE_LIMIT_ATTACHED,
        Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH,
        Limit::SQLITE_LIMIT_VARIABLE_NUMBER,
        Limit::SQLITE_LIMIT_TRIGGER_DEPTH,
        Limit::SQLITE_LIMIT_WORKER_THREADS,
    ];
    let config = CONFIG.into_iter().map(|switch| connection.db_config(switch).ok()).collect();
    (config, LIMITS.into_iter().map(|limit| connection.limit(limit).ok()).collect())
}
