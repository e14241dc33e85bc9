//! Rows that triggers of the target write while tables are copied are not taken for copies.
#![cfg(feature = "sqlite")]

use strongroom::database::CopyRows;
use strongroom::{AsyncDatabase, Reason};

const TABLES: &str = "CREATE TABLE t (a INTEGER PRIMARY KEY); CREATE TABLE log (what TEXT); CREATE TABLE other (a)";
const LOGS: &str = "CREATE TRIGGER logs AFTER INSERT ON t BEGIN INSERT INTO log VALUES ('t ' || new.a); END";

async fn memory(script: &str) -> AsyncDatabase {
    let db = AsyncDatabase::builder(":memory:").open().await.unwrap();
    db.execute_script(TABLES).await.unwrap();
    db.execute_script(script).await.unwrap();
    db
}

async fn count(db: &AsyncDatabase, table: &str) -> i64 {
    db.fetch_value(&format!("SELECT count(*) FROM {table}"), ()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_table_that_a_trigger_fills_is_not_filled_twice_in_whatever_order() {
    let from = memory(&format!("{LOGS}; INSERT INTO t VALUES (1), (2), (3)")).await;
    for order in [["t", "log"], ["log", "t"]] {
        for compare in [true, false] {
            let into = memory(LOGS).await;
            let error = from.copy_rows(&into, CopyRows::of(order).compare(compare)).await.unwrap_err();
            assert_eq!((error.reason(), error.object()), (Reason::Damaged, Some("log")), "{error}");
            assert!(error.message().contains("has 6 rows and should have 3"), "{error}");
            assert!(error.advice().unwrap().contains("triggers of the target"), "{error}");
            assert_eq!((count(&into, "t").await, count(&into, "log").await), (0, 0));
        }
    }
}

#[tokio::test]
async fn a_trigger_that_changes_a_table_copied_before_is_noticed() {
    let from = memory("INSERT INTO t VALUES (1), (2); INSERT INTO other VALUES (5)").await;
    for change in ["DELETE FROM t WHERE a = 2", "UPDATE t SET a = 9 WHERE a = 2"] {
        let into = memory(&format!("CREATE TRIGGER x AFTER INSERT ON other BEGIN {change}; END")).await;
        let error = from.copy_rows(&into, CopyRows::of(["t", "other"])).await.unwrap_err();
        assert_eq!((error.reason(), error.object()), (Reason::Damaged, Some("t")), "{change}: {error}");
        assert_eq!(count(&into, "t").await, 0);
    }
}

#[tokio::test]
async fn triggers_that_write_elsewhere_run_and_disturb_nothing() {
    let from = memory("INSERT INTO t VALUES (1), (2), (3); INSERT INTO log VALUES ('not copied')").await;
    let into = memory(LOGS).await;
    let report = from.copy_rows(&into, CopyRows::of(["t", "other"])).await.unwrap();
    assert_eq!(report.tables, [("t".to_owned(), 3), ("other".to_owned(), 0)]);
    assert_eq!((count(&into, "t").await, count(&into, "log").await), (3, 3));
}

#[tokio::test]
async fn a_table_that_is_named_twice_is_not_copied_twice() {
    let from = memory("INSERT INTO other VALUES (1)").await;
    let into = memory("SELECT 1").await;
    let error = from.copy_rows(&into, CopyRows::of(["other", "OTHER"])).await.unwrap_err();
    assert!(error.advice().unwrap().contains("name no table twice"), "{error}");
    assert_eq!(count(&into, "other").await, 0);
}
