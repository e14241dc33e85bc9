//! Callers of two handles append to lists in PostgreSQL and read them, in each way there is, at SERIALIZABLE and with
//! retries: all that anybody was told has one order.
//!
//! `STRONGROOM_CHECK_SECONDS` (2 by default) is the time of a run, `STRONGROOM_CHECK_SEED` that of the callers.
#![cfg(all(feature = "postgres", target_os = "linux"))]
#![allow(clippy::large_futures, reason = "a test may have a large stack")]

#[path = "common/postgres.rs"]
mod common;
#[path = "common/lists.rs"]
mod lists;

use std::time::{Duration, Instant};

use common::server_with;
use futures_util::future::join_all;
use lists::histories::{Kind, Op, Order, Outcome, Transaction, check};
use lists::{Caller, TABLE, now};
use strongroom::AsyncDatabase;
use strongroom::ErrorKind::{OutcomeUnknown, Serialization};
use strongroom::database::{Isolation, TransactionOptions};
use strongroom::engine::TransactionMode;
use strongroom::postgres::PostgresConnector;

type Db = AsyncDatabase<PostgresConnector>;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_callers_of_two_handles_were_told_has_one_order_at_serializable() {
    let Some(server) = server_with("default_transaction_isolation = serializable") else { return };
    let (end, seed) = (Duration::from_secs(number("STRONGROOM_CHECK_SECONDS", 2)), number("STRONGROOM_CHECK_SEED", 1));
    let mut handles = Vec::new();
    for _ in 0..2 {
        handles.push(AsyncDatabase::with_connector(server.connector()).pool_max(6).open().await.unwrap());
    }
    handles[0].execute_script(TABLE).await.unwrap();
    let write = TransactionOptions::new().isolation(Isolation::Serializable);
    let read = TransactionMode::READ.isolation(Isolation::Serializable);
    let begun = Instant::now();
    let callers = (1..13).map(|number| {
        let (db, mut caller) = (handles[number % 2].clone(), Caller::new(number as u64, seed, write.clone(), read));
        tokio::spawn(async move {
            while begun.elapsed() < end {
                if let Some(error) = caller.step(&db).await {
                    assert!(matches!(error.kind(), Serialization | OutcomeUnknown), "{error:?}");
                }
            }
            caller.history
        })
    });
    let mut history: Vec<Transaction> =
        join_all(callers).await.into_iter().flat_map(|history| history.unwrap()).collect();
    let mut last = Caller::new(5000, 0, write, read);
    last.read_all(&handles[0]).await.unwrap();
    history.extend(last.history);
    // PostgreSQL promises an order, and not that of time.
    let checked = check(&history, Order::LastReading).unwrap_or_else(|anomaly| panic!("{anomaly:?}"));
    println!("{checked:?}");
    assert!(checked.committed > 200, "hardly anything was done: {checked:?}");
}

/// Two transactions each read one list and append to that of the other.
async fn crossed(db: &Db, isolation: Isolation, keys: [u64; 2]) -> Vec<Transaction> {
    let (begun, mode) = (now(), TransactionMode::WRITE.isolation(isolation));
    let mut both = [db.begin_with(mode).await.unwrap(), db.begin_with(mode).await.unwrap()];
    let mut history = Vec::new();
    for (tx, key) in both.iter_mut().zip(keys) {
        let found = tx.fetch_value::<String>("SELECT vs FROM lists WHERE k = $1", (key,)).await.unwrap();
        assert_eq!(found, None);
        history.push(vec![Op::Read(key, vec![])]);
    }
    let mut ended = Vec::new();
    for (number, mut tx) in both.into_iter().enumerate() {
        let key = keys[1 - number];
        history[number].push(Op::Append(key, 100 + key));
        let told = tx.execute("INSERT INTO lists VALUES ($1, $2)", (key, format!("{},", 100 + key))).await;
        let told = match told {
            Ok(_) => tx.commit().await,
            Err(error) => Err(error),
        };
        ended.push(if told.is_ok() { Outcome::Committed } else { Outcome::Aborted });
    }
    let transaction = |(ops, outcome)| Transaction { begun, ended: now(), ops, outcome };
    history.into_iter().zip(ended).map(transaction).collect()
}

/// The same checker, where the engine allows what it is to find.
#[tokio::test]
async fn write_skew_is_found_where_the_isolation_allows_it() {
    let Some(server) = server_with("") else { return };
    let db: Db = AsyncDatabase::with_connector(server.connector()).pool_max(3).open().await.unwrap();
    db.execute_script(TABLE).await.unwrap();
    for (isolation, keys, expected) in
        [(Isolation::Snapshot, [1, 2], Some(Kind::G2)), (Isolation::Serializable, [3, 4], None)]
    {
        let mut history = crossed(&db, isolation, keys).await;
        let mut last = Caller::new(5000, 0, TransactionOptions::new(), TransactionMode::READ);
        last.read_all(&db).await.unwrap();
        last.history[0].ops.retain(|op| matches!(op, Op::Read(key, _) if keys.contains(key)));
        history.extend(last.history);
        let found = check(&history, Order::LastReading).err().map(|anomaly| anomaly.kind);
        assert_eq!(found, expected, "{isolation:?}: {history:?}");
    }
}
