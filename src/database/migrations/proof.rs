//! Migrations under test.

use std::fmt;

use super::history::TABLE;
use super::list::Migrations;
use super::options::MigrateOptions;
use crate::connector::{Connection, Connector};
use crate::database::handle::AsyncDatabase;
use crate::error::{Error, ErrorKind, Result};
use crate::params::Dialect;

/// A test of all migrations of a program: they apply to an empty database at once, and to another one by one, with rows
/// in it; the schema is the same both times, and the recorded one if there is one.
///
/// ```
/// use strongroom::AsyncDatabase;
/// use strongroom::database::migrations::{MigrationCheck, Migrations};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// let migrations = Migrations::new()
///     .sql(1, "create users", "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
///     .sql(2, "names are unique", "CREATE UNIQUE INDEX users_name ON users (name)");
/// MigrationCheck::new(&migrations)
///     .rows_after(1, "INSERT INTO users (name) VALUES ('alice'), (NULL)")
///     .schema(
///         "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
///          CREATE UNIQUE INDEX users_name ON users (name);",
///     )
///     .run(async || AsyncDatabase::builder(":memory:").open().await)
///     .await?;
/// # Ok(()) }
/// ```
pub struct MigrationCheck<'m, C: Connector> {
    migrations: &'m Migrations<C>,
    rows: Vec<(i64, String)>,
    schema: Option<String>,
}

impl<'m, C: Connector<Connection: Connection>> MigrationCheck<'m, C> {
    /// A check of these migrations.
    pub fn new(migrations: &'m Migrations<C>) -> Self {
        Self { migrations, rows: Vec::new(), schema: None }
    }

    /// Runs this script behind the migration of this number, before the next: rows as a program of that time would have
    /// made them.
    pub fn rows_after(mut self, version: i64, script: impl Into<String>) -> Self {
        self.rows.push((version, script.into()));
        self
    }

    /// Compares the schema with this one, which an earlier [`run`](Self::run) gave. White space does not count.
    pub fn schema(self, recorded: impl Into<String>) -> Self {
        Self { schema: Some(recorded.into()), ..self }
    }

    /// Runs the check on two databases that `open` makes, each empty, and gives the schema as text, to record it.
    ///
    /// # Errors
    /// What a migration failed with, or [`ErrorKind::Migration`] with the first line that differs.
    pub async fn run<F>(self, open: F) -> Result<String>
    where
        F: AsyncFn() -> Result<AsyncDatabase<C>>,
    {
        let list = self.migrations.in_order()?;
        if let Some((version, _)) = self.rows.iter().find(|(after, _)| list.iter().all(|one| one.version != *after)) {
            let message = format!("there is no migration {version} to add rows after");
            return Err(Error::new(ErrorKind::Config, message).hint("give the number of a migration of the list"));
        }
        let db = open().await?;
        db.migrate(self.migrations).await?;
        let at_once = schema_of(&db).await?;
        let again = db.migration_plan(self.migrations).await?;
        db.close().await?;
        if !again.pending.is_empty() {
            return Err(Error::new(ErrorKind::Migration, "migrations would run a second time")
                .hint("one of them drops the table strongroom_migrations"));
        }

        let db = open().await?;
        for migration in &list {
            db.migrate_with(self.migrations, MigrateOptions::new().up_to(migration.version)).await?;
            for (_, script) in self.rows.iter().filter(|(after, _)| *after == migration.version) {
                let rows = db.execute_script(script).await;
                rows.map_err(|error| error.context(format_args!("rows after {}", migration.title())))?;
            }
        }
        let one_by_one = schema_of(&db).await?;
        db.close().await?;
        same(&at_once, &one_by_one, "the schema depends on the rows, or on being made at once", "at once")?;
        if let Some(recorded) = &self.schema {
            same(recorded, &at_once, "the schema is not the recorded one", "recorded")?;
        }
        Ok(at_once)
    }
}

impl<C: Connector> fmt::Debug for MigrationCheck<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigrationCheck").field("migrations", &self.migrations).finish_non_exhaustive()
    }
}

