//! Whatever is done to tables, by whichever call and in whichever order: each table that differs afterwards was told, what is told
//! as exact adds up, and whatever changes nothing is silent. The oracle reads the tables before and after.
#![cfg(feature = "sqlcipher")]

mod common;
#[path = "common/told.rs"]
mod told;

use std::collections::BTreeMap;

use common::{Home, Kind, secs};
use futures_util::future::join_all;
use strongroom::database::{Change, ChangeOptions, ChangeStream};
use strongroom::{AsyncDatabase, Error, ErrorKind, Result};
use tokio::time::timeout;
use told::{counts, tables};

const SCHEMA: &str = "CREATE TABLE plain (a INTEGER PRIMARY KEY, b);
    CREATE TABLE unique_b (a INTEGER PRIMARY KEY, b UNIQUE ON CONFLICT IGNORE);
    CREATE TABLE w (a PRIMARY KEY, b) WITHOUT ROWID;
    CREATE TABLE parents (a INTEGER PRIMARY KEY, b);
    CREATE TABLE children (a INTEGER PRIMARY KEY, b REFERENCES parents ON DELETE CASCADE ON UPDATE SET NULL);
    CREATE TABLE nephews (a PRIMARY KEY, b REFERENCES parents ON DELETE CASCADE) WITHOUT ROWID;
    CREATE TABLE watched (a INTEGER PRIMARY KEY, b);
    CREATE TABLE audit (a INTEGER PRIMARY KEY, b);
    CREATE TRIGGER on_insert AFTER INSERT ON watched BEGIN INSERT INTO audit (b) VALUES ('i'); UPDATE w SET b = new.a; END;
    CREATE TRIGGER on_delete AFTER DELETE ON watched BEGIN DELETE FROM audit; END;
    CREATE VIEW both AS SELECT a, b FROM plain UNION ALL SELECT a, b FROM w;
    CREATE TRIGGER into_both INSTEAD OF INSERT ON both BEGIN
        INSERT INTO plain VALUES (new.a, new.b); INSERT OR REPLACE INTO w VALUES (new.a, new.b); END;
    CREATE VIRTUAL TABLE docs USING fts5 (a, b);
    CREATE VIRTUAL TABLE outer_docs USING fts5 (a, b, content='outer_docs_content', content_rowid='a');
    CREATE TABLE outer_docs_content (a INTEGER PRIMARY KEY, b);
    CREATE TRIGGER to_docs AFTER INSERT ON outer_docs_content BEGIN
        INSERT INTO outer_docs (rowid, a, b) VALUES (new.a, new.a, new.b); END;
    CREATE TABLE marks (a)";

const TABLES: [&str; 10] =
    ["plain", "unique_b", "w", "parents", "children", "nephews", "watched", "audit", "docs", "outer_docs_content"];

