//! What one-liners run, what they refuse, and that a refused statement has done nothing.
#![cfg(feature = "sqlcipher")]

mod common;

use common::{Home, Kind, count, kinds, memory, with_table};
use strongroom::{AsyncDatabase, ErrorKind, Reason};

const REFUSED: (ErrorKind, Reason) = (ErrorKind::Unsupported, Reason::Control);

/// Statements that need a connection of one's own, on every database.
const CONTROLLING: &[&str] = &[
    "BEGIN",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "END",
    "ROLLBACK",
    "SAVEPOINT a",
    "RELEASE a",
    "ROLLBACK TO a",
    "ATTACH ':memory:' AS other",
    "ATTACH '' AS other",
    "DETACH other",
    "PRAGMA foreign_keys = OFF",
    "PRAGMA foreign_keys(0)",
    "EXPLAIN PRAGMA foreign_keys = OFF",
    "/* hidden */ PRAGMA main.foreign_keys = OFF",
    "PRAGMA recursive_triggers = ON",
    "PRAGMA query_only = OFF",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA synchronous = OFF",
    "PRAGMA busy_timeout = 0",
    "PRAGMA cache_size = 1",
    "PRAGMA writable_schema = ON",
    "PRAGMA case_sensitive_like = ON",
    "PRAGMA schema_version = 7",
    "CREATE TEMP TABLE x (a)",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE TEMP VIEW x AS SELECT 1",
    "CREATE TABLE temp.x (a)",
    "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE temp.x USING fts5(a)",
    "  -- comment\n begin",
];

async fn is_untouched(db: &AsyncDatabase, sql: &str) {
    let mut writer = db.connection().await.unwrap();
    let names = "SELECT name FROM pragma_database_list WHERE name <> 'temp'";
    let databases: Vec<String> = writer.fetch_all_as(names, ()).await.unwrap();
    assert_eq!(databases, ["main"], "{sql} attached something");
    let temporary: i64 = writer.fetch_value("SELECT count(*) FROM temp.sqlite_schema", ()).await.unwrap().unwrap();
    assert_eq!(temporary, 0, "{sql} made something temporary");
    for (pragma, value) in [("foreign_keys", 1), ("synchronous", 3), ("query_only", 0), ("recursive_triggers", 0)] {
        let found: i64 = writer.fetch_value(&format!("PRAGMA {pragma}"), ()).await.unwrap().unwrap();
        assert_eq!(found, value, "{sql} changed {pragma}");
    }
    let like: i64 = writer.fetch_value("SELECT 'a' LIKE 'A'", ()).await.unwrap().unwrap();
    assert_eq!(like, 1, "{sql} changed LIKE");
    let inside = writer.interact(|c| Ok(!c.is_autocommit())).await.unwrap();
    assert!(!inside, "{sql} left a transaction open");
}

#[tokio::test]
async fn what_controls_a_transaction_or_a_session_is_refused_with_the_way_out_and_has_no_effect() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        for sql in CONTROLLING {
            let errors = [
                db.execute(sql, ()).await.unwrap_err(),
                db.fetch_all(sql, ()).await.unwrap_err(),
                db.fetch_one(sql, ()).await.unwrap_err(),
                db.execute_many(sql, [()]).await.unwrap_err(),
                db.begin().await.unwrap().execute(sql, ()).await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!(kinds(&error), REFUSED, "{kind:?}: {sql}: {error}");
                assert!(error.to_string().contains("; "), "no way out: {error}");
            }
            is_untouched(&db, sql).await;
        }
        assert!(db.stats().total_opened <= 3, "{kind:?}: refusing costs no connection: {:?}", db.stats());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_has_no_effect_on_those_who_waited_for_the_writer_with_it() {
    for kind in [Kind::KeyedFile, Kind::KeyedMemory] {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        for (n, sql) in CONTROLLING.iter().chain(&["PRAGMA query_only = ON"]).enumerate() {
            let held = db.connection().await.unwrap();
            let run = |sql: String| {
                let db = db.clone();
                tokio::spawn(async move { db.execute(&sql, ()).await })
            };
            let refused = run((*sql).to_owned());
            common::eventually("it waits", || db.stats().waiting == 1).await;
            let written = run(format!("INSERT INTO t VALUES ({n}, {n})"));
            common::eventually("both wait", || db.stats().waiting == 2).await;
            drop(held);
            let error = refused.await.unwrap().unwrap_err();
            assert_eq!(kinds(&error), REFUSED, "{kind:?}: {sql}: {error}");
            written.await.unwrap().unwrap_or_else(|error| panic!("{kind:?}: {sql}: {error}"));
            is_untouched(&db, sql).await;
        }
        assert!(db.stats().total_opened <= 3, "{kind:?}: refusing costs no connection: {:?}", db.stats());
    }
}

