//! What a database needs from time to time, and before a connection that wrote is closed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use super::control::Control;
use super::engine::Engine;
use crate::connector::{CheckpointReport, Maintained, Maintenance, OptimizeReport, Sizes, TableSize, VacuumReport};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::sqlcipher::errors::{classify, in_commit};
use crate::sqlcipher::ffi::commits;
use crate::sqlcipher::log::checkpoint::sync_again;
use crate::sqlcipher::statement::watch::Mode;
use crate::sqlcipher::tuning::Checkpoints;

/// Tables that it may be good to analyze are looked for among all, and not only among those that this connection used.
const LOOK: &str = "PRAGMA optimize(0x10003)";
const DO: &str = "PRAGMA optimize(0x10002)";

/// The tables, each with its indexes; what belongs to none is SQLite's own.
const TABLES: &str = "
    SELECT coalesce(s.tbl_name, d.name), sum(d.pgsize), sum(iif(s.type = 'index', d.pgsize, 0)), sum(d.unused)
    FROM dbstat AS d LEFT JOIN sqlite_schema AS s ON s.name = d.name
    WHERE d.aggregate = 1 GROUP BY 1 ORDER BY 2 DESC, 1";

impl Engine {
    pub(crate) fn maintain(
        &mut self,
        task: Maintenance,
        control: &Arc<Control>,
        busy_timeout: Duration,
    ) -> Result<Maintained> {
        if !matches!(task, Maintenance::Sizes | Maintenance::TableSizes) {
            self.permit_writing(true)?;
        }
        if self.in_transaction() {
            let error = Error::new(ErrorKind::Unsupported, "maintenance cannot run inside a transaction");
            return Err(error.because(Reason::Control).hint("end the transaction first"));
        }
        match task {
            Maintenance::Checkpoint => self.copy_log(control, busy_timeout).map(Maintained::Checkpoint),
            Maintenance::Vacuum => self.vacuum().map(Maintained::Vacuum),
            Maintenance::FreePages(most) => self.free_pages(most).map(Maintained::Vacuum),
            Maintenance::Optimize => self.optimize().map(Maintained::Optimize),
            Maintenance::Sizes => self.sizes().map(Maintained::Sizes),
            Maintenance::TableSizes => self.table_sizes().map(Maintained::TableSizes),
        }
    }

    fn copy_log(&mut self, control: &Arc<Control>, busy_timeout: Duration) -> Result<CheckpointReport> {
        if self.watch.is_in_memory() {
            let error = Error::new(ErrorKind::Unsupported, "a database in memory has no log to be copied");
            return Err(error.hint("there is nothing to do"));
        }
        if self.checkpoints == Checkpoints::External {
            let error = Error::new(ErrorKind::Unsupported, "Checkpoints::External leaves the log to another program");
            return Err(error.hint("ask that program for a checkpoint"));
        }
        self.watch.look(Mode::Open);
        let pending = self.session.index().map_or(0, |index| index.pending(&index.mark()));
        let left = self.log.checkpoint(&self.connection, "PASSIVE", &mut self.news).map_err(classify)?;
        if left == 0 {
            let cut = self.cut_log();
            self.install(control, busy_timeout).map_err(classify)?;
            match cut {
                Err(error) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => {
                    return Err(classify(error));
                }
                _ => {}
            }
        }
        Ok(CheckpointReport { pending, left, log_bytes: self.bytes_of("-wal") })
    }

    /// Copies the log and cuts it off, if nobody reads from it: to wait for them would have all who write wait too. Takes
    /// the busy handler away.
    fn cut_log(&mut self) -> rusqlite::Result<u32> {
        self.connection.busy_handler(None::<fn(i32) -> bool>)?;
        self.log.checkpoint(&self.connection, "TRUNCATE", &mut self.news)
    }

    fn vacuum(&mut self) -> Result<VacuumReport> {
        let before = self.pages()?;
        self.watch.look(Mode::Running);
        self.committing(|connection| connection.execute_batch("VACUUM"))?;
        self.plans.forget();
        let after = self.pages()?;
        Ok(VacuumReport { pages_before: before.pages_after, ..after })
    }

    fn free_pages(&mut self, most: u32) -> Result<VacuumReport> {
        if self.number("PRAGMA auto_vacuum")? == 0 {
            let error =
                Error::new(ErrorKind::Unsupported, "the file does not keep the book of its pages that this needs");
            return Err(error.hint("vacuum() gives all free pages back"));
        }
        let before = self.pages()?;
        if most > 0 {
            self.watch.look(Mode::Open);
            self.committing(|connection| {
                let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({most})"))?;
                let mut rows = statement.raw_query();
                // One step for each page.
                while rows.next()?.is_some() {}
                Ok(())
            })?;
        }
        let after = self.pages()?;
        Ok(VacuumReport { pages_before: before.pages_after, ..after })
    }

