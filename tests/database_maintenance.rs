//! Checkpoint, vacuum, optimize and sizes: each says what it did, and nobody is kept waiting.

#![cfg(all(feature = "sqlcipher", feature = "testing"))]

mod common;

use common::{Home, Kind, Walked, assert_whole, count, memory, numbers, walk, with_table};
use strongroom::engine::TransactionMode;
use strongroom::sqlcipher::{Checkpoints, Tuning};
use strongroom::testing::ScriptedConnector;
use strongroom::{AsyncDatabase, ErrorKind, Reason, rusqlite};

/// Rows of a thousand bytes.
async fn fill(db: &AsyncDatabase, rows: u64) {
    db.execute_script("CREATE TABLE IF NOT EXISTS big (a INTEGER PRIMARY KEY, b BLOB)").await.unwrap();
    db.execute(&format!("INSERT INTO big (b) SELECT zeroblob(1000) FROM ({})", numbers(rows)), ()).await.unwrap();
}

#[tokio::test]
async fn a_checkpoint_copies_the_log_and_cuts_it_to_nothing() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let db = home.open().await;
        fill(&db, 300).await;
        assert!(db.sizes().await.unwrap().log_bytes > 300_000, "{kind:?}");
        let report = db.checkpoint().await.unwrap();
        assert!(report.pending > 75 && report.left == 0 && report.log_bytes == 0, "{kind:?}: {report:?}");
        let sizes = db.sizes().await.unwrap();
        assert_eq!((sizes.log_bytes, sizes.file_bytes), (0, sizes.pages * sizes.page_size), "{kind:?}: {sizes:?}");
        assert_eq!(db.checkpoint().await.unwrap().pending, 0, "{kind:?}");
        assert_whole(&db, "after checkpoints").await;
    }
}

#[tokio::test]
async fn a_reader_of_an_older_state_is_not_waited_for_but_told() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    fill(&db, 10).await;
    let mut old = db.begin_with(TransactionMode::READ).await.unwrap();
    old.fetch_all("SELECT count(*) FROM big", ()).await.unwrap();
    fill(&db, 300).await;
    let began = std::time::Instant::now();
    let report = db.checkpoint().await.unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "it waited for the reader");
    assert!(report.left > 0 && report.log_bytes > 0, "{report:?}");
    old.rollback().await.unwrap();
    let report = db.checkpoint().await.unwrap();
    assert_eq!((report.left, report.log_bytes), (0, 0), "{report:?}");
    assert_whole(&db, "after a reader").await;
}

#[tokio::test]
async fn a_vacuum_gives_back_what_was_deleted() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        fill(&db, 1000).await;
        db.execute("DELETE FROM big WHERE a > 10", ()).await.unwrap();
        let free = db.sizes().await.unwrap().free_pages;
        assert!(free > 200, "{kind:?}");
        let report = db.vacuum().await.unwrap();
        assert!(report.freed_bytes() >= free * 4096 && report.free_pages == 0, "{kind:?}: {report:?}");
        assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM big", ()).await.unwrap(), Some(10), "{kind:?}");
        assert_whole(&db, "after a vacuum").await;
    }
}

#[tokio::test]
async fn free_pages_are_given_back_step_by_step_with_progress() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    with_table(&db).await;
    fill(&db, 4000).await;
    db.execute("DELETE FROM big", ()).await.unwrap();
    let free = db.sizes().await.unwrap().free_pages;
    assert_eq!(db.vacuum_free(Some(0), |_| {}).await.unwrap().freed_bytes(), 0);
    let some = db.vacuum_free(Some(100), |_| {}).await.unwrap();
    assert!((100..=102).contains(&(some.pages_before - some.pages_after)), "{some:?}");
    let mut told = Vec::new();
    let all = db.vacuum_free(None, |now| told.push((now.done, now.left))).await.unwrap();
    assert!(told.len() >= 3 && told.windows(2).all(|two| two[0].0 < two[1].0), "{told:?}");
    assert_eq!((all.free_pages, told.last().unwrap().1), (0, 0), "{all:?}");
    assert!(all.pages_before - all.pages_after >= free - 102, "{all:?}");
    db.execute("INSERT INTO t VALUES (1, 1)", ()).await.unwrap();
    assert_eq!(count(&db).await, 1);
    assert_whole(&db, "after vacuum_free").await;
}

#[tokio::test]
async fn optimize_names_what_it_analyzed_and_tables_tell_their_sizes() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    fill(&db, 500).await;
    db.execute_script("CREATE INDEX by_b ON big (b); CREATE TABLE small (a)").await.unwrap();
    db.fetch_all("SELECT a FROM big WHERE b = x'00' AND a > 7", ()).await.unwrap();
    let report = db.optimize().await.unwrap();
    assert!(report.statements.iter().any(|sql| sql.contains("big")), "{report:?}");
    let tables = db.table_sizes().await.unwrap();
    assert_eq!(tables[0].name, "big", "{tables:?}");
    assert!(tables[0].bytes > 1_000_000 && tables[0].index_bytes > 400_000, "{tables:?}");
    assert!(tables[0].index_bytes < tables[0].bytes && tables.iter().any(|table| table.name == "small"), "{tables:?}");
    assert_whole(&db, "after optimize").await;
}

#[tokio::test]
async fn a_call_that_is_dropped_anywhere_leaves_the_database_whole() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    fill(&db, 200).await;
    for polls in 1..6 {
        let what = format!("dropped after {polls} polls");
        drop(walk(db.checkpoint(), polls).await);
        drop(walk(db.vacuum(), polls).await);
        drop(walk(db.vacuum_free(None, |_| {}), polls).await);
        drop(walk(db.optimize(), polls).await);
        if let Walked::Done(tables) = walk(db.table_sizes(), polls).await {
            assert!(!tables.unwrap().is_empty(), "{what}");
        }
        assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM big", ()).await.unwrap(), Some(200), "{what}");
    }
    assert_whole(&db, "after drops").await;
}

#[tokio::test]
async fn what_cannot_be_done_is_unsupported_by_name() {
    let unsupported = |error: strongroom::Error, words: &str| {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    unsupported(memory().await.checkpoint().await.unwrap_err(), "in memory");
    let home = Home::new(Kind::PlainFile);
    let tuning = Tuning::default().checkpoints(Checkpoints::External);
    let db = home.builder().tuning(tuning).open().await.unwrap();
    with_table(&db).await;
    unsupported(db.checkpoint().await.unwrap_err(), "External");
    db.close().await.unwrap();
    let db = home.builder().read_only().open().await.unwrap();
    for error in [db.checkpoint().await.unwrap_err(), db.vacuum().await.unwrap_err(), db.optimize().await.unwrap_err()]
    {
        assert_eq!(error.reason(), Reason::NotWritable);
        unsupported(error, ".read_only()");
    }
    unsupported(db.vacuum_free(None, |_| {}).await.unwrap_err(), ".read_only()");
    assert!(db.sizes().await.unwrap().pages > 0 && db.table_sizes().await.is_ok());
    db.close().await.unwrap();
    let other = Home::new(Kind::PlainFile);
    rusqlite::Connection::open(other.path()).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    unsupported(other.open().await.vacuum_free(None, |_| {}).await.unwrap_err(), "book");
    let scripted = AsyncDatabase::with_connector(ScriptedConnector::new()).open().await.unwrap();
    unsupported(scripted.checkpoint().await.unwrap_err(), "checkpoints");
    unsupported(scripted.vacuum().await.unwrap_err(), "vacuum");
    unsupported(scripted.sizes().await.unwrap_err(), "sizes");
}