#[tokio::test]
async fn a_file_name_that_is_computed_or_bound_is_attached_no_more_than_a_literal_one() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        let other = home.directory.path().join("other.db");
        let name = other.to_str().unwrap();
        let error = db.execute("ATTACH $1 AS other", (name,)).await.unwrap_err();
        assert_eq!(kinds(&error), REFUSED, "{kind:?}: {error}");
        let error = db.execute(&format!("ATTACH '{name}' || '' AS other"), ()).await.unwrap_err();
        assert_eq!(kinds(&error), REFUSED, "{kind:?}: {error}");
        let error = db.execute("DETACH $1", ("other",)).await.unwrap_err();
        assert_eq!(kinds(&error), REFUSED, "{kind:?}: {error}");
        is_untouched(&db, "ATTACH $1").await;
        assert!(!other.exists(), "{kind:?}: nothing was created");
    }
}

#[tokio::test]
async fn what_only_tells_something_is_allowed() {
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    with_table(&db).await;
    for sql in [
        "PRAGMA foreign_keys",
        "PRAGMA table_info(t)",
        "PRAGMA journal_mode",
        "PRAGMA integrity_check(10)",
        "PRAGMA user_version",
        "PRAGMA database_list",
        "PRAGMA cipher_version",
        "SELECT name FROM pragma_table_info('t')",
        "EXPLAIN QUERY PLAN SELECT * FROM t",
        "EXPLAIN DELETE FROM t",
        "VALUES (1), (2)",
        "WITH a(x) AS (VALUES (1)) SELECT x FROM a",
        "SELECT 'BEGIN', \"id\" FROM t -- COMMIT",
        "SELECT random()",
    ] {
        db.fetch_all(sql, ()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    assert_eq!(db.fetch_value::<String>("PRAGMA journal_mode", ()).await.unwrap().unwrap(), "wal");
}

#[tokio::test]
async fn maintenance_runs_through_execute_on_every_kind_of_database() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        db.execute_many("INSERT INTO t (n) VALUES ($1)", (0..100).map(|n| (n,))).await.unwrap();
        for sql in [
            "VACUUM",
            "PRAGMA wal_checkpoint(TRUNCATE)",
            "PRAGMA optimize",
            "PRAGMA incremental_vacuum(1)",
            "ANALYZE",
            "REINDEX",
            "REINDEX t",
            "PRAGMA user_version = 3",
            "CREATE VIRTUAL TABLE words USING fts5(w)",
            "ALTER TABLE t ADD COLUMN extra",
            "ALTER TABLE t RENAME COLUMN extra TO more",
            "ALTER TABLE t DROP COLUMN more",
            "ALTER TABLE words RENAME TO vocabulary",
            "CREATE TRIGGER follow AFTER INSERT ON t BEGIN UPDATE t SET n = n; END",
            "DROP TRIGGER follow",
            "DROP TABLE vocabulary",
        ] {
            db.execute(sql, ()).await.unwrap_or_else(|error| panic!("{kind:?}: {sql}: {error}"));
        }
        assert_eq!(db.fetch_value::<i64>("PRAGMA user_version", ()).await.unwrap(), Some(3));
        assert_eq!(count(&db).await, 100);
        is_untouched(&db, "maintenance").await;
        for sql in ["VACUUM", "PRAGMA wal_checkpoint"] {
            let mut tx = db.begin().await.unwrap();
            let error = tx.execute(sql, ()).await.unwrap_err();
            assert_eq!(kinds(&error), REFUSED, "{kind:?}: {sql}: {error}");
            assert!(error.to_string().contains("execute()"), "{error}");
            tx.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
            tx.rollback().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_session_altered_through_a_raw_connection_never_reaches_the_next_borrower() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        for sql in [
            "PRAGMA foreign_keys = OFF",
            "PRAGMA synchronous = OFF",
            "PRAGMA recursive_triggers = ON",
            "PRAGMA case_sensitive_like = ON",
            "CREATE TEMP TABLE t (id, n)",
            "BEGIN IMMEDIATE",
        ] {
            let mut conn = db.connection().await.unwrap();
            conn.execute(sql, ()).await.unwrap();
            drop(conn);
            is_untouched(&db, sql).await;
            let mut conn = db.connection().await.unwrap();
            conn.execute_script(&format!("SELECT 1; {sql}")).await.unwrap();
            drop(conn);
            is_untouched(&db, &format!("script of {sql}")).await;
            let mut conn = db.connection().await.unwrap();
            conn.interact(move |c| c.execute_batch(sql)).await.unwrap();
            drop(conn);
            is_untouched(&db, &format!("interact with {sql}")).await;
        }
        assert!(db.fetch_all("SELECT * FROM temp.t", ()).await.is_err(), "{kind:?}: the temporary table is gone");
        assert_eq!(count(&db).await, 0);
    }
}

#[tokio::test]
async fn a_second_statement_is_refused_and_does_nothing_not_even_while_it_is_prepared() {
    let db = memory().await;
    with_table(&db).await;
    for sql in ["SELECT 1; INSERT INTO t (n) VALUES (1)", "INSERT INTO t (n) VALUES (1); SELECT 1"] {
        for error in [db.execute(sql, ()).await.unwrap_err(), db.fetch_all(sql, ()).await.unwrap_err()] {
            assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Syntax), "{error}");
            assert!(error.to_string().contains("execute_script"), "{error}");
        }
        let mut conn = db.connection().await.unwrap();
        assert_eq!(kinds(&conn.execute(sql, ()).await.unwrap_err()), (ErrorKind::Query, Reason::Syntax));
    }
    assert_eq!(count(&db).await, 0);
    let sql = "SELECT 1; PRAGMA foreign_keys = OFF";
    db.fetch_all(sql, ()).await.unwrap_err();
    is_untouched(&db, sql).await;
    let mut conn = db.connection().await.unwrap();
    conn.execute(sql, ()).await.unwrap_err();
    drop(conn);
    is_untouched(&db, "a pragma behind a statement on a raw connection").await;
    db.execute("SELECT 1; -- only a comment behind it", ()).await.unwrap();
}

