//! The migrations that a database has had: a table of its own, one line each.
//!
//! What engines do not agree on are the few texts of [`Words`]. Whoever reads or writes the table in order to migrate
//! holds the lock of [`Words::lock`], or SQLite's own of a transaction that writes.

use crate::connector::Connection;
use crate::connector::Connector;
use crate::database::handle::AsyncDatabase;
use crate::database::transaction::Transaction;
use crate::error::{Error, ErrorKind, Result};
use crate::params::Dialect;
use crate::row::Rows;

pub(super) const TABLE: &str = "strongroom_migrations";

const READ: &str = "SELECT version, name, checksum, CASE WHEN finished_at IS NULL THEN CAST(started_at AS TEXT) END \
                    FROM strongroom_migrations ORDER BY version";

/// One migration that a database has had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) version: i64,
    pub(super) name: String,
    /// None of a closure, and of what another tool ran without keeping one.
    pub(super) checksum: Option<String>,
    /// When it began, if it did not finish.
    pub(super) unfinished: Option<String>,
}

/// What can be asked for rows.
pub(super) trait Reads: Send {
    fn rows(&mut self, sql: &str) -> impl Future<Output = Result<Rows>> + Send;
    fn has_table(&mut self, name: &str) -> impl Future<Output = Result<bool>> + Send;
}

impl<C: Connector<Connection: Connection>> Reads for &AsyncDatabase<C> {
    fn rows(&mut self, sql: &str) -> impl Future<Output = Result<Rows>> + Send {
        self.fetch_all(sql, ())
    }

    fn has_table(&mut self, name: &str) -> impl Future<Output = Result<bool>> + Send {
        self.table_exists(name)
    }
}

impl<C: Connector<Connection: Connection>> Reads for &mut Transaction<C> {
    fn rows(&mut self, sql: &str) -> impl Future<Output = Result<Rows>> + Send {
        self.fetch_all(sql, ())
    }

    fn has_table(&mut self, name: &str) -> impl Future<Output = Result<bool>> + Send {
        self.table_exists(name)
    }
}

/// The history, as far as there is one; in one read if there is.
pub(super) async fn look(db: &mut impl Reads, words: Words) -> Result<Vec<Line>> {
    match db.rows(READ).await {
        Ok(rows) => lines(&rows),
        Err(error) if error.kind() == ErrorKind::Query && !db.has_table(TABLE).await? => {
            words.refuse_another(db).await.map(|()| Vec::new())
        }
        // Another process may have made the table in between.
        Err(error) if error.kind() == ErrorKind::Query => lines(&db.rows(READ).await?),
        Err(error) => Err(error),
    }
}

/// The history, which has its table then.
pub(super) async fn open<C>(mut tx: &mut Transaction<C>, words: Words) -> Result<Vec<Line>>
where
    C: Connector<Connection: Connection>,
{
    if !tx.table_exists(TABLE).await? {
        words.refuse_another(&mut tx).await?;
        tx.execute_script(words.table()).await?;
    }
    lines(&tx.fetch_all(READ, ()).await?)
}

fn lines(rows: &Rows) -> Result<Vec<Line>> {
    let line = |row: crate::row::Row| {
        Ok(Line { version: row.get(0)?, name: row.get(1)?, checksum: row.get(2)?, unfinished: row.get(3)? })
    };
    rows.iter().map(line).collect()
}

/// What engines write differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words(pub(super) Dialect);

/// The numbers of our two locks in PostgreSQL: "strongroom" as a telephone would dial it, and the next.
macro_rules! lock_number {
    (run) => {
        "7876647666"
    };
    (step) => {
        "7876647667"
    };
}

impl Words {
    pub(super) fn is_postgres(self) -> bool {
        self.0 == Dialect::Postgres
    }

