//! Calls on a database of any engine, after each of which nothing may be in use.
#![allow(unreachable_pub, dead_code, reason = "each test file uses its part")]

use futures_util::{StreamExt as _, TryStreamExt as _};
use strongroom::database::TransactionOptions;
use strongroom::engine::{Connection, Connector};
use strongroom::{AsyncDatabase, Error, ErrorKind};

pub const INSERT: &str = "INSERT INTO t (n) VALUES ($1)";

pub fn idle<C: Connector<Connection: Connection>>(db: &AsyncDatabase<C>, after: &str) {
    let stats = db.stats();
    assert_eq!((stats.active_connections, stats.waiting), (0, 0), "after {after}: {stats:?}");
    assert_eq!(stats.total_acquired, stats.total_released, "after {after}: {stats:?}");
}

pub fn refused() -> Error {
    Error::new(ErrorKind::Query, "no")
}

/// What every engine does, on a table `t` with a column `n`.
pub async fn call_all<C: Connector<Connection: Connection>>(db: &AsyncDatabase<C>) {
    db.execute(INSERT, (1,)).await.unwrap();
    idle(db, "execute");
    db.execute("nonsense", ()).await.unwrap_err();
    idle(db, "a statement that fails");
    db.fetch_one("SELECT n FROM t", ()).await.unwrap();
    idle(db, "fetch_one");
    db.fetch_all("SELECT n FROM t", ()).await.unwrap();
    idle(db, "fetch_all");
    db.fetch_all("INSERT INTO t (n) VALUES (1) RETURNING n", ()).await.unwrap();
    idle(db, "a write with rows");
    db.execute_many(INSERT, (0..300).map(|n| (n,))).await.unwrap();
    idle(db, "execute_many");
    db.execute_script("DELETE FROM t WHERE n > 100; SELECT 1").await.unwrap();
    idle(db, "execute_script");
    db.transaction(async |tx| tx.execute(INSERT, (1,)).await).await.unwrap();
    idle(db, "transaction");
    db.transaction(async |tx| tx.execute(INSERT, (1,)).await.and(Err::<(), _>(refused()))).await.unwrap_err();
    idle(db, "a transaction that is rolled back");
    db.transaction_with(TransactionOptions::new(), async |tx| tx.execute(INSERT, (1,)).await).await.unwrap();
    idle(db, "transaction_with");
    let mut tx = db.begin().await.unwrap();
    tx.execute(INSERT, (1,)).await.unwrap();
    tx.commit().await.unwrap();
    idle(db, "commit");
    let mut tx = db.begin().await.unwrap();
    tx.execute(INSERT, (1,)).await.unwrap();
    tx.rollback().await.unwrap();
    idle(db, "rollback");
    db.begin().await.unwrap().rollback().await.unwrap();
    idle(db, "a rollback of nothing");
    db.fetch_stream("SELECT n FROM t", ()).try_collect::<Vec<_>>().await.unwrap();
    idle(db, "a stream");
    let mut rows = db.fetch_stream("SELECT n FROM t LIMIT 2", ());
    while rows.next().await.is_some() {}
    idle(db, "a stream that has ended and is still there");
    drop(rows);
    db.fetch_stream("SELECT nothing", ()).try_collect::<Vec<_>>().await.unwrap_err();
    idle(db, "a stream that fails");
    db.table_exists("t").await.unwrap();
    idle(db, "table_exists");
}