/// Each may be run at any time, and may fail.
const STATEMENTS: [&str; 52] = [
    "INSERT INTO plain (b) VALUES (1)",
    "INSERT INTO plain (b) SELECT value FROM json_each('[1, 2, 3]')",
    "UPDATE plain SET b = b + 1",
    "UPDATE plain SET a = a + 1000 WHERE a = (SELECT min(a) FROM plain)",
    "DELETE FROM plain WHERE a % 2",
    "DELETE FROM plain",
    " DELETE FROM plain ",
    "DELETE FROM plain WHERE a < 0",
    "INSERT INTO plain (b) VALUES (1) RETURNING a",
    "INSERT INTO unique_b (b) VALUES (7), (8)",
    "INSERT OR IGNORE INTO unique_b (b) VALUES (7)",
    "INSERT OR REPLACE INTO unique_b VALUES (1, 7), (2, 8), (3, 7)",
    "INSERT OR ABORT INTO unique_b (b) VALUES (9), (9)",
    "INSERT OR FAIL INTO unique_b (b) VALUES (10), (11), (10), (12)",
    "INSERT INTO unique_b (b) VALUES (7) ON CONFLICT (b) DO UPDATE SET b = b + 100",
    "INSERT INTO unique_b (b) VALUES (7) ON CONFLICT DO NOTHING",
    "UPDATE OR REPLACE unique_b SET b = 5",
    "DELETE FROM unique_b",
    "INSERT INTO w VALUES (1, 1)",
    "INSERT OR REPLACE INTO w VALUES (1, 2), (2, 3)",
    "UPDATE w SET b = b + 1",
    "DELETE FROM w WHERE a = 2",
    "DELETE FROM w",
    "INSERT OR IGNORE INTO parents VALUES (1, 1), (2, 2)",
    "INSERT INTO children (b) SELECT a FROM parents",
    "INSERT OR IGNORE INTO nephews SELECT a, a FROM parents",
    "DELETE FROM parents WHERE a = 1",
    "DELETE FROM parents",
    "REPLACE INTO parents VALUES (2, 3)",
    "UPDATE parents SET a = a + 10",
    "INSERT INTO children (b) VALUES (77)",
    "INSERT INTO watched (b) VALUES (1)",
    "DELETE FROM watched",
    "INSERT INTO both VALUES (abs(random() % 9), 3)",
    "INSERT INTO docs VALUES ('a word', 'another')",
    "UPDATE docs SET b = b || ' more'",
    "DELETE FROM docs WHERE docs MATCH 'another'",
    "INSERT INTO docs (docs) VALUES ('optimize')",
    "INSERT INTO outer_docs_content (b) VALUES ('a word')",
    "DELETE FROM outer_docs_content",
    "ALTER TABLE plain RENAME TO plane",
    "ALTER TABLE plane RENAME TO plain",
    "DROP TABLE audit",
    "CREATE TABLE IF NOT EXISTS audit (a INTEGER PRIMARY KEY, b)",
    "CREATE INDEX IF NOT EXISTS by_b ON plain (b)",
    "DROP INDEX IF EXISTS by_b",
    "CREATE TRIGGER IF NOT EXISTS more AFTER UPDATE ON w BEGIN INSERT INTO plain (b) VALUES (new.b); END",
    "DROP TRIGGER IF EXISTS more",
    "ANALYZE",
    "VACUUM",
    "WITH n AS (SELECT 1) INSERT INTO plain (b) SELECT * FROM n",
    "SELECT count(*) FROM plain",
];

/// How a statement is run.
const WAYS: usize = 13;

async fn run(db: &AsyncDatabase, way: usize, sql: &'static str, then: &'static str) -> Result<()> {
    let undone = || Error::new(ErrorKind::Query, "changed my mind");
    match way {
        0 | 1 => db.execute(sql, ()).await.map(drop),
        2 => db.execute_script(&format!("{sql}; {then}")).await,
        3 => {
            let mut own = db.connection().await?;
            own.execute_script("BEGIN").await?;
            own.execute(sql, ()).await.ok();
            own.execute_many(then, [(), ()]).await.ok();
            own.execute("COMMIT", ()).await.map(drop)
        }
        4 => db
            .transaction(async |tx| Ok((tx.execute(sql, ()).await.ok(), tx.execute(then, ()).await.ok())))
            .await
            .map(drop),
        5 => {
            db.transaction(async |tx| {
                tx.execute(sql, ()).await.ok();
                tx.execute(then, ()).await.ok();
                Err::<(), _>(undone())
            })
            .await
        }
        6 => {
            db.transaction(async |tx| {
                tx.execute(sql, ()).await.ok();
                let mut inner = tx.begin().await?;
                inner.execute(then, ()).await.ok();
                inner.rollback().await
            })
            .await
        }
        7 => {
            let mut own = db.connection().await?;
            let script = format!("BEGIN; SAVEPOINT one; {sql}; ROLLBACK TO one; {then}; RELEASE one; COMMIT");
            let outcome = own.execute_script(&script).await;
            own.execute("ROLLBACK", ()).await.ok();
            outcome
        }
        8 => db.interact(move |c| Ok((c.execute_batch(sql).ok(), c.execute_batch(then).ok()))).await.map(drop),
        9 => db.execute_many(sql, [(), ()]).await.map(drop),
        10 => {
            // Those that wait together run as one transaction.
            let held = db.connection().await?;
            let mut waiting = Box::pin(join_all([sql, then, sql].map(|sql| db.execute(sql, ()))));
            assert!(futures_util::poll!(&mut waiting).is_pending());
            drop(held);
            waiting.await;
            Ok(())
        }
        11 => {
            let mut dropped = db.begin().await?;
            dropped.execute(sql, ()).await.ok();
            Ok(())
        }
        // Nobody waits for it.
        _ => {
            let mut call = Box::pin(db.execute(sql, ()));
            let _ = futures_util::poll!(&mut call);
            Ok(())
        }
    }
}

