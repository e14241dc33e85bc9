//! What a statement answers: of itself alone, as much as was asked for, and all of it or nothing.
#![cfg(feature = "sqlite")]

mod common;

use common::{Home, Kind, count, kinds, secs, with_table};
use strongroom::{AsyncDatabase, ErrorKind, Reason};
use tokio::time::timeout;

const ENDLESS: &str = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";

#[tokio::test]
async fn one_row_is_fetched_of_rows_without_end() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let all = async {
            for _again in 0..3 {
                assert_eq!(db.fetch_value::<i64>(ENDLESS, ()).await.unwrap(), Some(1));
                assert_eq!(db.fetch_one(ENDLESS, ()).await.unwrap().unwrap().get::<i64>("i").unwrap(), 1);
                assert_eq!(db.fetch_one_as::<i64>(ENDLESS, ()).await.unwrap(), Some(1));
            }
            let mut tx = db.begin().await.unwrap();
            assert_eq!(tx.fetch_value::<i64>(ENDLESS, ()).await.unwrap(), Some(1));
            let mut nested = tx.begin().await.unwrap();
            nested.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
            assert_eq!(nested.fetch_value::<i64>(ENDLESS, ()).await.unwrap(), Some(1));
            nested.commit().await.unwrap();
            tx.commit().await.unwrap();
            let mut conn = db.connection().await.unwrap();
            assert_eq!(conn.fetch_value::<i64>(ENDLESS, ()).await.unwrap(), Some(1));
            drop(conn);
            assert_eq!(db.with_timeout(secs(5)).fetch_value::<i64>(ENDLESS, ()).await.unwrap(), Some(1));
            // Nothing of it is left running that would hold the log or the schema.
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)", ()).await.unwrap();
            db.execute("DROP TABLE t", ()).await.unwrap();
        };
        timeout(secs(20), all).await.expect("a read stops after its first row");
    }
}

#[tokio::test]
async fn a_write_of_which_one_row_is_fetched_runs_to_its_end() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let sql = "INSERT INTO t (n) WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
            SELECT i FROM n RETURNING n";
        assert_eq!(db.fetch_value::<i64>(sql, ()).await.unwrap(), Some(1));
        assert_eq!(count(&db).await, 1000, "{kind:?}");
        let mut tx = db.begin().await.unwrap();
        assert_eq!(tx.fetch_one(sql, ()).await.unwrap().unwrap().get::<i64>(0).unwrap(), 1);
        tx.commit().await.unwrap();
        assert_eq!(count(&db).await, 2000, "{kind:?}");
        let mut conn = db.connection().await.unwrap();
        assert_eq!(conn.fetch_one_as::<i64>("UPDATE t SET n = 0 RETURNING n", ()).await.unwrap(), Some(0));
        drop(conn);
        assert_eq!(db.fetch_value::<i64>("SELECT sum(n) FROM t", ()).await.unwrap(), Some(0), "{kind:?}");
    }
}

