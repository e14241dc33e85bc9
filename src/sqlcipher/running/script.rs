//! Texts of several statements.

use rusqlite::fallible_iterator::FallibleIterator;

use super::engine::Engine;
use crate::connector::StatementKind;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::params::placeholders::refuse_nul;
use crate::sqlcipher::changes::touched::Ran;
use crate::sqlcipher::errors::{classify_refused, in_commit};
use crate::sqlcipher::ffi::commits;
use crate::sqlcipher::statement::seen::Seen;
use crate::sqlcipher::statement::watch::Mode;

impl Engine {
    /// Runs a text of several statements. Inside a transaction it may not end it.
    pub(crate) fn run_script(&mut self, sql: &str) -> Result<()> {
        refuse_nul(sql)?;
        let mut defines = false;
        let outcome = self.run_each(sql, &mut defines);
        if defines {
            self.plans.defined();
        }
        outcome
    }

    fn run_each(&mut self, sql: &str, defines: &mut bool) -> Result<()> {
        let keeps = self.keeps_snapshot();
        let Self { connection, watch, session, way, recorder, .. } = self;
        let open = || !connection.is_autocommit() && !keeps;
        let mode = if open() { Mode::Inside } else { Mode::Open };
        let mut rest = rusqlite::Batch::new(connection, sql);
        loop {
            if let Some(recorder) = recorder {
                recorder.begin(connection, watch);
            }
            watch.look(mode);
            let next = rest.next();
            let seen = watch.seen();
            // Before anything else: some pragmas have acted now, also in a text that turns out to be none of SQL.
            session.alter(seen.alters_session() || seen.is_bounded() && !open());
            *defines |= seen.defines();
            let Some(mut statement) = next.map_err(|error| refused(error, seen, mode))? else { return Ok(()) };
            let kind = seen.kind(statement.readonly());
            session.permit(kind, open)?;
            if way.only_reads() && seen.writes(statement.readonly()) {
                return Err(way.refused());
            }
            watch.mode(Mode::Running);
            let text = recorder.as_ref().and_then(|_| statement.expanded_sql()).unwrap_or_default();
            let before = commits::count(connection);
            let mut rows = statement.raw_query();
            let outcome = loop {
                match rows.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(error) => {
                        let error = classify_refused(error, watch.seen());
                        break Err(in_commit(error, commits::count(connection) != before, connection));
                    }
                }
            };
            drop(rows);
            if kind == StatementKind::Control {
                session.note(open());
            }
            if let Some(recorder) = recorder {
                recorder.end(connection, watch, Ran::Once(&text), &outcome);
            }
            outcome?;
        }
    }
}

fn refused(error: rusqlite::Error, seen: Seen, mode: Mode) -> Error {
    if mode == Mode::Inside && seen.refusal().is_none() && seen.kind(true) == StatementKind::Control {
        return Error::new(ErrorKind::Unsupported, "a script inside a transaction cannot end it or alter the session")
            .because(Reason::Control)
            .hint("use the transaction's own commit and rollback");
    }
    classify_refused(error, seen)
}