/// The rows of each table, as text; of one that is not there, nothing.
async fn state(db: &AsyncDatabase) -> BTreeMap<&'static str, Option<(i64, String)>> {
    let mut state = BTreeMap::new();
    for table in TABLES {
        let sql = format!(
            "SELECT count(*), coalesce(group_concat(key || '=' || quote(a) || quote(b)), '') FROM
             (SELECT {} AS key, a, b FROM {table} ORDER BY 1)",
            if ["w", "nephews"].contains(&table) { "a" } else { "rowid" }
        );
        state.insert(table, db.fetch_one_as(&sql, ()).await.ok().flatten());
    }
    state
}

/// What was told of until a mark that is made now.
async fn told(db: &AsyncDatabase, changes: &mut ChangeStream) -> Vec<Change> {
    db.execute("INSERT INTO marks VALUES (1)", ()).await.unwrap();
    let mut told = Vec::new();
    loop {
        let change = timeout(secs(10), changes.next()).await.expect("the mark is told").expect("it is open");
        if change.table("marks").is_some() {
            let mark = (tables(&change), change.commits, counts(&change, "marks"));
            assert_eq!(mark, (vec!["marks"], 1, (1, 0, 0)), "nothing else is told of it");
            return told;
        }
        told.push(change);
    }
}

fn seed() -> u64 {
    std::env::var("STRONGROOM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_129)
}

#[tokio::test]
async fn each_table_that_differs_was_told_and_what_changes_nothing_is_not() -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed());
    for (kind, rows) in [
        (Kind::PlainFile, false),
        (Kind::PlainFile, true),
        (Kind::PlainMemory, false),
        (Kind::KeyedMemory, true),
        (Kind::KeyedFile, false),
    ] {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(SCHEMA).await?;
        let options = ChangeOptions::new().rows(rows).capacity(64);
        let mut changes = db.changes_with(options).await?;
        let mut before = state(&db).await;
        let mut done = Vec::new();
        for _ in 0..700 {
            let [sql, then] = [(); 2].map(|()| STATEMENTS[random.usize(..STATEMENTS.len())]);
            let way = random.usize(..WAYS);
            let outcome = run(&db, way, sql, then).await.map_err(|error| error.to_string());
            if random.u8(..) < 8 {
                let mut watched = db.watch("SELECT * FROM w", ());
                watched.next().await.unwrap()?;
            }
            if random.u8(..) < 8 {
                // Whoever writes next is another connection, and the last listener may have gone meanwhile.
                changes = db.changes_with(options).await?;
                db.suspend().await?;
                db.resume();
                db.execute("INSERT INTO marks VALUES (0)", ()).await?;
                while timeout(secs(10), changes.next()).await.unwrap().unwrap().table("marks").is_none() {}
                before = state(&db).await;
                continue;
            }
            let told = told(&db, &mut changes).await;
            let after = state(&db).await;
            done.push(format!("{way}: {sql}; {then}: {outcome:?}"));
            let last = &done[done.len().saturating_sub(4)..];
            let context = format!("{kind:?}, rows {rows}, seed {}: {last:#?}\ntold: {told:#?}", seed());
            let schema = told.iter().any(|change| change.schema);
            assert!(told.iter().all(|change| !change.is_empty()), "an event of nothing; {context}");
            for table in TABLES {
                let (was, is) = (&before[table], &after[table]);
                let of: Vec<_> = told.iter().filter_map(|change| change.table(table)).collect();
                let unknown = told.iter().any(|change| change.unattributed);
                if was != is && !unknown {
                    let defined = was.is_none() || is.is_none();
                    assert!(!of.is_empty() || defined && schema, "{table} differs, and is not told; {context}");
                }
                let text = format!("{sql} {then}");
                let replaces = text.contains("REPLACE") || text.contains("both");
                if replaces {
                    continue;
                }
                if let (Some((was, _)), Some((is, _)), false, false) = (was, is, schema, replaces)
                    && of.iter().all(|change| change.exact)
                {
                    let grown: i64 = of.iter().map(|t| t.inserted.cast_signed() - t.deleted.cast_signed()).sum();
                    assert_eq!(is - was, grown, "{table} has other counts; {context}");
                }
            }
            if before == after && ([5, 11].contains(&way) || sql.starts_with("SELECT") && way == 0) {
                assert!(told.is_empty(), "nothing was committed; {context}");
            }
            before = after;
        }
        drop(changes);
        db.close().await?;
    }
    Ok(())
}
