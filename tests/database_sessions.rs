//! What a caller does to a connection never reaches the next one.
#![cfg(feature = "sqlite")]

mod common;

use std::time::Duration;

use common::{ENDLESS, Home, Kind, count, kinds, with_table};
use strongroom::engine::StatementKind;
use strongroom::{AsyncDatabase, Connection as _, ErrorKind, Reason};

const REFUSED: (ErrorKind, Reason) = (ErrorKind::Unsupported, Reason::Control);

/// Pragmas that SQLite obeys while it prepares them, and what the pool's connections say.
const ACTING: &[(&str, &str, i64)] = &[
    ("synchronous = OFF", "synchronous", 3),
    ("foreign_keys = OFF", "foreign_keys", 1),
    ("query_only = ON", "query_only", 0),
    ("recursive_triggers = ON", "recursive_triggers", 0),
    ("ignore_check_constraints = ON", "ignore_check_constraints", 0),
    ("reverse_unordered_selects = ON", "reverse_unordered_selects", 0),
    ("cell_size_check = ON", "cell_size_check", 0),
    ("trusted_schema = OFF", "trusted_schema", 1),
    ("writable_schema = ON", "writable_schema", 0),
    ("wal_autocheckpoint = 7", "wal_autocheckpoint", 0),
    ("busy_timeout = 7", "busy_timeout", 0),
    ("analysis_limit = 7", "analysis_limit", 0),
    ("threads = 2", "threads", 0),
    ("secure_delete = ON", "secure_delete", 0),
];

async fn is_as_opened(db: &AsyncDatabase, what: &str) {
    let mut writer = db.connection().await.unwrap();
    for (_, pragma, expected) in ACTING {
        let found: Option<i64> = writer.fetch_value(&format!("PRAGMA {pragma}"), ()).await.unwrap();
        if matches!(*pragma, "busy_timeout" | "wal_autocheckpoint" | "secure_delete") {
            assert_ne!(found, Some(7), "{what} changed {pragma}");
        } else {
            assert_eq!(found, Some(*expected), "{what} changed {pragma}");
        }
    }
    let like: Option<i64> = writer.fetch_value("SELECT 'a' LIKE 'A'", ()).await.unwrap();
    assert_eq!(like, Some(1), "{what} changed LIKE");
    let deferred: Option<i64> = writer.fetch_value("PRAGMA defer_foreign_keys", ()).await.unwrap();
    assert_eq!(deferred, Some(0), "{what} left foreign keys deferred");
}

#[tokio::test]
async fn a_pragma_that_acts_while_it_is_prepared_does_not_outlive_its_caller_though_the_text_is_an_error() {
    let home = Home::new(Kind::PlainFile);
    let db = home.builder().pool_max(2).open().await.unwrap();
    with_table(&db).await;
    let like = ("case_sensitive_like = ON", "", 0);
    for (set, ..) in ACTING.iter().chain([&like]) {
        let broken = format!("PRAGMA {set}\nDROP TABLE t");
        let bad_later = format!("SELECT 1; PRAGMA {set}; SELECT no_such_column FROM t");
        db.execute_script(&broken).await.unwrap_err();
        is_as_opened(&db, &broken).await;
        db.execute_script(&bad_later).await.unwrap_err();
        is_as_opened(&db, &bad_later).await;
        db.execute(&broken, ()).await.unwrap_err();
        db.fetch_one(&broken, ()).await.unwrap_err();
        db.execute_many(&broken, [()]).await.unwrap_err();
        is_as_opened(&db, "one-liners").await;
        let mut tx = db.begin().await.unwrap();
        tx.execute_script(&broken).await.unwrap_err();
        drop(tx);
        is_as_opened(&db, "a script in a transaction").await;
        for way in 0..6 {
            let mut conn = db.connection().await.unwrap();
            match way {
                0 => drop(conn.execute_script(&broken).await.unwrap_err()),
                1 => drop(conn.execute(&broken, ()).await.unwrap_err()),
                2 => drop(conn.execute_many(&broken, [()]).await.unwrap_err()),
                3 => drop(conn.classify(&broken)),
                4 => {
                    let sql = broken.clone();
                    conn.interact(move |c| c.execute_batch(&sql)).await.unwrap_err();
                }
                _ => {
                    // Together with a transaction, in which it acts just as well.
                    let sql = format!("BEGIN; PRAGMA {set}; COMMIT");
                    conn.interact(move |c| c.execute_batch(&sql)).await.ok();
                }
            }
            drop(conn);
            is_as_opened(&db, &format!("way {way}, {set}")).await;
        }
    }
    assert_eq!(count(&db).await, 0, "the table is still there");
}