    fn table(self) -> &'static str {
        if self.is_postgres() {
            "CREATE TABLE strongroom_migrations (
                version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT,
                started_at TIMESTAMPTZ NOT NULL, finished_at TIMESTAMPTZ, took_us BIGINT, origin TEXT
            )"
        } else {
            "CREATE TABLE strongroom_migrations (
                version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT,
                started_at TEXT NOT NULL, finished_at TEXT, took_us INTEGER, origin TEXT
            )"
        }
    }

    /// The moment, as columns of times hold it.
    fn now(self) -> &'static str {
        match self.0 {
            Dialect::Postgres => "clock_timestamp()",
            Dialect::Sqlite => "strftime('%Y-%m-%d %H:%M:%f000000Z', 'now')",
            _ => "CURRENT_TIMESTAMP",
        }
    }

    /// Takes version, name, checksum, microseconds, origin. There may be a line of a run that did not finish, when the
    /// migration still was one outside of transactions.
    pub(super) fn add_finished(self) -> String {
        let now = self.now();
        format!(
            "INSERT INTO strongroom_migrations (version, name, checksum, started_at, finished_at, took_us, origin) \
             VALUES ($1, $2, $3, {now}, {now}, $4, $5) ON CONFLICT (version) DO UPDATE SET \
             name = excluded.name, checksum = excluded.checksum, started_at = excluded.started_at, \
             finished_at = excluded.finished_at, took_us = excluded.took_us \
             WHERE strongroom_migrations.finished_at IS NULL"
        )
    }

    /// Takes version, name, checksum.
    pub(super) fn add_begun(self) -> String {
        let now = self.now();
        format!(
            "INSERT INTO strongroom_migrations (version, name, checksum, started_at) VALUES ($1, $2, $3, {now}) \
             ON CONFLICT (version) DO UPDATE SET \
             name = excluded.name, checksum = excluded.checksum, started_at = excluded.started_at"
        )
    }

    /// Takes version, name, checksum and microseconds. The text may be another one than that which began.
    pub(super) fn finish(self) -> String {
        let now = self.now();
        format!(
            "UPDATE strongroom_migrations SET name = $2, checksum = $3, finished_at = {now}, took_us = $4 \
             WHERE version = $1"
        )
    }

    /// What has names found where they were when the run began: a migration may set that otherwise, as `pg_dump` does in what
    /// it writes, and the history would be looked for in another schema. Takes what `search_path` was.
    pub(super) const SEARCH_AGAIN: &str = "SELECT pg_catalog.set_config('search_path', $1, false) \
        WHERE pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.<>) $1";

    pub(super) fn searched(self) -> Option<&'static str> {
        self.is_postgres().then_some("SELECT pg_catalog.current_setting('search_path')")
    }

    /// Refuses to begin a history where there is one that this session does not see, because it has another role than
    /// whoever made it: all would run again. A `search_path` that names its schemas is taken at its word, for there may be
    /// one history in each.
    async fn refuse_another(self, db: &mut impl Reads) -> Result<()> {
        const OTHERS: &str = "SELECT n.nspname FROM pg_catalog.pg_class c \
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE c.relname = 'strongroom_migrations' AND c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' \
            AND NOT pg_catalog.pg_table_is_visible(c.oid) \
            AND pg_catalog.current_setting('search_path') LIKE '%$user%' ORDER BY 1 LIMIT 1";
        let rows = if self.is_postgres() { db.rows(OTHERS).await? } else { return Ok(()) };
        let Some(row) = rows.first() else { return Ok(()) };
        let schema: String = row.get(0)?;
        let message =
            format!("this database has its history of migrations in the schema {schema}, which is not searched");
        Err(Error::new(ErrorKind::Migration, message).about(schema).hint(
            "have search_path name the schema that is meant, and not \"$user\"; each may have a history of its own",
        ))
    }

    /// What keeps other runs away from this one, for as long as its session lasts; none where a transaction that writes
    /// does that. It is asked for again and again: waiting inside a statement would keep `CREATE INDEX CONCURRENTLY` of
    /// the other run from ending, which waits for all statements.
    pub(super) fn lock_run(self) -> Option<&'static str> {
        self.is_postgres().then_some(concat!("SELECT pg_try_advisory_lock(", lock_number!(run), ")"))
    }

    pub(super) fn unlock_run(self) -> Option<&'static str> {
        self.is_postgres().then_some(concat!("SELECT pg_advisory_unlock(", lock_number!(run), ")"))
    }

    /// The same for one transaction, for pools in between that give each transaction another session.
    pub(super) fn lock_step(self) -> Option<&'static str> {
        self.is_postgres().then_some(concat!("SELECT 1 FROM pg_advisory_xact_lock(", lock_number!(step), ")"))
    }
}