const SHOP: &str = "CREATE TABLE big (id INTEGER PRIMARY KEY, x); INSERT INTO big VALUES (4711, 0);
    CREATE TABLE kv (id INTEGER PRIMARY KEY, k TEXT UNIQUE, v); INSERT INTO kv VALUES (3, 'a', 0);
    CREATE TABLE bare (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    CREATE TABLE noted (id INTEGER PRIMARY KEY, x);
    CREATE TRIGGER noting AFTER INSERT ON kv BEGIN INSERT INTO noted (id, x) VALUES (9000 + new.id, 1); END;
    CREATE VIEW seen AS SELECT v FROM kv;
    CREATE TRIGGER through INSTEAD OF INSERT ON seen BEGIN INSERT INTO big (x) VALUES (new.v); END;
    CREATE VIRTUAL TABLE words USING fts5(w)";

/// Statements, and the rows and the id they may tell of after somebody else's insert.
const TOLD: &[(&str, u64, Option<i64>)] = &[
    ("INSERT INTO kv (k, v) VALUES ('a', 1) ON CONFLICT (k) DO UPDATE SET v = excluded.v", 1, None),
    ("INSERT INTO kv (k, v) VALUES ('a', 1) ON CONFLICT DO NOTHING", 0, None),
    ("INSERT OR IGNORE INTO kv (k, v) VALUES ('a', 1)", 0, None),
    ("INSERT INTO kv (k, v) SELECT 'x', 1 WHERE 0", 0, None),
    ("UPDATE kv SET v = 2", 1, None),
    ("DELETE FROM noted", 0, None),
    ("INSERT INTO bare VALUES ('a', 1)", 1, None),
    ("REPLACE INTO bare VALUES ('a', 2)", 1, None),
    ("INSERT INTO seen VALUES (5)", 0, None),
    ("EXPLAIN INSERT INTO big (x) VALUES (1)", 0, None),
    ("EXPLAIN QUERY PLAN DELETE FROM big", 0, None),
    ("SELECT * FROM big", 0, None),
    ("PRAGMA user_version = 3", 0, None),
    ("CREATE TABLE copied AS SELECT * FROM big", 0, None),
    ("CREATE INDEX by_x ON copied (x)", 0, None),
    ("ALTER TABLE copied ADD COLUMN more", 0, None),
    ("ANALYZE", 0, None),
    ("REINDEX", 0, None),
    ("DROP TABLE copied", 0, None),
    ("", 0, None),
    ("INSERT INTO kv (id, k, v) VALUES (20, 'b', 1) ON CONFLICT (k) DO UPDATE SET v = 1", 1, Some(20)),
    ("INSERT INTO kv (k, v) VALUES ('c', 1), ('a', 2) ON CONFLICT (k) DO UPDATE SET v = 1", 2, Some(21)),
    ("REPLACE INTO kv (id, k, v) VALUES (20, 'b', 3)", 1, Some(20)),
    ("INSERT INTO words VALUES ('hello')", 1, Some(1)),
    ("INSERT INTO kv (id, k) VALUES (0, 'zero')", 1, Some(0)),
];

#[tokio::test]
async fn changes_tell_of_nobody_elses_statement() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(SHOP).await.unwrap();
        for (sql, rows, id) in TOLD {
            db.execute("INSERT INTO big (x) VALUES (1), (2), (3)", ()).await.unwrap();
            let told = db.execute(sql, ()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!((told.rows_affected, told.last_insert_id), (*rows, *id), "{kind:?}: {sql}");
        }
    }
}