/// The same through whatever runs on readers: one connection is all there is of them.
#[tokio::test]
async fn a_pragma_that_acts_while_it_is_prepared_does_not_outlive_its_caller_on_a_reader_either() {
    use futures_util::{FutureExt, TryStreamExt};

    let home = Home::new(Kind::PlainFile);
    let db = home.builder().pool_max(2).open().await.unwrap();
    with_table(&db).await;
    let expected = |set: &str, of: i64| if set.starts_with("query_only") { 1 } else { of };
    for (set, pragma, as_opened) in ACTING {
        let broken = format!("PRAGMA {set}\nDROP TABLE t");
        for way in 0..10 {
            let text = broken.as_str();
            match way {
                0 => drop(db.fetch_all(text, ()).await.unwrap_err()),
                1 => drop(db.fetch_all_as::<i64>(text, ()).await.unwrap_err()),
                2 => drop(db.fetch_value::<i64>(text, ()).await.unwrap_err()),
                3 => drop(db.fetch_stream(text, ()).try_collect::<Vec<_>>().await.unwrap_err()),
                4 => drop(db.explain(text, ()).await.unwrap_err()),
                5 => drop(db.watch(text, ()).next().await.unwrap().unwrap_err()),
                6 => drop(
                    db.read_interact({
                        let text = broken.clone();
                        move |c| c.execute_batch(&text)
                    })
                    .await
                    .unwrap_err(),
                ),
                7 => drop(db.read_connection().await.unwrap().fetch_all(text, ()).await.unwrap_err()),
                8 => drop(db.read_connection().await.unwrap().classify(text)),
                _ => drop(db.read_connection().await.unwrap().execute_script(text).now_or_never()),
            }
            let mut reader = db.read_connection().await.unwrap();
            let found: Option<i64> = reader.fetch_value(&format!("PRAGMA {pragma}"), ()).await.unwrap();
            if matches!(*pragma, "busy_timeout" | "wal_autocheckpoint" | "secure_delete") {
                assert_ne!(found, Some(7), "way {way} changed {pragma}");
            } else {
                assert_eq!(found, Some(expected(set, *as_opened)), "way {way} changed {pragma}");
            }
        }
    }
    assert_eq!(count(&db).await, 0, "the table is still there");
}

#[tokio::test]
async fn a_script_that_is_stopped_half_way_leaves_no_setting_behind() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().pool_max(2).open().await.unwrap();
    with_table(&db).await;
    let sql = format!("PRAGMA synchronous = OFF; {ENDLESS}");
    let late = db.with_timeout(Duration::from_millis(50)).execute_script(&sql).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    is_as_opened(&db, "a late script").await;
    let dropped = tokio::time::timeout(Duration::from_millis(50), db.execute_script(&sql)).await;
    assert!(dropped.is_err());
    is_as_opened(&db, "a dropped script").await;
}

#[tokio::test]
async fn what_rusqlite_sets_without_a_statement_does_not_outlive_its_caller_either() {
    use strongroom::rusqlite::config::DbConfig;
    use strongroom::rusqlite::limits::Limit;

    let home = Home::new(Kind::PlainFile);
    let db = home.builder().pool_max(2).open().await.unwrap();
    with_table(&db).await;
    let mut conn = db.connection().await.unwrap();
    conn.interact(|c| c.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)).await.unwrap();
    drop(conn);
    is_as_opened(&db, "set_db_config").await;
    let mut conn = db.connection().await.unwrap();
    conn.interact(|c| c.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, 100)).await.unwrap();
    drop(conn);
    let long = format!("INSERT INTO t (n) VALUES (1) -- {}", "x".repeat(200));
    db.execute(&long, ()).await.unwrap();
}

