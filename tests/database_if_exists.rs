//! Definitions that find nothing to do, because what they would make is there, or what they would drop is not.
#![cfg(feature = "sqlcipher")]

mod common;
#[path = "common/everything.rs"]
mod everything;

use common::{Home, Kind};
use strongroom::{AsyncDatabase, Reason};

/// What makes something, what finds it made, and what drops it; each may be run at any time.
const DEFINITIONS: [[&str; 2]; 4] = [
    ["CREATE TABLE IF NOT EXISTS x (a)", "DROP TABLE IF EXISTS x"],
    ["CREATE INDEX IF NOT EXISTS i ON t (a)", "DROP INDEX IF EXISTS i"],
    ["CREATE VIEW IF NOT EXISTS v AS SELECT a FROM t", "DROP VIEW IF EXISTS v"],
    [
        "CREATE TRIGGER IF NOT EXISTS tr AFTER INSERT ON t BEGIN UPDATE t SET a = a + 1; END",
        "DROP TRIGGER IF EXISTS tr",
    ],
];

async fn names(db: &AsyncDatabase) -> i64 {
    db.fetch_value("SELECT count(*) FROM sqlite_schema WHERE name <> 't'", ()).await.unwrap().unwrap()
}

#[tokio::test]
async fn they_run_again_and_again_inside_transactions_and_outside() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute("CREATE TABLE t (a)", ()).await.unwrap();
        for round in 0..3 {
            for [make, unmake] in DEFINITIONS {
                for (sql, there) in [(make, 1), (make, 1), (unmake, 0), (unmake, 0)] {
                    match round {
                        0 => drop(db.execute(sql, ()).await.unwrap()),
                        1 => db
                            .transaction(async |tx| {
                                tx.execute(sql, ()).await?;
                                tx.execute(sql, ()).await?;
                                let mut inner = tx.begin().await?;
                                inner.execute(sql, ()).await?;
                                inner.commit().await
                            })
                            .await
                            .unwrap(),
                        _ => db.execute_script(&format!("BEGIN; {sql}; {sql}; COMMIT; {sql}")).await.unwrap(),
                    }
                    assert_eq!(names(&db).await, there, "{kind:?}, round {round}: {sql}");
                }
            }
        }
        let refused = db.transaction(async |tx| tx.execute("/* all */ vacuum", ()).await.map(drop)).await;
        assert_eq!(refused.unwrap_err().reason(), Reason::Control, "{kind:?}: it is still told apart");
        db.execute("/* all */ vacuum", ()).await.unwrap();
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_found_nothing_to_do_finds_it_once_it_is_there() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute("CREATE TABLE t (a)", ()).await.unwrap();
        for [make, unmake] in DEFINITIONS {
            // Dropped by a transaction that is rolled back, so that it is there afterwards.
            db.execute(make, ()).await.unwrap();
            let mut tx = db.begin().await.unwrap();
            tx.execute_script(unmake).await.unwrap();
            tx.execute(unmake, ()).await.unwrap();
            tx.rollback().await.unwrap();
            assert_eq!(names(&db).await, 1, "{kind:?}: {make}");
            db.execute(unmake, ()).await.unwrap();
            assert_eq!(names(&db).await, 0, "{kind:?}: {unmake}");

            // Made by somebody else.
            if home.path().exists() {
                let other = home.open().await;
                other.execute(make, ()).await.unwrap();
                db.execute(unmake, ()).await.unwrap();
                assert_eq!(names(&other).await, 0, "{kind:?}: {unmake}");
                db.execute(make, ()).await.unwrap();
                db.execute(make, ()).await.unwrap();
                other.execute(unmake, ()).await.unwrap();
                db.execute(make, ()).await.unwrap();
                assert_eq!(names(&other).await, 1, "{kind:?}: {make}");
                db.execute(unmake, ()).await.unwrap();
                other.close().await.unwrap();
            }
        }
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_a_rolled_back_definition_taught_of_a_statement_is_forgotten() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(
            "CREATE TABLE t (a);
             CREATE TRIGGER tr AFTER INSERT ON t WHEN NEW.a = 3 BEGIN SELECT RAISE(FAIL, 'three'); END",
        )
        .await
        .unwrap();
        let insert = "INSERT INTO t SELECT value FROM json_each('[1, 2, 3, 4]')";
        for inner in [false, true] {
            let mut tx = db.begin().await.unwrap();
            if inner {
                let mut inner = tx.begin().await.unwrap();
                inner.execute("DROP TRIGGER tr", ()).await.unwrap();
                assert_eq!(inner.execute(insert, ()).await.unwrap().rows_affected, 4);
                inner.rollback().await.unwrap();
                tx.commit().await.unwrap();
            } else {
                tx.execute("DROP TRIGGER tr", ()).await.unwrap();
                assert_eq!(tx.execute(insert, ()).await.unwrap().rows_affected, 4);
                tx.rollback().await.unwrap();
            }
            assert!(db.execute(insert, ()).await.unwrap_err().to_string().contains("three"));
            let rows: Option<i64> = db.fetch_value("SELECT count(*) FROM t", ()).await.unwrap();
            assert_eq!(rows, Some(0), "{kind:?}: a statement that fails changes nothing");
        }
        db.close().await.unwrap();
    }
}
