//! Calls dropped half-way leave no more files open than the connections need.
#![cfg(all(feature = "sqlite", target_os = "linux"))]

mod common;

use common::{Home, Kind, Walked, eventually, open_files, walk, with_table};
use futures_util::StreamExt;
use strongroom::AsyncDatabase;

const LONG: &str = "SELECT count(*) FROM t a, t b WHERE a.n < 20 AND b.n <> a.n";

/// Three connections: the file and its log for each, and the log's index, which they share. Whoever copies the log into
/// the file may have two more.
const MOST: usize = 7 + 4;

async fn descriptors_after(call: impl AsyncFn(&AsyncDatabase)) {
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().pool_max(3).open().await.unwrap();
    with_table(&db).await;
    db.execute_many("INSERT INTO t (n) VALUES ($1)", (0..2000).map(|n| (n,))).await.unwrap();
    // A connect reads all of the schema, and so takes its time.
    db.execute_script(&(0..500).map(|n| format!("CREATE VIEW v{n} AS SELECT * FROM t;")).collect::<String>())
        .await
        .unwrap();
    for (polls, times) in [(1, 1000), (2, 50), (3, 50)] {
        for _ in 0..times {
            walk(call(&db), polls).await;
        }
        let open = open_files(&home.path());
        assert!(open <= MOST, "{open} files are open after calls dropped at poll {polls}: {:?}", db.stats());
    }
    assert!(db.close().await.unwrap().is_clean());
    assert_eq!(open_files(&home.path()), 0, "all is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reads_dropped_half_way_leave_only_the_files_of_the_connections_open() {
    descriptors_after(async |db| {
        db.fetch_value::<i64>(LONG, ()).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn streams_dropped_half_way_leave_only_the_files_of_the_connections_open() {
    descriptors_after(async |db| {
        let mut rows = db.fetch_stream("SELECT a.n FROM t a, t b", ());
        while rows.next().await.is_some() {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn loans_dropped_half_way_leave_only_the_files_of_the_connections_open() {
    descriptors_after(async |db| {
        let mut reader = db.read_connection().await.unwrap();
        reader.fetch_value::<i64>(LONG, ()).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_dropped_half_way_leave_only_the_files_of_the_connections_open() {
    descriptors_after(async |db| {
        db.execute("UPDATE t SET n = n + 1 WHERE id < 500", ()).await.unwrap();
    })
    .await;
    descriptors_after(async |db| {
        db.execute_many("INSERT INTO t (n) VALUES ($1)", (0..400).map(|n| (n,))).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transactions_dropped_half_way_leave_only_the_files_of_the_connections_open() {
    descriptors_after(async |db| {
        let mut tx = db.begin().await.unwrap();
        tx.execute("UPDATE t SET n = n + 1 WHERE id < 200", ()).await.unwrap();
        tx.fetch_value::<i64>(LONG, ()).await.unwrap();
        tx.commit().await.unwrap();
    })
    .await;
    descriptors_after(async |db| {
        db.interact(|c| c.execute("UPDATE t SET n = n + 1 WHERE id < 200", ())).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_connect_that_was_abandoned_is_lent_to_the_next_caller() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().pool_min(0).pool_max(2).open().await.unwrap();
    with_table(&db).await;
    for polls in 1..20 {
        walk(async { db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap() }, polls).await;
    }
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(0));
    let stats = db.stats();
    assert_eq!((stats.total_opened, stats.total_errors), (2, 0), "{stats:?}");
    assert!(db.close().await.unwrap().is_clean());
    assert_eq!(open_files(&home.path()), 0);
}

#[tokio::test]
async fn a_database_that_is_closed_waits_for_abandoned_connects() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().pool_max(3).open().await.unwrap();
    with_table(&db).await;
    walk(async { db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap() }, 1).await;
    assert!(db.close().await.unwrap().is_clean());
    assert_eq!(open_files(&home.path()), 0);
}

#[tokio::test]
async fn a_connect_that_was_abandoned_before_the_file_was_emptied_is_lent_to_nobody() {
    // A connect may be done before its caller looks for the first time; its connection is the pool's then.
    let (home, db, before) = loop {
        let home = Home::new(Kind::KeyedFile);
        let db = home.builder().pool_min(0).pool_max(2).open().await.unwrap();
        with_table(&db).await;
        let before = open_files(&home.path());
        let walked = walk(async { db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap() }, 1).await;
        if matches!(walked, Walked::Dropped) && db.stats().total_opened == 1 {
            break (home, db, before);
        }
    };
    eventually("the connect goes on", || open_files(&home.path()) > before).await;
    // By another process: to close the file in this one would give up the locks of the connections.
    let cut = std::process::Command::new("truncate").args(["-s", "0"]).arg(home.path()).status().unwrap();
    assert!(cut.success());
    let error = db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap_err();
    assert!(error.to_string().contains("the file was emptied"), "{error}");
}