#[tokio::test]
async fn what_would_set_something_for_the_whole_process_is_refused_everywhere() {
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    let ask = "PRAGMA hard_heap_limit";
    let before: Option<i64> = db.fetch_value(ask, ()).await.unwrap();
    for set in ["hard_heap_limit = 900000000", "soft_heap_limit(900000000)", "temp_store_directory = '/tmp'"] {
        for sql in [format!("PRAGMA {set}"), format!("PRAGMA {set}\nDROP TABLE a")] {
            let mut conn = db.connection().await.unwrap();
            let text = sql.clone();
            for error in [
                conn.execute(&sql, ()).await.unwrap_err(),
                conn.execute_script(&sql).await.unwrap_err(),
                conn.interact(move |c| c.execute_batch(&text)).await.unwrap_err(),
            ] {
                assert_eq!(kinds(&error), REFUSED, "{sql}: {error}");
            }
            drop(conn);
            assert_eq!(kinds(&db.execute_script(&sql).await.unwrap_err()), REFUSED, "{sql}");
            assert_eq!(kinds(&db.execute(&sql, ()).await.unwrap_err()), REFUSED, "{sql}");
        }
    }
    assert_eq!(db.fetch_value::<i64>(ask, ()).await.unwrap(), before);
}

const FAMILY: &str = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
    CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL REFERENCES parent ON DELETE CASCADE)";

#[tokio::test]
async fn foreign_keys_can_be_deferred_for_one_transaction() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(FAMILY).await.unwrap();
        let defer = "PRAGMA defer_foreign_keys = ON";
        for n in 5..8 {
            db.transaction(async |tx| {
                tx.execute(defer, ()).await?;
                tx.execute("INSERT INTO child VALUES ($1, $1)", (n,)).await?;
                tx.execute("INSERT INTO parent VALUES ($1)", (n,)).await?;
                Ok(())
            })
            .await
            .unwrap();
        }
        let mut tx = db.begin().await.unwrap();
        tx.execute_script("PRAGMA defer_foreign_keys(1); INSERT INTO child VALUES (2, 8)").await.unwrap();
        assert_eq!(kinds(&tx.commit().await.unwrap_err()), (ErrorKind::Constraint, Reason::ForeignKey));
        let mut tx = db.begin().await.unwrap();
        let error = tx.execute("INSERT INTO child VALUES (2, 8)", ()).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Constraint, Reason::ForeignKey), "{kind:?}: its effect has ended");
        drop(tx);
        for error in [db.execute(defer, ()).await.unwrap_err(), db.fetch_all(defer, ()).await.unwrap_err()] {
            assert_eq!(kinds(&error), REFUSED);
            assert!(error.to_string().contains("transaction"), "{error}");
        }
        let mut conn = db.connection().await.unwrap();
        conn.execute(defer, ()).await.unwrap();
        drop(conn);
        is_as_opened(&db, defer).await;
    }
}

#[tokio::test]
async fn a_table_is_rebuilt_with_foreign_keys_off_on_a_connection_of_ones_own() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(FAMILY).await.unwrap();
        db.execute_script("INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1)").await.unwrap();
        let error = db.begin().await.unwrap().execute("PRAGMA foreign_keys = OFF", ()).await.unwrap_err();
        assert_eq!(kinds(&error), REFUSED);
        for way in ["defer_foreign_keys", "connection()", "before BEGIN"] {
            assert!(error.to_string().contains(way), "{error}");
        }
        let mut conn = db.connection().await.unwrap();
        conn.execute("PRAGMA foreign_keys = OFF", ()).await.unwrap();
        conn.execute("BEGIN IMMEDIATE", ()).await.unwrap();
        conn.execute("CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT)", ()).await.unwrap();
        conn.execute("INSERT INTO new (id) SELECT id FROM parent", ()).await.unwrap();
        conn.execute("DROP TABLE parent", ()).await.unwrap();
        conn.execute("ALTER TABLE new RENAME TO parent", ()).await.unwrap();
        let dangling = conn.fetch_all("PRAGMA foreign_key_check", ()).await.unwrap();
        assert!(dangling.is_empty());
        conn.execute("COMMIT", ()).await.unwrap();
        drop(conn);
        let children: Option<i64> = db.fetch_value("SELECT count(*) FROM child", ()).await.unwrap();
        assert_eq!(children, Some(1), "{kind:?}: nothing was deleted with the old table");
        let error = db.execute("INSERT INTO child VALUES (2, 9)", ()).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Constraint, Reason::ForeignKey), "{kind:?}");
    }
}