/// The schema of a database as text, in an order that does not depend on when things were made; without our history. In
/// SQLite, statements that make it; in PostgreSQL, what the current schema holds, a line each: tables, columns, constraints,
/// indexes, triggers, views, functions, types, sequences, policies, rules, statistics and extensions. Not comments, rights or
/// owners.
///
/// # Errors
/// As classified by the engine.
///
/// # Cancel safety
/// Nothing is left behind.
pub async fn schema_of<C: Connector<Connection: Connection>>(db: &AsyncDatabase<C>) -> Result<String> {
    let sql = if db.capabilities().dialect == Dialect::Postgres { POSTGRES } else { SQLITE };
    let lines: Vec<String> = db.fetch_all_as(sql, (TABLE,)).await?;
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}

const SQLITE: &str = "SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL AND tbl_name <> $1 \
                      AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY tbl_name, type <> 'table', type, name";

/// What an extension brings is not listed; that it is there, is.
const POSTGRES: &str = "
WITH here AS (
    SELECT n.oid, n.nspname FROM pg_namespace n WHERE n.nspname = current_schema()
), tables AS (
    SELECT c.* FROM pg_class c JOIN here ON here.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname <> $1
), types AS (
    SELECT t.* FROM pg_type t JOIN here ON here.oid = t.typnamespace
    WHERE NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.objid = t.oid AND e.deptype = 'e')
), routines AS (
    SELECT p.* FROM pg_proc p JOIN here ON here.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.objid = p.oid AND e.deptype = 'e')
)
SELECT line FROM (
    SELECT 0 AS part, t.relname::text AS of, '' AS key,
        t.relname || CASE t.relkind WHEN 'v' THEN ' VIEW' WHEN 'm' THEN ' MATERIALIZED VIEW'
            WHEN 'f' THEN ' FOREIGN TABLE' ELSE ' TABLE' END
        || CASE t.relpersistence WHEN 'u' THEN ' UNLOGGED' ELSE '' END
        || coalesce(' PARTITION BY ' || pg_get_partkeydef(t.oid), '')
        || coalesce(' INHERITS ' || (SELECT string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno)
            FROM pg_inherits i WHERE i.inhrelid = t.oid), '')
        || coalesce(' ' || pg_get_expr(t.relpartbound, t.oid), '')
        || CASE WHEN t.relrowsecurity THEN ' ROW SECURITY' ELSE '' END
        || CASE WHEN t.relforcerowsecurity THEN ' FORCED' ELSE '' END
        || coalesce(' WITH (' || array_to_string(t.reloptions, ', ') || ')', '') AS line
    FROM tables t
    UNION ALL
    SELECT 1, t.relname::text, lpad(a.attnum::text, 4, '0'),
        t.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
        || coalesce((SELECT ' COLLATE ' || l.oid::regcollation::text FROM pg_collation l JOIN pg_type y ON y.oid = a.atttypid
            WHERE l.oid = a.attcollation AND l.oid <> y.typcollation), '')
        || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
        || CASE a.attidentity WHEN '' THEN '' WHEN 'd' THEN ' IDENTITY BY DEFAULT' ELSE ' IDENTITY' END
        || coalesce(CASE a.attgenerated WHEN '' THEN ' DEFAULT ' ELSE ' GENERATED ' END
            || pg_get_expr(d.adbin, d.adrelid), '')
    FROM pg_attribute a JOIN tables t ON t.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 2, t.relname::text, c.conname::text, t.relname || ' ' || c.conname || ' ' || pg_get_constraintdef(c.oid)
    FROM pg_constraint c JOIN tables t ON t.oid = c.conrelid
    UNION ALL
    SELECT 3, t.relname::text, i.indexrelid::regclass::text,
        pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
    FROM pg_index i JOIN tables t ON t.oid = i.indrelid
    UNION ALL
    SELECT 4, t.relname::text, g.tgname::text,
        pg_get_triggerdef(g.oid) || CASE g.tgenabled WHEN 'O' THEN '' ELSE ' ENABLED ' || g.tgenabled::text END
    FROM pg_trigger g JOIN tables t ON t.oid = g.tgrelid WHERE NOT g.tgisinternal
    UNION ALL
    SELECT 5, t.relname::text, '', t.relname || ' AS' || pg_get_viewdef(t.oid)
    FROM tables t WHERE t.relkind IN ('v', 'm')
    UNION ALL
    SELECT 6, p.proname::text, p.oid::regprocedure::text, pg_get_functiondef(p.oid)
    FROM routines p WHERE p.prokind IN ('f', 'p', 'w')
    UNION ALL
    SELECT 7, p.proname::text, p.oid::regprocedure::text,
        p.oid::regprocedure::text || ' AGGREGATE ' || a.aggtransfn::regproc::text || ' ' || a.aggfinalfn::regproc::text
        || ' ' || a.aggtranstype::regtype::text || coalesce(' ' || quote_literal(a.agginitval), '')
    FROM routines p JOIN pg_aggregate a ON a.aggfnoid = p.oid
    UNION ALL
    SELECT 8, t.typname::text, '', t.typname || ' ENUM ('
        || coalesce((SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid), '')
        || ')'
    FROM types t WHERE t.typtype = 'e'
    UNION ALL
    SELECT 8, t.typname::text, '', t.typname || ' DOMAIN ' || format_type(t.typbasetype, t.typtypmod)
        || CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END || coalesce(' DEFAULT ' || t.typdefault, '')
        || coalesce(' ' || (SELECT string_agg(c.conname || ' ' || pg_get_constraintdef(c.oid), ' ' ORDER BY c.conname)
            FROM pg_constraint c WHERE c.contypid = t.oid), '')
    FROM types t WHERE t.typtype = 'd'
    UNION ALL
    SELECT 8, t.typname::text, '', t.typname || ' TYPE ('
        || coalesce((SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
            FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '') || ')'
    FROM types t JOIN pg_class c ON c.oid = t.typrelid WHERE c.relkind = 'c'
    UNION ALL
    SELECT 8, t.typname::text, '', t.typname || ' RANGE OF ' || format_type(r.rngsubtype, NULL)
    FROM types t JOIN pg_range r ON r.rngtypid = t.oid
    UNION ALL
    SELECT 9, c.relname::text, '', c.relname || ' SEQUENCE ' || format_type(s.seqtypid, NULL) || ' START ' || s.seqstart
        || ' BY ' || s.seqincrement || ' FROM ' || s.seqmin || ' TO ' || s.seqmax || ' CACHE ' || s.seqcache
        || CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END
    FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN here ON here.oid = c.relnamespace
    UNION ALL
    SELECT 10, p.tablename::text, p.policyname::text, p.tablename || ' POLICY ' || p.policyname || ' ' || p.permissive
        || ' ' || p.cmd || ' TO ' || array_to_string(p.roles, ', ')
        || coalesce(' USING ' || p.qual, '') || coalesce(' CHECK ' || p.with_check, '')
    FROM pg_policies p JOIN here ON here.nspname = p.schemaname
    UNION ALL
    SELECT 11, r.tablename::text, r.rulename::text, r.definition
    FROM pg_rules r JOIN here ON here.nspname = r.schemaname
    UNION ALL
    SELECT 12, s.stxname::text, '', pg_get_statisticsobjdef(s.oid)
    FROM pg_statistic_ext s JOIN here ON here.oid = s.stxnamespace
    UNION ALL
    SELECT 13, e.extname::text, '', e.extname || ' EXTENSION'
    FROM pg_extension e JOIN here ON here.oid = e.extnamespace
) AS all_of_it ORDER BY part, of, key, line";

/// Compares two schemas, without looking at white space.
fn same(expected: &str, found: &str, message: &str, name: &str) -> Result<()> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (expected, found) = (words(expected), words(found));
    let Some(at) = (0..expected.len().max(found.len())).find(|at| expected.get(*at) != found.get(*at)) else {
        return Ok(());
    };
    let around = |words: &[String]| {
        let part = words.get(at.saturating_sub(4)..words.len().min(at + 4)).unwrap_or_default();
        if part.is_empty() { "the end".to_owned() } else { part.join(" ") }
    };
    let message = format!("{message}: it has `{}`, and {name} it was `{}`", around(&found), around(&expected));
    Err(Error::new(ErrorKind::Migration, message).hint("the schema of one of the two is not what you think it is"))
}