    fn optimize(&mut self) -> Result<OptimizeReport> {
        self.watch.look(Mode::Open);
        let texts = |connection: &Connection, sql| {
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map((), |row| row.get(0))?;
            rows.collect::<rusqlite::Result<Vec<String>>>()
        };
        let statements = texts(&self.connection, LOOK).map_err(classify)?;
        self.committing(|connection| texts(connection, DO))?;
        self.plans.forget();
        Ok(OptimizeReport { statements })
    }

    /// Does work of our own that commits.
    pub(super) fn committing<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let before = commits::count(&self.connection);
        work(&self.connection)
            .map_err(|error| in_commit(classify(error), commits::count(&self.connection) != before, &self.connection))
    }

    fn sizes(&self) -> Result<Sizes> {
        let VacuumReport { pages_after, free_pages, page_size, .. } = self.pages()?;
        let (file_bytes, log_bytes) = (self.bytes_of(""), self.bytes_of("-wal"));
        Ok(Sizes { page_size, pages: pages_after, free_pages, file_bytes, log_bytes })
    }

    fn table_sizes(&self) -> Result<Vec<TableSize>> {
        self.watch.look(Mode::Open);
        let mut statement = self.connection.prepare(TABLES).map_err(|error| match error.to_string() {
            message if message.contains("no such table: dbstat") => {
                Error::new(ErrorKind::Unsupported, "the SQLite library of this program cannot tell the sizes of tables")
                    .hint("build it with SQLITE_ENABLE_DBSTAT_VTAB, as the features `sqlcipher` and `sqlite` do")
            }
            _ => classify(error),
        })?;
        let size = |row: &rusqlite::Row<'_>| {
            let bytes = |index| row.get::<_, i64>(index).map(|bytes| u64::try_from(bytes).unwrap_or(0));
            let (name, bytes, index_bytes, unused_bytes) = (row.get(0)?, bytes(1)?, bytes(2)?, bytes(3)?);
            Ok(TableSize { name, bytes, index_bytes, unused_bytes })
        };
        let rows = statement.query_map((), size).map_err(classify)?;
        rows.collect::<rusqlite::Result<_>>().map_err(classify)
    }

    fn pages(&self) -> Result<VacuumReport> {
        let pages_after = self.number("PRAGMA page_count")?;
        let (free_pages, page_size) = (self.number("PRAGMA freelist_count")?, self.number("PRAGMA page_size")?);
        Ok(VacuumReport { pages_before: pages_after, pages_after, free_pages, page_size })
    }

    /// What a pragma answers, which may be a number in text, as SQLCipher tells the size of pages.
    fn number(&self, pragma: &str) -> Result<u64> {
        self.watch.look(Mode::Open);
        let found = self.connection.query_row(pragma, (), |row| match row.get_ref(0)? {
            rusqlite::types::ValueRef::Text(digits) => {
                Ok(str::from_utf8(digits).ok().and_then(|text| text.parse().ok()))
            }
            number => Ok(u64::try_from(number.as_i64()?).ok()),
        });
        found.map(Option::unwrap_or_default).map_err(classify)
    }

    /// The size of the file, or of one beside it; 0 where there is none.
    fn bytes_of(&self, end: &str) -> u64 {
        let path = self.connection.path().filter(|_| !self.watch.is_in_memory());
        let file = path.map(|path| PathBuf::from(format!("{path}{end}")));
        file.and_then(|file| Path::metadata(&file).ok()).map_or(0, |file| file.len())
    }

    /// The goodbye of a connection that wrote: statistics for the planner, and the log folded into the file.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if self.way.only_reads() {
            return Ok(());
        }
        if let Some(commits) = self.given_away {
            self.note_hidden_failure(commits);
        }
        self.watch.look(Mode::Open);
        self.committing(|connection| connection.execute_batch("PRAGMA optimize")).map_err(|mut error| {
            self.complete_error(&mut error);
            error
        })?;
        if self.checkpoints == Checkpoints::External {
            return Ok(());
        }
        self.cut_log().map(drop).map_err(classify)
    }

    /// The goodbye of a connection that reads, where none writes that will copy the log: SQLite does it for the last one that
    /// closes, and does not say when that fails.
    pub(crate) fn settle_for_writer(&mut self) -> Result<()> {
        let pending = self.session.index().map_or(0, |index| index.pending(&index.mark()));
        if self.way.only_reads() || self.checkpoints == Checkpoints::External || pending == 0 {
            return Ok(());
        }
        self.watch.look(Mode::Open);
        self.log.checkpoint(&self.connection, "PASSIVE", &mut self.news).map(drop).map_err(classify)
    }

    /// Keeps SQLite from copying the log by itself when the last connection closes, if it would not copy or sync all of it.
    pub(crate) fn keep_log_if_distrusted(&self) -> rusqlite::Result<()> {
        self.watch.look(Mode::Open);
        let syncs = || !self.session.is_altered() || sync_again(&self.connection).is_ok();
        if self.log.is_trusted(&self.connection) && syncs() {
            return Ok(());
        }
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
    }
}