#[tokio::test]
async fn what_a_connection_did_last_is_told_only_to_its_holder() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let views = "CREATE VIEW last AS SELECT last_insert_rowid() AS id;
            CREATE VIEW over AS SELECT id + 1 AS id FROM last; CREATE VIEW counted AS SELECT changes() AS n";
        db.execute_script(views).await.unwrap();
        for sql in [
            "SELECT last_insert_rowid()",
            "SELECT changes()",
            "SELECT total_changes() + 1",
            "INSERT INTO t (n) VALUES (last_insert_rowid())",
            "SELECT count(*) FROM t WHERE id = LAST_INSERT_ROWID()",
            "PRAGMA data_version",
            "SELECT 1 + data_version FROM pragma_data_version",
            "SELECT * FROM last",
            "SELECT count(*) FROM over WHERE id > 0",
            "SELECT n FROM t WHERE n = (SELECT n FROM counted)",
        ] {
            for _again in 0..2 {
                for error in [db.fetch_all(sql, ()).await.unwrap_err(), db.execute(sql, ()).await.unwrap_err()] {
                    assert_eq!(kinds(&error), REFUSED, "{kind:?}: {sql}: {error}");
                    assert!(
                        error.to_string().contains("Changes") && error.to_string().contains("RETURNING"),
                        "{error}"
                    );
                }
            }
        }
        assert_eq!(count(&db).await, 0);
        let mut tx = db.begin().await.unwrap();
        let id = tx.execute("INSERT INTO t (n) VALUES (5)", ()).await.unwrap().last_insert_id;
        assert_eq!(tx.fetch_value::<i64>("SELECT last_insert_rowid()", ()).await.unwrap(), id);
        assert_eq!(tx.fetch_value::<i64>("SELECT id FROM last", ()).await.unwrap(), id);
        assert_eq!(tx.fetch_value::<i64>("SELECT changes()", ()).await.unwrap(), Some(1));
        assert!(tx.fetch_value::<i64>("PRAGMA data_version", ()).await.unwrap().is_some());
        tx.commit().await.unwrap();
        let mut conn = db.connection().await.unwrap();
        let id = conn.execute("INSERT INTO t (n) VALUES (6)", ()).await.unwrap().last_insert_id;
        assert_eq!(conn.fetch_value::<i64>("SELECT last_insert_rowid()", ()).await.unwrap(), id);
        assert_eq!(conn.fetch_value::<i64>("SELECT id FROM last", ()).await.unwrap(), id);
        drop(conn);
        assert!(db.explain("SELECT * FROM last", ()).await.is_ok());
        let script = "CREATE TABLE log (id INTEGER PRIMARY KEY, of INTEGER);
            CREATE TRIGGER noting AFTER INSERT ON t BEGIN
                INSERT INTO log (of) VALUES (new.id);
                INSERT INTO log (of) VALUES (last_insert_rowid());
            END;
            INSERT INTO t (n) VALUES (7); INSERT INTO t (n) VALUES (last_insert_rowid())";
        db.execute_script(script).await.unwrap();
        db.execute("INSERT INTO t (n) VALUES (8)", ()).await.unwrap();
        assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM log", ()).await.unwrap(), Some(6), "{kind:?}");
    }
}

#[tokio::test]
async fn classifying_alone_defers_nothing() {
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    let mut conn = db.connection().await.unwrap();
    conn.classify("PRAGMA defer_foreign_keys = ON").unwrap_err();
    conn.execute("BEGIN", ()).await.unwrap();
    assert_eq!(conn.classify("PRAGMA defer_foreign_keys = ON").unwrap(), StatementKind::Write);
    assert_eq!(conn.fetch_value::<i64>("PRAGMA defer_foreign_keys", ()).await.unwrap(), Some(0));
}