#[tokio::test]
async fn changes_tell_of_nobody_elses_statement_in_transactions_groups_and_bulk_inserts() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(SHOP).await.unwrap();
        let upsert = "INSERT INTO kv (k, v) VALUES ($1, 1) ON CONFLICT (k) DO UPDATE SET v = excluded.v";
        let insert = "INSERT INTO big (x) VALUES (1)";
        let mut tx = db.begin().await.unwrap();
        let id = tx.execute(insert, ()).await.unwrap().last_insert_id;
        assert_eq!(tx.execute(upsert, ("a",)).await.unwrap().last_insert_id, None);
        // What SQL itself remembers stays.
        assert_eq!(tx.fetch_value::<i64>("SELECT last_insert_rowid()", ()).await.unwrap(), id);
        assert_eq!(tx.execute_many(upsert, [("a",), ("a",)]).await.unwrap().last_insert_id, None);
        tx.rollback().await.unwrap();
        assert_eq!(db.execute_many(upsert, [("a",), ("a",)]).await.unwrap().last_insert_id, None, "{kind:?}");
        let calls = (0..40).map(|n| {
            let db = db.clone();
            tokio::spawn(async move {
                let told = db.execute(if n % 2 == 0 { upsert } else { insert }, ()).await;
                match (n % 2, told) {
                    (0, told) => assert!(told.is_err(), "a value is missing"),
                    (_, told) => assert!(told.unwrap().last_insert_id.unwrap() > 4711),
                }
                let told = db.execute(upsert, ("a",)).await.unwrap();
                assert_eq!((told.rows_affected, told.last_insert_id), (1, None));
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        let mut conn = db.connection().await.unwrap();
        conn.execute(insert, ()).await.unwrap();
        let row = conn.fetch_all(&format!("{upsert} RETURNING id"), ("a",)).await.unwrap();
        assert_eq!(row.changes().last_insert_id, None);
    }
}

#[tokio::test]
async fn an_insert_that_asks_for_the_last_id_has_one_of_its_own() {
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    let schema = "CREATE TABLE parent (id INTEGER PRIMARY KEY, x);
        CREATE TABLE child (id INTEGER PRIMARY KEY, parent UNIQUE);
        CREATE TABLE bare (parent PRIMARY KEY) WITHOUT ROWID";
    db.execute_script(schema).await.unwrap();
    db.transaction(async |tx| {
        assert_eq!(tx.execute("INSERT INTO parent (x) VALUES (1)", ()).await?.last_insert_id, Some(1));
        let told = tx.execute("INSERT INTO bare VALUES (last_insert_rowid())", ()).await?;
        assert_eq!((told.rows_affected, told.last_insert_id), (1, None));
        let told = tx.execute("INSERT INTO child (parent) VALUES (last_insert_rowid())", ()).await?;
        assert_eq!(told.last_insert_id, Some(1), "the same number, and its own");
        let upsert = "INSERT INTO child (parent) VALUES (last_insert_rowid())
            ON CONFLICT DO UPDATE SET parent = excluded.parent";
        assert_eq!(tx.execute(upsert, ()).await?.last_insert_id, None);
        Ok(())
    })
    .await
    .unwrap();
}

const FAILING: &str = "CREATE TABLE plain (a UNIQUE, b CHECK (b < 10)); CREATE TABLE own (a UNIQUE ON CONFLICT FAIL);
    CREATE TABLE watched (a);
    CREATE TRIGGER watching BEFORE INSERT ON watched WHEN new.a = 2 BEGIN SELECT RAISE(FAIL, 'no two'); END;
    INSERT INTO plain VALUES (10, 0), (11, 0), (12, 0)";

const HALFWAY: &[&str] = &[
    "INSERT OR FAIL INTO plain VALUES (1, 0), (2, 0), (2, 0)",
    "INSERT OR FAIL INTO plain VALUES (1, 0), (2, 0), (2, 0) RETURNING a",
    "INSERT OR FAIL INTO plain VALUES (1, 0), (2, 99)",
    "UPDATE OR FAIL plain SET a = a - 9, b = a WHERE a >= 10",
    "UPDATE OR FAIL plain SET a = 3",
    "INSERT INTO own VALUES (1), (2), (2)",
    "INSERT INTO watched VALUES (1), (2)",
    "INSERT OR ROLLBACK INTO plain VALUES (1, 0), (2, 0), (2, 0)",
    "INSERT OR ABORT INTO plain VALUES (1, 0), (2, 0), (2, 0)",
];

async fn rows(db: &AsyncDatabase) -> Vec<i64> {
    let sql = "SELECT a FROM plain UNION ALL SELECT a FROM own UNION ALL SELECT a FROM watched ORDER BY 1";
    db.fetch_all_as(sql, ()).await.unwrap()
}

#[tokio::test]
async fn a_statement_that_fails_half_way_has_changed_nothing() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        // Seen before there is anything that fails so.
        db.execute_script("CREATE TABLE early (a)").await.unwrap();
        db.execute_script(FAILING).await.unwrap();
        for sql in HALFWAY {
            for _again in 0..2 {
                db.execute(sql, ()).await.unwrap_err();
                db.fetch_all(sql, ()).await.unwrap_err();
                assert_eq!(rows(&db).await, [10, 11, 12], "{kind:?}: {sql}");
            }
            db.execute_many(sql, [()]).await.unwrap_err();
            let mut conn = db.connection().await.unwrap();
            conn.execute(sql, ()).await.unwrap_err();
            conn.execute("BEGIN", ()).await.unwrap();
            conn.execute(sql, ()).await.unwrap_err();
            conn.execute(if sql.contains("ROLLBACK") { "ROLLBACK" } else { "COMMIT" }, ()).await.ok();
            drop(conn);
            assert_eq!(rows(&db).await, [10, 11, 12], "{kind:?}: {sql}");
            let many = (0..8).map(|n| {
                let db = db.clone();
                let sql = if n == 3 { sql } else { "INSERT INTO early VALUES (1)" };
                tokio::spawn(async move { db.execute(sql, ()).await.is_ok() })
            });
            for (n, call) in many.collect::<Vec<_>>().into_iter().enumerate() {
                assert_eq!(call.await.unwrap(), n != 3, "{kind:?}: {sql}");
            }
            assert_eq!(rows(&db).await, [10, 11, 12], "{kind:?}: {sql}");
        }
        let told = db.execute("INSERT OR FAIL INTO plain VALUES (1, 0)", ()).await.unwrap();
        assert_eq!(told.rows_affected, 1);
        assert!(told.last_insert_id.is_some());
    }
}

