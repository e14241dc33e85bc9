//! Transactions that share the syncs of the log: what was acknowledged is on disk, and after a sync that failed nothing is
//! acknowledged before the log was written anew.
#![cfg(all(feature = "sqlite", target_os = "linux"))]

mod common;
#[path = "common/faults.rs"]
mod faults;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{Home, Kind, count, kinds, with_table};
use faults::record::{Record, Recording};
use faults::{Call, states};
use futures_util::future::join_all;
use strongroom::database::CheckDepth;
use strongroom::engine::{Statement, TransactionMode};
use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{AsyncDatabase, Connection, ErrorKind, Pool, Reason, Result, SqlCipherConnector};

const UNKNOWN: (ErrorKind, Reason) = (ErrorKind::OutcomeUnknown, Reason::Io);

/// The faults and the record belong to the process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn log_of(home: &Home) -> PathBuf {
    home.directory.path().canonicalize().unwrap().join("app.db-wal")
}

async fn open(home: &Home) -> AsyncDatabase {
    let tuning = Tuning::default().synchronous(Synchronous::FullShared);
    home.builder().tuning(tuning).open().await.unwrap()
}

async fn with_log(kind: Kind) -> (Home, AsyncDatabase) {
    let home = Home::new(kind);
    let db = open(&home).await;
    with_table(&db).await;
    (home, db)
}

async fn add(db: &AsyncDatabase, n: i64) -> Result<()> {
    db.transaction(async |tx| {
        let before: i64 = tx.fetch_value("SELECT count(*) FROM t WHERE n < 0", ()).await?.unwrap();
        tx.execute("INSERT INTO t (id, n) VALUES ($1, $2)", (n, before)).await?;
        Ok(())
    })
    .await
}

/// What a connection is set to, as a number of SQLite's.
async fn level(db: &AsyncDatabase) -> i64 {
    db.connection().await.unwrap().fetch_value("PRAGMA synchronous", ()).await.unwrap().unwrap()
}

/// How many crash states a test looks at.
fn crashes() -> u64 {
    std::env::var("STRONGROOM_CRASHES").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(30)
}

/// A pool without the calls of a database: transactions are begun and ended on the connection itself.
fn pool(home: &Home) -> Pool<SqlCipherConnector> {
    let tuning = Tuning::default().synchronous(Synchronous::FullShared);
    let connector = SqlCipherConnector::new(home.path()).tuning(tuning);
    let keyed = home.kind.is_keyed() && cfg!(feature = "sqlcipher");
    Pool::builder(if keyed { connector.key(common::key()) } else { connector }).max_size(2).build()
}

fn syncs(record: &Record) -> usize {
    record.syncs("app.db-wal").count()
}

fn crash(record: &Record, events: usize, into: &Home, random: &mut fastrand::Rng) {
    states::write(&states::crash(record, events, random), into.directory.path());
}

