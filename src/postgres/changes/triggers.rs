//! Triggers that notify of each statement that changed rows.
//!
//! One function for all tables, in a schema of its own, and four triggers to a table. They are statement triggers: they see the
//! rows that were changed as a table, and run once for each statement. Source: CREATE TRIGGER in PostgreSQL's reference.

use std::fmt::Write as _;

use crate::connector::{Connection as _, Statement, TransactionMode};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::postgres::connection::PostgresConnection;
use crate::row::Row;

/// The function, as an expression.
pub(super) const TELLING: &str = "pg_catalog.to_regprocedure('strongroom.tell_change()')";

/// How many triggers a table has that tells its changes.
pub(super) const TRIGGERS: i64 = 4;

/// The triggers that are in use, in a query with the table `c`.
pub(super) const IN_USE: &str = "(SELECT count(*) FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled IN ('O', 'A') \
     AND t.tgfoid = pg_catalog.to_regprocedure('strongroom.tell_change()'))";

/// Keys are sent in messages of so many: a message is less than 8,000 bytes long. Of more than 65,536 rows only the number is
/// sent, since no more are told.
const BODY: &str = "
DECLARE
    changed_rows bigint := 0;
    key_column name;
    said integer := coalesce(nullif(current_setting('strongroom.said', true), ''), '0');
    head text := txid_current() || ' ';
    kind text := ' ' || TG_RELID || ' ' || lower(left(TG_OP, 1)) || ' ';
    tail text := ' ' || length(TG_TABLE_SCHEMA) || ' ' || TG_TABLE_SCHEMA || TG_TABLE_NAME;
    part record;
