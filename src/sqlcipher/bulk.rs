//! Many sets of parameters for one statement: on the caller's task as long as that is short, the rest on a thread.

use std::sync::Arc;

use super::connection::SqlCipherConnection;
use crate::connector::BulkInsert;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::params::ParamSets;
use crate::row::Changes;
use crate::turn;

/// More than this of values, in bytes, goes to a thread: there are large ones among them.
const MOST_HERE: usize = 4 << 20;

/// A bulk insert into SQLite: each run of sets has its answer at once.
#[derive(Debug)]
pub struct SqlCipherBulk<'c> {
    connection: &'c mut SqlCipherConnection,
    sql: Arc<str>,
}

impl<'c> SqlCipherBulk<'c> {
    pub(super) fn new(connection: &'c mut SqlCipherConnection, sql: Arc<str>) -> Self {
        Self { connection, sql }
    }

    /// Runs sets on this task, slice by slice, as far as that goes, and says how far it went.
    async fn run_here(&mut self, sets: &ParamSets) -> Result<(usize, Changes)> {
        let Self { connection, sql } = self;
        let (mut done, mut total) = (0, Changes::default());
        if !connection.may.inside || sets.bytes() > MOST_HERE {
            return Ok((done, total));
        }
        connection.job += 1;
        let control = Arc::clone(&connection.shared.control);
        // A canceller meets the number of the call, also between two slices.
        let running = control.start(connection.job);
        while done < sets.len() && running.is_some() {
            // A slice may be too short for SQLite to ask.
            if control.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "the statement was stopped before its end"));
            }
            let slice = connection.here(|engine, _| {
                let mut outcome = engine.run_many_inline(sql, sets, done)?;
                let spoiled = outcome.as_mut().is_err_and(|error| engine.complete_error(error));
                Some((outcome, spoiled))
            });
            let Some(outcome) = slice.map_err(|_panic| Error::panicked("SQL function"))? else { break };
            let (count, changes) = outcome?;
            done += count;
            total.add(changes);
            if done < sets.len() {
                turn::pass().await;
            }
        }
        Ok((done, total))
    }
}

impl BulkInsert for SqlCipherBulk<'_> {
    async fn add(&mut self, sets: ParamSets) -> Result<Option<Changes>> {
        let fail = |error: Error| error.during(Phase::Statement);
        let (done, mut total) = self.run_here(&sets).await.map_err(fail)?;
        if done < sets.len() || sets.is_empty() {
            let sql = Arc::clone(&self.sql);
            let rest = self.connection.job(move |engine| engine.run_many(&sql, &sets, done, &mut |_| false)).await;
            total.add(rest.map_err(fail)?.1);
        }
        Ok(Some(total))
    }

    async fn end(self) -> Result<Changes> {
        Ok(Changes::default())
    }
}