#[tokio::test]
async fn a_statement_known_before_a_trigger_came_fails_as_a_whole_too() {
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    with_table(&db).await;
    let insert = "INSERT INTO t (n) VALUES (1), (2)";
    db.execute(insert, ()).await.unwrap();
    let trigger = "CREATE TRIGGER two BEFORE INSERT ON t WHEN new.n = 2 BEGIN SELECT RAISE(FAIL, 'no'); END";
    db.execute(trigger, ()).await.unwrap();
    db.execute(insert, ()).await.unwrap_err();
    assert_eq!(count(&db).await, 2);
    db.execute("DROP TRIGGER two", ()).await.unwrap();
    db.execute(insert, ()).await.unwrap();
    db.execute_script(trigger).await.unwrap();
    db.execute(insert, ()).await.unwrap_err();
    assert_eq!(count(&db).await, 4);
}

#[tokio::test]
async fn a_text_without_a_statement_has_no_effect() {
    use futures_util::TryStreamExt as _;

    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        for sql in ["", " \n", ";", ";;", "-- c", "/* c */", "; -- c\n"] {
            let told = db.execute(sql, ()).await.unwrap_or_else(|error| panic!("{sql:?}: {error}"));
            assert_eq!((told.rows_affected, told.last_insert_id), (0, None), "{sql:?}");
            assert!(db.fetch_all(sql, ()).await.unwrap().is_empty());
            assert!(db.fetch_one(sql, ()).await.unwrap().is_none());
            assert_eq!(db.fetch_value::<i64>(sql, ()).await.unwrap(), None);
            assert!(db.fetch_stream(sql, ()).try_next().await.unwrap().is_none());
            db.execute_script(sql).await.unwrap();
            assert_eq!(db.execute_many(sql, [(), ()]).await.unwrap().rows_affected, 0);
            let mut tx = db.begin().await.unwrap();
            tx.execute(sql, ()).await.unwrap();
            tx.execute_script(sql).await.unwrap();
            tx.commit().await.unwrap();
            let mut conn = db.connection().await.unwrap();
            conn.execute(sql, ()).await.unwrap();
            drop(conn);
            let error = db.execute(sql, (1,)).await.unwrap_err();
            assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Parameters), "{sql:?}: {error}");
        }
        let error = db.execute("SELECT 1; SELECT 2", ()).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Syntax));
        for sql in ["; INSERT INTO t (n) VALUES (1)", "INSERT INTO t (n) VALUES (1); -- c"] {
            assert_eq!(db.execute(sql, ()).await.unwrap().rows_affected, 1, "{sql}");
        }
    }
}

#[tokio::test]
async fn vacuum_into_a_file_that_exists_says_so_and_leaves_it_alone() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let target = home.directory.path().join("copy.db");
        let into = format!("VACUUM INTO '{}'", target.display());
        db.execute(&into, ()).await.unwrap();
        for _again in 0..2 {
            let before = std::fs::read(&target).unwrap();
            let error = db.execute(&into, ()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Query, "{kind:?}: {error}");
            assert!(error.to_string().contains("exists already"), "{kind:?}: {error}");
            assert_eq!(std::fs::read(&target).unwrap(), before, "{kind:?}");
            std::fs::write(&target, "something else, longer than a header of a database would be").unwrap();
        }
        assert_eq!(count(&db).await, 0, "{kind:?}");
    }
}

#[tokio::test]
async fn a_temporary_trigger_and_an_attached_table_that_fail_half_way_leave_nothing_either() {
    let db = common::memory().await;
    db.execute_script("CREATE TABLE t (n INTEGER)").await.unwrap();
    let mut holder = db.connection().await.unwrap();
    let trigger = "CREATE TEMP TRIGGER two BEFORE INSERT ON main.t WHEN new.n = 2 BEGIN SELECT RAISE(FAIL, 'no'); END";
    holder.execute(trigger, ()).await.unwrap();
    holder.execute("INSERT INTO t VALUES (1), (2)", ()).await.unwrap_err();
    assert_eq!(holder.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(0));
    holder
        .execute_script("ATTACH ':memory:' AS other; CREATE TABLE other.u (n UNIQUE ON CONFLICT FAIL)")
        .await
        .unwrap();
    holder.execute("INSERT INTO other.u VALUES (1), (1)", ()).await.unwrap_err();
    assert_eq!(holder.fetch_value::<i64>("SELECT count(*) FROM other.u", ()).await.unwrap(), Some(0));
}