#[tokio::test]
async fn texts_without_a_statement_are_answered_without_harm() {
    let db = memory().await;
    with_table(&db).await;
    for sql in ["", "   ", "-- nothing", ";", "/* open"] {
        let rows = db.fetch_all(sql, ()).await;
        assert!(rows.as_ref().is_ok_and(strongroom::Rows::is_empty) || rows.is_err(), "{sql:?}");
        assert_eq!(db.execute_script(sql).await.err().map(|error| error.kind()), None, "{sql:?}");
    }
    let error = db.execute("INSERT INTO t (n) VALUES (1)\0; DROP TABLE t", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query, "{error}");
    assert!(db.table_exists("t").await.unwrap());
    assert_eq!(count(&db).await, 0, "nothing of a text with a NUL byte was run");
}

#[tokio::test]
async fn a_script_may_use_transactions_of_its_own_but_leave_none_open() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        db.execute_script("BEGIN; INSERT INTO t (n) VALUES (1); COMMIT; INSERT INTO t (n) VALUES (2)").await.unwrap();
        assert_eq!(count(&db).await, 2);
        let error = db.execute_script("BEGIN; INSERT INTO t (n) VALUES (3)").await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Transaction, Reason::Control), "{error}");
        assert!(error.to_string().contains("COMMIT"), "{error}");
        assert_eq!(count(&db).await, 2, "{kind:?}");
        let error = db.execute_script("BEGIN; INSERT INTO t (n) VALUES (4); nonsense").await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Syntax), "{error}");
        assert_eq!(count(&db).await, 2, "{kind:?}: what a failed script began was rolled back");
        db.execute_script("PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF").await.unwrap();
        is_untouched(&db, "a script that alters the session").await;
    }
}

#[tokio::test]
async fn keys_ciphers_extensions_and_attached_files_are_refused_everywhere_on_an_encrypted_database() {
    const KEYED: &[&str] = &[
        "PRAGMA key = 'sesame'",
        "PRAGMA main.rekey = 'sesame'",
        "PRAGMA hexkey = '00'",
        "PRAGMA textkey = 'sesame'",
        "PRAGMA cipher_page_size = 512",
        "PRAGMA cipher_compatibility = 3",
        "PRAGMA cipher_default_kdf_iter = 1",
        "PRAGMA cipher_plaintext_header_size = 32",
        "SELECT load_extension('evil')",
        "ATTACH 'plain.db' AS plain KEY ''",
        "ATTACH ':memory:' AS plain",
    ];
    for kind in [Kind::KeyedFile, Kind::KeyedMemory] {
        let home = Home::new(kind);
        let db = home.open().await;
        for sql in KEYED {
            let mut conn = db.connection().await.unwrap();
            let errors = [
                conn.execute(sql, ()).await.unwrap_err(),
                conn.execute_script(sql).await.unwrap_err(),
                conn.interact(move |c| c.execute_batch(sql)).await.unwrap_err(),
                {
                    drop(conn);
                    db.execute(sql, ()).await.unwrap_err()
                },
                db.fetch_all(sql, ()).await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!(kinds(&error), REFUSED, "{kind:?}: {sql}: {error:?}");
                assert!(!format!("{error} {error:?}").contains("sesame"), "the key shows: {error:?}");
            }
            let hook = home
                .builder()
                .on_connect(move |connection| {
                    Box::pin(async move { connection.interact(move |c| c.execute_batch(sql)).await })
                })
                .open()
                .await;
            assert_eq!(kinds(&hook.unwrap_err()), REFUSED, "{kind:?}: {sql} in on_connect");
        }
        is_untouched(&db, "key pragmas").await;
        db.execute("CREATE TABLE t (a)", ()).await.unwrap();
    }
}

#[tokio::test]
async fn a_plain_database_lets_a_raw_connection_attach_and_nobody_else_sees_it() {
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    let other = home.directory.path().join("other.db");
    let mut conn = db.connection().await.unwrap();
    conn.execute("ATTACH $1 AS other", (other.to_str().unwrap(),)).await.unwrap();
    conn.execute_script("CREATE TABLE other.x (a); INSERT INTO other.x VALUES (5)").await.unwrap();
    assert_eq!(conn.fetch_value::<i64>("SELECT a FROM other.x", ()).await.unwrap(), Some(5));
    drop(conn);
    is_untouched(&db, "ATTACH").await;
    let error = db.fetch_all("SELECT * FROM other.x", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query, "{error}");
}
