//! Nine defects of the library that this one succeeds, none of which may come along.
#![cfg(feature = "sqlcipher")]

mod common;

use std::time::Instant;

use common::{Home, Kind, assert_whole, count, kinds, memory, millis, secs, with_table};
use strongroom::pool::{FixedDelay, Ping};
use strongroom::{AsyncDatabase, DatabaseConfig, Error, ErrorKind, PassphraseKeySource, Reason, Secret, rusqlite};
use tokio::time::timeout;

/// The original opened a second connection only after the whole acquire timeout.
#[tokio::test]
async fn defect_1_growth_waits_for_the_timeout() {
    let home = Home::new(Kind::PlainFile);
    let db = home.builder().pool_min(1).pool_max(4).pool_timeout(secs(30)).open().await.unwrap();
    let begin = Instant::now();
    let (writer, one, two) = (db.connection().await, db.read_connection().await, db.read_connection().await);
    assert!(writer.is_ok() && one.is_ok() && two.is_ok());
    assert!(begin.elapsed() < secs(2), "the third connection took {:?}", begin.elapsed());
}

/// The original skipped the rollback and gave the connection back inside its transaction.
#[tokio::test]
async fn defect_2_a_cancelled_transaction_stays_open() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let cancelled = db.transaction(async |tx| {
            tx.execute("INSERT INTO t (n) VALUES (1)", ()).await?;
            std::future::pending::<Result<(), Error>>().await
        });
        assert!(timeout(millis(100), cancelled).await.is_err());
        assert_eq!(count(&db).await, 0, "{kind:?}");
        assert_whole(&db, "after a cancelled transaction").await;
    }
}

/// The original answered with a cursor of a connection that somebody else had by then.
#[tokio::test]
async fn defect_3_a_result_outlives_its_connection() {
    let db = AsyncDatabase::builder(":memory:").pool_max(1).open().await.unwrap();
    with_table(&db).await;
    db.execute_many("INSERT INTO t (n) VALUES ($1)", (0..500).map(|n| (n,))).await.unwrap();
    let rows = db.fetch_all("SELECT n FROM t ORDER BY id", ()).await.unwrap();
    db.execute_script("DELETE FROM t; DROP TABLE t").await.unwrap();
    db.close().await.unwrap();
    let numbers: Vec<i64> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>(), "rows are the caller's own");
}

/// The original took an empty key for "no encryption".
#[tokio::test]
async fn defect_4_an_empty_key_means_plaintext() {
    let home = Home::new(Kind::PlainFile);
    let error = home.builder().key(PassphraseKeySource::new("")).open().await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Key, Reason::Empty), "{error}");
    assert!(!home.path().exists(), "nothing was created");
    let db = home.builder().key(PassphraseKeySource::new("")).build();
    assert!(db.is_encrypted(), "a configured key is never taken for none");
    db.execute_script("CREATE TABLE t (a)").await.unwrap_err();
    assert!(!home.path().exists());
}

/// The original overwrote an explicit setting that equalled the default with the configuration's.
#[tokio::test]
async fn defect_5_an_explicit_setting_that_equals_the_default_is_overwritten() {
    let home = Home::new(Kind::PlainFile);
    let mut config = DatabaseConfig::default();
    config.pool.max_size = 2;
    config.pool.acquire_timeout = secs(1);
    let db = AsyncDatabase::from_config(home.path(), &config).pool_max(10).open().await.unwrap();
    let mut held = vec![db.connection().await.unwrap()];
    for _ in 0..9 {
        held.push(db.read_connection().await.unwrap());
    }
    assert_eq!(db.pool_size(), 10);
}

