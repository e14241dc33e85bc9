//! A database with one of everything that a copy could lose.
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

use strongroom::AsyncDatabase;
use strongroom::rusqlite::{Connection, Row};

pub const SCHEMA: &str = "
    PRAGMA user_version = 42;
    PRAGMA application_id = 1234567;
    CREATE TABLE plain (a, b TEXT, c BLOB, d REAL);
    INSERT INTO plain (rowid, a, b, c, d) VALUES (7, 1, 'one', x'00ff00', 1.5), (1000, NULL, '', zeroblob(9000), -0.0),
        (1001, 9007199254740993, 'nul' || char(0) || 'inside', x'', 1e300), (-5, 'text in a', 'ü€', NULL, 9e999);
    CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE COLLATE NOCASE);
    INSERT INTO counted (name) VALUES ('x'), ('y'), ('z');
    DELETE FROM counted WHERE name = 'z';
    CREATE TABLE keyed (k TEXT, n INTEGER, v, PRIMARY KEY (n DESC, k)) WITHOUT ROWID;
    INSERT INTO keyed VALUES ('b', 1, 'v1'), ('a', 2, 'v2'), ('a', 1, NULL);
    CREATE TABLE typed (i INT, t TEXT, any ANY) STRICT;
    INSERT INTO typed VALUES (1, 't', x'01'), (2, 'u', 'u');
    CREATE TABLE generated (a INTEGER, twice INTEGER GENERATED ALWAYS AS (a * 2) STORED, thrice AS (a * 3), z TEXT);
    INSERT INTO generated (a, z) VALUES (1, 'z'), (2, 'y');
    CREATE TABLE \"odd \"\"name\" (\"rowid\" TEXT, \"select\" INTEGER, [with space]);
    INSERT INTO \"odd \"\"name\" VALUES ('r', 1, 2);
    CREATE TABLE checked (n INTEGER CHECK (n > 0), parent INTEGER REFERENCES counted (id) ON DELETE CASCADE);
    INSERT INTO checked VALUES (1, 1), (2, 2);
    CREATE INDEX by_b ON plain (b DESC, a) WHERE a IS NOT NULL;
    CREATE UNIQUE INDEX by_sum ON checked (n + parent);
    CREATE VIEW seen AS SELECT name, n FROM counted JOIN checked ON parent = counted.id;
    CREATE TABLE log (what TEXT);
    CREATE TRIGGER noted AFTER INSERT ON counted BEGIN INSERT INTO log VALUES ('new ' || new.name); END;
    CREATE TRIGGER instead INSTEAD OF INSERT ON seen BEGIN INSERT INTO counted (name) VALUES (new.name); END;
    CREATE VIRTUAL TABLE words USING fts5 (body, content = '', contentless_delete = 1);
    INSERT INTO words (rowid, body) VALUES (10, 'the quick brown fox'), (20, 'a lazy dog');
    CREATE VIRTUAL TABLE texts USING fts5 (title, body);
    INSERT INTO texts VALUES ('first', 'hello world'), ('second', 'hello moon');
    CREATE VIRTUAL TABLE places USING rtree (id, x0, x1);
    INSERT INTO places VALUES (1, 0.0, 1.0), (2, 5.0, 6.0);
    ANALYZE;";

/// All that is stored, read in the order of the tables.
fn all(connection: &Connection) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |sql: &str| {
        let mut statement = connection.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let columns = statement.column_count();
        let line = |row: &Row<'_>| (0..columns).map(|column| row.get_ref(column).map(|v| format!("{v:?}"))).collect();
        let rows: Vec<Vec<String>> = statement
            .query_map((), line)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        found.push(sql.to_owned());
        found.extend(rows.into_iter().map(|row| row.join(" | ")));
    };
    for sql in [
        "PRAGMA user_version",
        "PRAGMA application_id",
        "PRAGMA auto_vacuum",
        "PRAGMA encoding",
        "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name",
        "SELECT rowid, * FROM plain ORDER BY rowid",
        "SELECT * FROM counted ORDER BY id",
        "SELECT name, seq FROM sqlite_sequence ORDER BY name",
        "SELECT * FROM sqlite_stat1 ORDER BY tbl, idx",
        "SELECT * FROM keyed",
        "SELECT * FROM typed ORDER BY rowid",
        "SELECT * FROM generated ORDER BY rowid",
        "SELECT _rowid_, * FROM \"odd \"\"name\"",
        "SELECT * FROM checked ORDER BY rowid",
        "SELECT * FROM seen ORDER BY n",
        "SELECT * FROM log",
        "SELECT rowid FROM words WHERE words MATCH 'lazy OR fox' ORDER BY rowid",
        "SELECT title FROM texts WHERE texts MATCH 'hello' ORDER BY rowid",
        "SELECT id FROM places WHERE x1 > 2",
    ] {
        add(sql);
    }
    found
}

pub async fn read(db: &AsyncDatabase) -> Vec<String> {
    db.interact(|connection| Ok(all(connection))).await.unwrap()
}

/// That what was copied also works: triggers fire, counters count on, indexes are used and whole.
pub async fn assert_works(db: &AsyncDatabase, what: &str) {
    let found = db
        .interact(|connection| {
            connection
                .execute_batch("INSERT INTO seen (name) VALUES ('new'); INSERT INTO texts VALUES ('third', 'hello')")?;
            let id: i64 = connection.query_row("SELECT id FROM counted WHERE name = 'NEW'", (), |row| row.get(0))?;
            let log: String =
                connection.query_row("SELECT what FROM log ORDER BY rowid DESC LIMIT 1", (), |row| row.get(0))?;
            let hits: i64 =
                connection.query_row("SELECT count(*) FROM texts WHERE texts MATCH 'hello'", (), |row| row.get(0))?;
            let whole: String = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
            Ok((id, log, hits, whole))
        })
        .await
        .unwrap();
    assert_eq!(found, (4, "new new".into(), 3, "ok".into()), "{what}");
}
