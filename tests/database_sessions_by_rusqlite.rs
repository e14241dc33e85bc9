//! What a caller sets with rusqlite, without a statement, never reaches the next one.
#![cfg(feature = "sqlite")]

mod common;

use common::{Home, Kind, count, with_table};
use strongroom::rusqlite::config::DbConfig;
use strongroom::rusqlite::limits::Limit;
use strongroom::rusqlite::{Connection, TransactionBehavior};
use strongroom::sqlcipher::Tuning;
use strongroom::{AsyncDatabase, ErrorKind, rusqlite};

const SWITCHES: [DbConfig; 17] = [
    DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY,
    DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
    DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER,
    DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
    DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG,
    DbConfig::SQLITE_DBCONFIG_TRIGGER_EQP,
    DbConfig::SQLITE_DBCONFIG_RESET_DATABASE,
    DbConfig::SQLITE_DBCONFIG_DEFENSIVE,
    DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA,
    DbConfig::SQLITE_DBCONFIG_LEGACY_ALTER_TABLE,
    DbConfig::SQLITE_DBCONFIG_DQS_DML,
    DbConfig::SQLITE_DBCONFIG_DQS_DDL,
    DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW,
    DbConfig::SQLITE_DBCONFIG_LEGACY_FILE_FORMAT,
    DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA,
    DbConfig::SQLITE_DBCONFIG_STMT_SCANSTATUS,
    DbConfig::SQLITE_DBCONFIG_REVERSE_SCANORDER,
];

const LIMITS: [Limit; 15] = [
    Limit::SQLITE_LIMIT_LENGTH,
    Limit::SQLITE_LIMIT_SQL_LENGTH,
    Limit::SQLITE_LIMIT_COLUMN,
    Limit::SQLITE_LIMIT_EXPR_DEPTH,
    Limit::SQLITE_LIMIT_COMPOUND_SELECT,
    Limit::SQLITE_LIMIT_VDBE_OP,
    Limit::SQLITE_LIMIT_FUNCTION_ARG,
    Limit::SQLITE_LIMIT_ATTACHED,
    Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH,
    Limit::SQLITE_LIMIT_VARIABLE_NUMBER,
    Limit::SQLITE_LIMIT_TRIGGER_DEPTH,
    Limit::SQLITE_LIMIT_WORKER_THREADS,
    Limit::SQLITE_LIMIT_PARSER_DEPTH,
    Limit::SQLITE_LIMIT_SCHEMA,
    Limit::SQLITE_LIMIT_TRIGGER_STEPS,
];

async fn open(home: &Home) -> AsyncDatabase {
    let db = home.builder().pool_max(2).open().await.unwrap();
    with_table(&db).await;
    db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
    db
}

/// Runs on the writer, which is given back.
async fn on_writer<T: Send + 'static>(
    db: &AsyncDatabase,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
) -> T {
    db.connection().await.unwrap().interact(work).await.unwrap()
}

#[tokio::test]
async fn no_switch_of_a_connection_outlives_its_caller() {
    let home = Home::new(Kind::PlainFile);
    let db = open(&home).await;
    for switch in SWITCHES {
        let before = on_writer(&db, move |c| c.db_config(switch)).await;
        let set = on_writer(&db, move |c| c.set_db_config(switch, !before)).await;
        assert_eq!(set, !before, "{switch:?} cannot be set at all");
        let after = on_writer(&db, move |c| c.db_config(switch)).await;
        assert_eq!(after, before, "{switch:?}");
    }
}

#[tokio::test]
async fn no_limit_of_a_connection_outlives_its_caller() {
    let home = Home::new(Kind::PlainFile);
    let db = open(&home).await;
    let mut known = 0;
    for limit in LIMITS {
        let Some(before) = on_writer(&db, move |c| Ok(c.limit(limit).ok())).await else { continue };
        // Limits that are not 0 are at least 1, and most are bounded above.
        let other = if before == 0 { 1 } else { (before / 2).max(30).min(before - 1) };
        on_writer(&db, move |c| c.set_limit(limit, other)).await;
        let after = on_writer(&db, move |c| c.limit(limit)).await;
        assert_eq!(after, before, "{limit:?}");
        known += 1;
    }
    assert!(known >= 12, "SQLite knows twelve limits for long");
}

/// With this flag set, the next commit begins a new database over the old one.
#[tokio::test]
async fn a_reset_that_fails_before_its_vacuum_takes_nothing_from_the_next_caller() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let db = open(&home).await;
        let mut conn = db.connection().await.unwrap();
        let reset = |c: &mut Connection| {
            c.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, true)?;
            c.execute_batch("BEGIN; VACUUM")
        };
        let error = conn.interact(reset).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Query, "{error}");
        drop(conn);
        db.execute_script("CREATE TABLE other (n); INSERT INTO other VALUES (1)").await.unwrap();
        db.close().await.unwrap();
        let db = home.open().await;
        assert_eq!(count(&db).await, 1, "{kind:?}");
        let other: Option<i64> = db.fetch_value("SELECT n FROM other", ()).await.unwrap();
        assert_eq!(other, Some(1), "{kind:?}");
    }
}

#[tokio::test]
async fn what_rusqlite_does_by_default_is_as_it_was_for_each_closure() {
    let home = Home::new(Kind::PlainFile);
    let db = open(&home).await;
    on_writer(&db, |c| {
        c.set_transaction_behavior(TransactionBehavior::Immediate);
        Ok(())
    })
    .await;
    let deferred = on_writer(&db, |c| {
        let transaction = c.transaction()?;
        // A transaction that is deferred has no lock yet.
        transaction.transaction_state(None::<&str>)
    })
    .await;
    assert_eq!(deferred, rusqlite::TransactionState::None);
}

#[tokio::test]
async fn a_cache_of_statements_that_a_closure_switched_off_is_there_again() {
    let home = Home::new(Kind::PlainFile);
    let tuning = Tuning::default().statement_cache(8);
    let db = home.builder().pool_max(2).tuning(tuning).open().await.unwrap();
    with_table(&db).await;
    on_writer(&db, |c| {
        c.set_prepared_statement_cache_capacity(0);
        Ok(())
    })
    .await;
    let mut conn = db.connection().await.unwrap();
    let insert = "INSERT INTO t (n) VALUES (1)";
    conn.execute(insert, ()).await.unwrap();
    let before = db.engine_stats();
    conn.execute(insert, ()).await.unwrap();
    let after = db.engine_stats();
    assert_eq!(after.statement_hits, before.statement_hits + 1, "{after:?}");
}