BEGIN
    IF TG_OP <> 'TRUNCATE' THEN
        SELECT count(*) INTO changed_rows FROM changed;
        IF changed_rows = 0 THEN
            RETURN NULL;
        END IF;
        IF TG_NARGS > 0 AND changed_rows <= 65536 THEN
            SELECT attname INTO key_column FROM pg_attribute
                WHERE attrelid = TG_RELID AND attnum = CAST(TG_ARGV[0] AS integer) AND NOT attisdropped;
        END IF;
    END IF;
    IF key_column IS NULL THEN
        said := said + 1;
        PERFORM pg_notify('strongroom_changes', head || said || kind || least(changed_rows, 2147483647) || ' -' || tail);
    ELSE
        FOR part IN EXECUTE format(
            'SELECT count(*) AS total, string_agg(CAST(key AS text), '','' ORDER BY place) AS keys
             FROM (SELECT %I AS key, row_number() OVER () AS place FROM changed) AS numbered
             GROUP BY (place - 1) / 256 ORDER BY (place - 1) / 256', key_column)
        LOOP
            said := said + 1;
            PERFORM pg_notify('strongroom_changes', head || said || kind || part.total || ' ' || part.keys || tail);
        END LOOP;
    END IF;
    PERFORM set_config('strongroom.said', CAST(said AS text), true);
    RETURN NULL;
END
";

/// A table whose changes are to be told, or not any more.
struct TriggeredTable {
    oid: i64,
    /// With its schema, in quotes where needed.
    name: String,
    in_use: i64,
    /// The number of the column that is its key, if that is one integer.
    key: Option<i64>,
    /// The triggers send the key.
    sends_key: bool,
    /// Schema and name as a message has them, as a literal.
    literal: String,
}

impl PostgresConnection {
    pub(crate) async fn install_triggers(&mut self, tables: Vec<String>, rows: bool) -> Result<()> {
        self.in_one_transaction(tables, Some(rows)).await
    }

    pub(crate) async fn remove_triggers(&mut self, tables: Vec<String>) -> Result<()> {
        self.in_one_transaction(tables, None).await
    }

    /// Installs with rows or without, or removes.
    async fn in_one_transaction(&mut self, tables: Vec<String>, rows: Option<bool>) -> Result<()> {
        self.begin(TransactionMode::WRITE).await?;
        match Box::pin(self.set_up(tables, rows)).await {
            Ok(()) => self.commit().await,
            Err(error) => {
                self.rollback().await?;
                Err(match error.reason() {
                    Reason::NotPermitted => error.hint(
                        "the owner of the tables does this, once, and needs the right to make schemas; to listen needs no rights",
                    ),
                    _ => error,
                })
            }
        }
    }

    async fn set_up(&mut self, tables: Vec<String>, rows: Option<bool>) -> Result<()> {
        // Each statement sees what was committed before it, whatever the server's default is; one at a time.
        let alone =
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT pg_catalog.pg_advisory_xact_lock(8391171842671)";
        self.run_script(alone.into()).await?;
        let mut script = String::new();
        if rows.is_some() {
            self.add_function(&mut script).await?;
        }
        for name in tables {
            for table in self.with_children(&name).await? {
                match rows {
                    Some(rows) => table.install(rows, &mut script),
                    None => table.remove(&mut script),
                }
            }
        }
        if !script.is_empty() {
            self.run_script(script.as_str().into()).await?;
        }
        if rows.is_none() {
            self.remove_function().await?;
        }
        Ok(())
    }

    /// Unless it is there as it should be.
    async fn add_function(&mut self, script: &mut String) -> Result<()> {
        let sql = format!(
            "SELECT pg_catalog.to_regnamespace('strongroom') IS NOT NULL, \
             EXISTS (SELECT FROM pg_catalog.pg_proc WHERE oid = {TELLING} AND prosrc = $1)"
        );
        let rows = self.run(Statement::new(sql, (BODY,))?).await?;
        let row = rows.first().ok_or_else(nothing_said)?;
        if !row.get::<bool>(0)? {
            script.push_str("CREATE SCHEMA strongroom; GRANT USAGE ON SCHEMA strongroom TO PUBLIC;\n");
        }
        if !row.get::<bool>(1)? {
            let head = "CREATE OR REPLACE FUNCTION strongroom.tell_change() RETURNS trigger LANGUAGE plpgsql \
                 SET search_path = pg_catalog, pg_temp AS";
            writeln!(script, "{head} $strongroom${BODY}$strongroom$;").ok();
        }
        Ok(())
    }

    /// Once no trigger uses it any more, and if it is ours to remove.
    async fn remove_function(&mut self) -> Result<()> {
        let sql = format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.oid = {TELLING} \
                AND pg_catalog.pg_has_role(p.proowner, 'USAGE') \
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgfoid = p.oid))"
        );
        let rows = self.run(Statement::new(sql, ())?).await?;
        if !rows.first().ok_or_else(nothing_said)?.get::<bool>(0)? {
            return Ok(());
        }
        self.run_script("DROP FUNCTION strongroom.tell_change()".into()).await?;
        let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = 'strongroom' \
                AND pg_catalog.pg_has_role(n.nspowner, 'USAGE') AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
                    WHERE d.refclassid = CAST('pg_catalog.pg_namespace' AS regclass) AND d.refobjid = n.oid))";
        let rows = self.run(Statement::new(sql, ())?).await?;
        if rows.first().ok_or_else(nothing_said)?.get::<bool>(0)? {
            self.run_script("DROP SCHEMA strongroom".into()).await?;
        }
        Ok(())
    }

    /// A table with its partitions and those that inherit from it.
    async fn with_children(&mut self, name: &str) -> Result<Vec<TriggeredTable>> {
        let sql = format!(
            "WITH RECURSIVE named (oid) AS (SELECT c.oid FROM pg_catalog.pg_class c \
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') \
                AND (c.relname IN (CAST($1 AS text), lower(CAST($1 AS text))) AND pg_catalog.pg_table_is_visible(c.oid) \
                    OR n.nspname || '.' || c.relname IN (CAST($1 AS text), lower(CAST($1 AS text)))) \
                ORDER BY CAST($1 AS text) IN (c.relname, n.nspname || '.' || c.relname) DESC LIMIT 1), \
            down (oid) AS (SELECT oid FROM named UNION \
                SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN down d ON i.inhparent = d.oid), \
            keyed (oid, number) AS (SELECT x.indrelid, a.attnum FROM pg_catalog.pg_index x \
                JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0] \
                WHERE x.indisprimary AND x.indnkeyatts = 1 AND a.atttypid IN (20, 21, 23)) \
            SELECT CAST(c.oid AS bigint), format('%I.%I', n.nspname, c.relname), CAST(c.relkind AS text), \
                CAST(c.relpersistence AS text), {IN_USE}, CAST(k.number AS bigint), \
                EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgfoid = {TELLING} \
                    AND t.tgargs = convert_to(CAST(k.number AS text), 'UTF8') || CAST('\\x00' AS bytea)), \
                quote_literal(length(n.nspname) || ' ' || n.nspname || c.relname), c.oid IN (SELECT oid FROM named) \
            FROM down d JOIN pg_catalog.pg_class c ON c.oid = d.oid \
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN keyed k ON k.oid = c.oid"
        );
        let rows = self.run(Statement::new(sql, (name,))?).await?;
        if rows.is_empty() {
            return Err(Error::new(ErrorKind::Query, format!("there is no table {name} whose changes could be told"))
                .because(Reason::Missing)
                .hint("name it as it was created, with its schema and a dot if that is not in the search path"));
        }
        let mut all = Vec::with_capacity(rows.len());
        for row in &rows {
            let (kind, persistence): (String, String) = (row.get(2)?, row.get(3)?);
            match why_not(&kind, &persistence) {
                // Rows on another server that belong to a table here.
                Some(_) if !row.get::<bool>(8)? => {}
                Some((what, hint)) => {
                    let message = format!("{name} is {what}, which tells no changes");
                    return Err(Error::new(ErrorKind::Unsupported, message).hint(hint));
                }
                None => all.push(TriggeredTable::of(&row)?),
            }
        }
        Ok(all)
    }
}