#[test]
fn what_was_acknowledged_is_on_disk_whenever_the_power_fails() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for (seed, kind) in Kind::FILES.into_iter().enumerate() {
        let (home, db) = runtime.block_on(with_log(kind));
        // What stands there already is what the record builds on.
        runtime.block_on(db.close()).unwrap();
        let recording = Arc::new(Recording::of(home.directory.path()));
        let db = runtime.block_on(open(&home));
        // While one sync is under way, others commit.
        faults::slow(2);
        let tasks = (0..8).map(|task| {
            let (db, recording) = (db.clone(), Arc::clone(&recording));
            runtime.spawn(async move {
                let mut told = Vec::new();
                for round in 0..15 {
                    add(&db, task * 100 + round).await.unwrap();
                    told.push((task * 100 + round, recording.position()));
                }
                told
            })
        });
        let told: Vec<_> = runtime.block_on(join_all(tasks)).into_iter().flat_map(|told| told.unwrap()).collect();
        faults::slow(0);
        let record = recording.so_far();
        let (events, shared) = (record.events.len(), syncs(&record));
        assert!(shared < told.len(), "{shared} syncs for {} commits", told.len());
        let mut random = fastrand::Rng::with_seed(seed as u64);
        for _ in 0..crashes() {
            let at = random.usize(..=events);
            let crashed = Home::new(kind);
            crash(&record, at, &crashed, &mut random);
            runtime.block_on(async {
                let db = crashed.open().await;
                let there: Vec<i64> = db.fetch_all_as("SELECT id FROM t", ()).await.unwrap();
                let lost: Vec<_> = told.iter().filter(|(id, when)| *when <= at && !there.contains(id)).collect();
                assert!(lost.is_empty(), "{kind:?}, event {at} of {events}: acknowledged and lost: {lost:?}");
                assert!(db.check(CheckDepth::Full).await.unwrap().is_ok());
                db.close().await.unwrap();
            });
        }
        runtime.block_on(db.close()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn a_commit_whose_sync_fails_has_an_unknown_outcome_and_the_next_ones_go_on() {
    let _alone = alone();
    for kind in Kind::FILES {
        let (home, db) = with_log(kind).await;
        add(&db, 1).await.unwrap();
        faults::fail(&log_of(&home), Call::Sync, 0, 1, libc::EIO);
        let error = add(&db, 2).await.unwrap_err();
        assert_eq!(kinds(&error), UNKNOWN, "{error}");
        assert!(!error.is_transient(), "somebody might do it again");
        assert_eq!(faults::heal(&log_of(&home)), 1);
        add(&db, 3).await.unwrap();
        db.execute("INSERT INTO t (id) VALUES (4)", ()).await.unwrap();
        assert_eq!(count(&db).await, 4);
        assert!(db.close().await.unwrap().closed > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn while_the_disk_fails_nothing_is_acknowledged_and_a_lease_that_goes_on_is_refused() {
    let _alone = alone();
    let (home, db) = with_log(Kind::KeyedFile).await;
    db.close().await.unwrap();
    let pool = pool(&home);
    let mut lease = pool.get().await.unwrap();
    // The beginning of a log is synced by the engine.
    lease.run(Statement::new("INSERT INTO t (id) VALUES (0)", ()).unwrap()).await.unwrap();
    faults::fail(&log_of(&home), Call::Sync, 0, usize::MAX, libc::EIO);
    lease.begin(TransactionMode::WRITE).await.unwrap();
    lease.run(Statement::new("INSERT INTO t (id) VALUES (1)", ()).unwrap()).await.unwrap();
    assert_eq!(kinds(&lease.commit().await.unwrap_err()), UNKNOWN);
    let refused = lease.run(Statement::new("INSERT INTO t (id) VALUES (2)", ()).unwrap()).await.unwrap_err();
    assert_eq!(kinds(&refused), (ErrorKind::Storage, Reason::Io), "{refused}");
    drop(lease);
    let refused = pool.get().await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("written anew"), "{refused}");
    faults::heal(&log_of(&home));
    let mut lease = pool.get().await.unwrap();
    lease.run(Statement::new("INSERT INTO t (id) VALUES (3)", ()).unwrap()).await.unwrap();
    drop(lease);
    pool.close(common::secs(10)).await;
    let db = open(&home).await;
    let there: Vec<i64> = db.fetch_all_as("SELECT id FROM t ORDER BY id", ()).await.unwrap();
    assert_eq!(there, [0, 1, 3]);
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn while_the_disk_fails_every_write_is_refused_and_says_why() {
    let _alone = alone();
    let (home, db) = with_log(Kind::KeyedFile).await;
    faults::fail(&log_of(&home), Call::Sync, 0, usize::MAX, libc::EIO);
    add(&db, 1).await.unwrap_err();
    for id in 3..4 {
        let error = db.execute("INSERT INTO t (id) VALUES ($1)", (id,)).await.unwrap_err();
        assert!(error.to_string().contains("written anew"), "{error}");
        add(&db, id).await.unwrap_err();
    }
    faults::heal(&log_of(&home));
    add(&db, 7).await.unwrap();
    let there: Vec<i64> = db.fetch_all_as("SELECT id FROM t ORDER BY id", ()).await.unwrap();
    assert_eq!(there, [1, 7]);
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn after_a_failed_sync_no_power_failure_takes_what_is_acknowledged_later() {
    let _alone = alone();
    for seed in 0..crashes() {
        let home = Home::new(Kind::PlainFile);
        let recording = Recording::of(home.directory.path());
        let db = open(&home).await;
        with_table(&db).await;
        add(&db, 1).await.unwrap();
        faults::fail(&log_of(&home), Call::Sync, 0, 1, libc::EIO);
        add(&db, 2).await.unwrap_err();
        assert_eq!(faults::heal(&log_of(&home)), 1);
        add(&db, 3).await.unwrap();
        db.execute("INSERT INTO t (id) VALUES (4)", ()).await.unwrap();
        let crashed = Home::new(Kind::PlainFile);
        let record = recording.so_far();
        crash(&record, record.events.len(), &crashed, &mut fastrand::Rng::with_seed(seed));
        let after = crashed.open().await;
        let there: Vec<i64> = after.fetch_all_as("SELECT id FROM t WHERE id <> 2 ORDER BY id", ()).await.unwrap();
        assert_eq!(there, [1, 3, 4], "seed {seed}");
        after.close().await.unwrap();
        db.close().await.unwrap();
    }
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn however_a_transaction_ends_other_writes_are_synced_by_the_engine_afterwards() {
    let _alone = alone();
    let (_home, db) = with_log(Kind::KeyedFile).await;
    db.execute_script("CREATE TABLE child (id INTEGER REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)").await.unwrap();
    add(&db, 1).await.unwrap();
    assert_eq!(level(&db).await, 3, "committed");
    db.begin().await.unwrap().rollback().await.unwrap();
    assert_eq!(level(&db).await, 3, "rolled back");
    drop(db.begin().await.unwrap());
    assert_eq!(level(&db).await, 3, "dropped");
    let refused = db.transaction(async |tx| tx.execute("INSERT INTO child VALUES (77)", ()).await).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Constraint);
    assert_eq!(level(&db).await, 3, "refused at its commit");
    let lost = db.transaction(async |tx| tx.execute("INSERT OR ROLLBACK INTO t (id) VALUES (1)", ()).await).await;
    lost.unwrap_err();
    assert_eq!(level(&db).await, 3, "rolled back by the engine");
    common::walk(add(&db, 2), 1).await;
    common::eventually("it is given back", || db.stats().active_connections == 0).await;
    assert_eq!(level(&db).await, 3, "dropped half-way");
    db.close().await.unwrap();
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn a_transaction_that_is_ended_by_words_is_synced_too() {
    let _alone = alone();
    let (home, db) = with_log(Kind::PlainFile).await;
    db.close().await.unwrap();
    let pool = pool(&home);
    let mut lease = pool.get().await.unwrap();
    lease.run(Statement::new("INSERT INTO t (n) VALUES (0)", ()).unwrap()).await.unwrap();
    for words in ["COMMIT", "END"] {
        lease.begin(TransactionMode::WRITE).await.unwrap();
        lease.run(Statement::new("INSERT INTO t (n) VALUES (1)", ()).unwrap()).await.unwrap();
        faults::fail(&log_of(&home), Call::Sync, 0, 0, 0);
        let recording = Recording::of(home.directory.path());
        lease.run(Statement::new(words, ()).unwrap()).await.unwrap();
        assert_eq!(syncs(&recording.so_far()), 1, "{words}");
        faults::heal(&log_of(&home));
    }
    drop(lease);
    pool.close(common::secs(10)).await;
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn a_transaction_that_writes_nothing_waits_for_no_sync() {
    let _alone = alone();
    let (home, db) = with_log(Kind::PlainFile).await;
    add(&db, 1).await.unwrap();
    let recording = Recording::of(home.directory.path());
    db.transaction(async |tx| tx.fetch_value::<i64>("SELECT count(*) FROM t", ()).await).await.unwrap();
    assert_eq!(syncs(&recording.so_far()), 0);
    tokio::time::timeout(Duration::from_secs(20), db.close()).await.unwrap().unwrap();
}