/// In the original, every connection to `:memory:` had a database of its own.
#[tokio::test]
async fn defect_6_connections_to_memory_see_different_databases() {
    for kind in [Kind::PlainMemory, Kind::KeyedMemory] {
        let home = Home::new(kind);
        let db = home.builder().pool_min(4).pool_max(8).open().await.unwrap();
        with_table(&db).await;
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let db = db.clone();
                tokio::spawn(async move { db.execute("INSERT INTO t (n) VALUES (1)", ()).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(count(&db).await, 16, "{kind:?}");
        assert_eq!(db.read_connection().await.unwrap().fetch_all("SELECT * FROM t", ()).await.unwrap().len(), 16);
        let other = Home::new(kind).open().await;
        assert!(!other.table_exists("t").await.unwrap(), "{kind:?}: two databases in memory are two");
    }
}

/// The original closed connections under those who used them, and its count of active ones never came down.
#[tokio::test]
async fn defect_7_closing_takes_connections_from_their_users() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    with_table(&db).await;
    let mut tx = db.begin().await.unwrap();
    let closing = tokio::spawn({
        let db = db.clone();
        async move { db.close().await.unwrap() }
    });
    // Longer than the grace that calls get once the deadline has passed.
    tokio::time::sleep(millis(1500)).await;
    assert!(!closing.is_finished());
    tx.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(closing.await.unwrap().is_clean());
    let stats = db.stats();
    assert_eq!((stats.active_connections, stats.total_connections), (0, 0), "{stats:?}");
    assert_eq!(stats.total_acquired, stats.total_released);
    assert_eq!(count(&home.open().await).await, 1);

    let db = home.open().await;
    let held = db.begin().await.unwrap();
    let report = db.close_within(millis(50)).await.unwrap();
    assert_eq!(report.abandoned, 1, "{report:?}");
    drop(held);
    common::eventually("what comes back late is counted", || db.stats().active_connections == 0).await;
    assert_eq!(db.stats().total_acquired, db.stats().total_released);
}

/// The original threw a dead connection away without replacing it, never counted it out, and retried hopeless errors.
#[tokio::test]
async fn defect_8_dead_connections_are_not_replaced_and_hopeless_errors_are_retried() {
    let home = Home::new(Kind::PlainFile);
    let db = home.builder().health(Ping).pool_min(2).pool_max(3).open().await.unwrap();
    with_table(&db).await;
    for round in 1..=5 {
        let mut conn = db.connection().await.unwrap();
        let died = conn.interact(|_| -> rusqlite::Result<()> { panic!("user code") }).await;
        assert_eq!(died.unwrap_err().reason(), Reason::Panicked);
        drop(conn);
        db.execute("INSERT INTO t (n) VALUES (1)", ()).await.expect("it was replaced");
        common::eventually("it is counted out", || db.stats().total_connections <= 3).await;
        assert_eq!(db.stats().total_errors, round, "{:?}", db.stats());
    }
    assert_whole(&db, "after dead connections").await;

    db.close().await.unwrap();
    let begin = Instant::now();
    let keyed = AsyncDatabase::builder(home.path())
        .key(PassphraseKeySource::new(Secret::raw_key([1; 32])))
        .retry(FixedDelay::new(10, secs(5)))
        .build();
    let error = keyed.connect().await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Encryption, Reason::NotEncrypted), "{error}");
    assert!(begin.elapsed() < secs(3), "a hopeless error is final");
    assert_eq!(keyed.stats().total_errors, 1, "one attempt");
}

/// The original flattened every error into one class with a text, and had one sentence for wrong keys and damage.
#[tokio::test]
async fn defect_9_errors_lose_their_class() {
    let db = memory().await;
    db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL CHECK (n > 0))").await.unwrap();
    let mut classes = Vec::new();
    for sql in
        ["INSERT INTO t VALUES (1, 1), (1, 2)", "INSERT INTO t VALUES (1, NULL)", "INSERT INTO t VALUES (1, 0)", "x"]
    {
        let inside = db.transaction(async |tx| tx.execute(sql, ()).await).await.unwrap_err();
        assert_eq!(kinds(&inside), kinds(&db.execute(sql, ()).await.unwrap_err()), "{sql}");
        classes.push(kinds(&inside));
    }
    let constraint = ErrorKind::Constraint;
    assert_eq!(
        classes,
        [
            (constraint, Reason::Unique),
            (constraint, Reason::NotNull),
            (constraint, Reason::Check),
            (ErrorKind::Query, Reason::Syntax)
        ]
    );

    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(20000))").await.unwrap();
    db.close().await.unwrap();
    let wrong = PassphraseKeySource::new(Secret::raw_key([8; 32]));
    let wrong = AsyncDatabase::builder(home.path()).key(wrong).open().await.unwrap_err();
    assert_eq!(kinds(&wrong), (ErrorKind::Encryption, Reason::WrongKey), "{wrong}");
    let mut bytes = std::fs::read(home.path()).unwrap();
    bytes[4 * 4096 + 100] ^= 1;
    std::fs::write(home.path(), bytes).unwrap();
    let db = home.open().await;
    let damaged = db.fetch_all("SELECT * FROM t", ()).await.unwrap_err();
    assert_eq!(kinds(&damaged), (ErrorKind::Storage, Reason::Damaged), "{damaged}");
    assert_ne!(wrong.to_string(), damaged.to_string());
}