/// Why what is of this kind cannot tell its changes.
pub(super) fn why_not(kind: &str, persistence: &str) -> Option<(&'static str, &'static str)> {
    match (kind, persistence) {
        (_, "t") => Some(("a temporary table", "use one that others can see")),
        ("r" | "p", _) => None,
        ("v", _) => Some(("a view", "name the tables that it reads")),
        ("m", _) => Some(("a materialized view", "follow the tables that it reads, and refresh it")),
        ("f", _) => Some(("a table on another server", "follow it there")),
        _ => Some(("no table", "ask for it from time to time")),
    }
}

impl TriggeredTable {
    fn of(row: &Row) -> Result<Self> {
        Ok(Self {
            oid: row.get(0)?,
            name: row.get(1)?,
            in_use: row.get(4)?,
            key: row.get(5)?,
            sends_key: row.get(6)?,
            literal: row.get(7)?,
        })
    }

    fn install(&self, rows: bool, script: &mut String) {
        if self.in_use == TRIGGERS && (self.sends_key || !rows || self.key.is_none()) {
            return;
        }
        self.drop_triggers(script);
        let key = self.key.filter(|_| rows || self.sends_key).map_or(String::new(), |number| format!("'{number}'"));
        for (event, sees) in [("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD"), ("TRUNCATE", "")] {
            let (name, table) = (event.to_lowercase(), &self.name);
            let seen = if sees.is_empty() { String::new() } else { format!("REFERENCING {sees} TABLE AS changed") };
            writeln!(
                script,
                "CREATE TRIGGER strongroom_tells_{name} AFTER {event} ON {table} {seen} FOR EACH STATEMENT \
                 EXECUTE FUNCTION strongroom.tell_change({key});"
            )
            .ok();
        }
        self.tell(script);
    }

    fn remove(&self, script: &mut String) {
        self.drop_triggers(script);
        self.tell(script);
    }

    fn drop_triggers(&self, script: &mut String) {
        for event in ["insert", "update", "delete", "truncate"] {
            writeln!(script, "DROP TRIGGER IF EXISTS strongroom_tells_{event} ON {};", self.name).ok();
        }
    }

    /// Has those who listen look again which tables tell.
    fn tell(&self, script: &mut String) {
        let (oid, literal) = (self.oid, &self.literal);
        writeln!(
            script,
            "SELECT pg_catalog.pg_notify('strongroom_changes', pg_catalog.txid_current() || ' 0 {oid} s 0 - ' || {literal});"
        )
        .ok();
    }
}

#[cold]
fn nothing_said() -> Error {
    Error::new(ErrorKind::Query, "the server did not say what it has")
}
