//! `check()`: finds what is damaged, says where, and keeps nobody waiting.
#![cfg(all(feature = "sqlcipher", feature = "testing"))]

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use common::{Home, Kind, Walked, assert_whole, memory, millis, numbers, secs, walk, with_table};
use strongroom::database::CheckDepth;
use strongroom::database::CheckReport;
use strongroom::testing::ScriptedConnector;
use strongroom::{AsyncDatabase, ErrorKind, Reason};
use tokio::time::timeout;

const PAGE: usize = 4096;

/// Two tables, one with an index, some sixty pages; closed, so that all of it is in the file.
async fn filled(home: &Home) {
    let db = home.open().await;
    db.execute_script("CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT); CREATE INDEX by_name ON a (name)")
        .await
        .unwrap();
    db.execute_script("CREATE TABLE \"it's\" (x)").await.unwrap();
    let names = (0..1000).map(|n| (n, format!("name number {n:04} {}", "x".repeat(80))));
    db.execute_many("INSERT INTO a VALUES ($1, $2)", names).await.unwrap();
    db.close().await.unwrap();
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn words(report: &CheckReport) -> String {
    report.problems.iter().map(|problem| format!("{}: {}\n", problem.step, problem.message)).collect()
}

#[tokio::test]
async fn a_sound_database_has_no_problems_and_every_step_is_told() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        if kind.is_file() {
            filled(&home).await;
        }
        let db = home.open().await;
        if !kind.is_file() {
            db.execute_script("CREATE TABLE a (x); CREATE TABLE \"it's\" (x)").await.unwrap();
        }
        let quick = db.check(CheckDepth::Quick).await.unwrap();
        assert!(quick.is_ok() && quick.steps == 1, "{kind:?}: {quick:?}");
        let mut told = Vec::new();
        let full = db
            .check_with(CheckDepth::Full, |now| told.push((now.done, now.total, now.step.to_owned(), now.problems)))
            .await
            .unwrap();
        assert!(full.is_ok() && !full.truncated, "{kind:?}: {full:?}");
        let sealed = kind == Kind::KeyedFile;
        let mut expected = vec!["structure", "table a", "table it's", "foreign keys"];
        if sealed {
            expected.insert(0, "pages");
        }
        let counted: Vec<_> = told.iter().map(|(done, total, _, problems)| (*done, *total, *problems)).collect();
        let total = told.len();
        assert_eq!(counted, (1..=total).map(|done| (done, total, 0)).collect::<Vec<_>>(), "{kind:?}: {told:?}");
        assert_eq!(full.steps, total);
        // The planner's statistics are tables too.
        let steps: Vec<_> = told.iter().map(|told| &*told.2).filter(|step| !step.contains("sqlite_")).collect();
        assert_eq!(steps, expected, "{kind:?}");
        assert_whole(&db, "after a check").await;
    }
}

#[tokio::test]
async fn a_flipped_bit_in_an_encrypted_page_is_found_and_the_page_named() {
    let home = Home::new(Kind::KeyedFile);
    filled(&home).await;
    change(&home.path(), |bytes| bytes[20 * PAGE + 77] ^= 1);
    let db = home.open().await;
    let report = db.check(CheckDepth::Full).await.unwrap();
    let first = &report.problems[0];
    assert_eq!(first.step, "pages");
    assert!(first.message.contains("21"), "page 21 is the damaged one: {}", words(&report));
    assert_eq!(report.problems.iter().filter(|problem| problem.step == "pages").count(), 1, "{}", words(&report));
    let quick = db.check(CheckDepth::Quick).await.unwrap();
    assert!(!quick.is_ok(), "it is a page in use");
    db.execute("INSERT INTO \"it's\" VALUES (1)", ()).await.expect("the rest still works");
    assert_eq!(db.fetch_value::<i64>("SELECT 1", ()).await.unwrap(), Some(1));
}

#[tokio::test]
async fn damage_all_over_is_named_up_to_a_bound() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    with_table(&db).await;
    db.execute_script("CREATE TABLE big (x)").await.unwrap();
    db.execute_many("INSERT INTO big VALUES (zeroblob($1))", [(1_000_000,)]).await.unwrap();
    db.close().await.unwrap();
    change(&home.path(), |bytes| bytes.chunks_mut(PAGE).skip(5).for_each(|page| page[9] ^= 0x40));
    let db = home.open().await;
    let report = db.check(CheckDepth::Full).await.unwrap();
    assert_eq!((report.problems.len(), report.truncated), (100, true), "{}", words(&report));
}

#[tokio::test]
async fn a_broken_page_of_a_plain_file_is_found_by_the_quick_check_too() {
    let home = Home::new(Kind::PlainFile);
    filled(&home).await;
    change(&home.path(), |bytes| bytes[20 * PAGE..21 * PAGE].fill(0xAB));
    let db = home.open().await;
    for depth in [CheckDepth::Quick, CheckDepth::Full] {
        let report = db.check(depth).await.unwrap();
        assert!(!report.is_ok(), "{depth:?}");
    }
}

#[tokio::test]
async fn an_index_that_disagrees_with_its_table_is_found_by_the_full_check_only() {
    let home = Home::new(Kind::PlainFile);
    filled(&home).await;
    change(&home.path(), |bytes| {
        let name = b"name number 0500";
        let places: Vec<_> = (0..bytes.len() - name.len()).filter(|at| bytes[*at..].starts_with(name)).collect();
        assert_eq!(places.len(), 2, "once in the table, once in the index");
        bytes[places[0] + name.len() + 5] = b'y';
    });
    let db = home.open().await;
    assert!(db.check(CheckDepth::Quick).await.unwrap().is_ok());
    let report = db.check(CheckDepth::Full).await.unwrap();
    assert!(report.problems.iter().all(|problem| problem.step == "table a"), "{}", words(&report));
    assert!(words(&report).contains("by_name"), "{}", words(&report));
    assert!(!words(&report).contains("name number"), "no values: {}", words(&report));
}

#[tokio::test]
async fn a_reference_to_nothing_is_found_by_the_full_check() {
    let db = memory().await;
    db.execute_script("CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p INTEGER REFERENCES p)")
        .await
        .unwrap();
    let mut raw = db.connection().await.unwrap();
    raw.execute("PRAGMA foreign_keys = OFF", ()).await.unwrap();
    raw.execute("INSERT INTO c VALUES (7)", ()).await.unwrap();
    drop(raw);
    assert!(db.check(CheckDepth::Quick).await.unwrap().is_ok());
    let report = db.check(CheckDepth::Full).await.unwrap();
    assert_eq!(words(&report), "foreign keys: c (row 1) refers to a row of p that does not exist\n");
}

#[tokio::test]
async fn writers_do_not_wait_for_a_check_and_a_check_does_not_wait_for_them() {
    let home = Home::new(Kind::KeyedFile);
    filled(&home).await;
    let db = home.open().await;
    let mut tx = db.begin().await.unwrap();
    tx.execute("INSERT INTO a VALUES (5000, 'x')", ()).await.unwrap();
    let report = timeout(secs(20), db.check(CheckDepth::Full)).await.expect("beside an open write").unwrap();
    assert!(report.is_ok(), "{}", words(&report));
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_and_checkpoints_meanwhile_raise_no_false_alarm() {
    let home = Home::new(Kind::KeyedFile);
    filled(&home).await;
    let db = home.open().await;
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (db, stop) = (db.clone(), stop.clone());
        async move {
            let mut n = 0_i64;
            while !stop.load(SeqCst) {
                n += 1;
                db.execute("UPDATE a SET name = name || $1 WHERE id % 7 = $2", (n, n % 7)).await.unwrap();
                db.fetch_all("PRAGMA wal_checkpoint(PASSIVE)", ()).await.unwrap();
            }
        }
    });
    for _ in 0..30 {
        let report = db.check(CheckDepth::Full).await.unwrap();
        assert!(report.is_ok(), "{}", words(&report));
    }
    stop.store(true, SeqCst);
    writing.await.unwrap();
}

#[tokio::test]
async fn a_check_dropped_at_every_await_leaves_everything_whole_and_a_late_one_says_so() {
    let home = Home::new(Kind::KeyedFile);
    filled(&home).await;
    let db = home.open().await;
    with_table(&db).await;
    for polls in 0.. {
        let outcome = Box::pin(walk(db.check(CheckDepth::Full), polls)).await;
        assert_whole(&db, "after a check that was dropped").await;
        if let Walked::Done(report) = outcome {
            assert!(report.unwrap().is_ok());
            break;
        }
    }
    db.execute(&format!("INSERT INTO a (name) SELECT 'n' || i FROM ({})", numbers(300_000)), ()).await.unwrap();
    let late = db.with_timeout(millis(20)).check(CheckDepth::Full).await.unwrap_err();
    assert_eq!((late.kind(), late.reason()), (ErrorKind::Timeout, Reason::RolledBack), "{late}");
    assert_whole(&db, "after a late check").await;
}

#[tokio::test]
async fn an_engine_without_checks_says_so() {
    let db = AsyncDatabase::with_connector(ScriptedConnector::new()).build();
    let error = db.check(CheckDepth::Quick).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test]
async fn a_full_text_index_that_others_merge_is_not_called_damaged() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.builder().pool_max(2).open().await.unwrap();
        let schema = "CREATE VIRTUAL TABLE words USING fts5(w);
            CREATE VIRTUAL TABLE boxes USING rtree(id, low, high); INSERT INTO boxes VALUES (1, 0, 1)";
        db.execute_script(schema).await.unwrap();
        db.execute("INSERT INTO words VALUES ('first')", ()).await.unwrap();
        let search = "SELECT count(*) FROM words WHERE words MATCH 'first'";
        for round in 0..4 {
            assert_eq!(db.fetch_value::<i64>(search, ()).await.unwrap(), Some(1));
            db.fetch_all("SELECT * FROM boxes WHERE low < 1", ()).await.unwrap();
            for n in 0..40 {
                db.execute("INSERT INTO words VALUES ($1)", (format!("word{round} and{n}"),)).await.unwrap();
                db.execute("INSERT INTO boxes (low, high) VALUES ($1, $1)", (n,)).await.unwrap();
            }
            db.execute("INSERT INTO words (words) VALUES ('optimize')", ()).await.unwrap();
            for depth in [CheckDepth::Quick, CheckDepth::Full] {
                let report = db.check(depth).await.unwrap();
                assert!(report.is_ok(), "{kind:?}: round {round}: {:?}", report.problems);
            }
        }
        assert_eq!(db.fetch_value::<i64>(search, ()).await.unwrap(), Some(1));
    }
}

/// As a power failure in the middle of a checkpoint leaves it.
#[tokio::test]
async fn pages_that_are_torn_in_the_file_and_whole_in_the_log_are_no_damage() {
    for kind in Kind::FILES {
        let (home, torn) = (Home::new(kind), Home::new(kind));
        let [file, log] = ["app.db", "app.db-wal"].map(|name| home.directory.path().join(name));
        let db = home.open().await;
        with_table(&db).await;
        let fill = format!("INSERT INTO t SELECT i, i FROM ({})", numbers(2000));
        db.execute(&fill, ()).await.unwrap();
        fs::copy(log, torn.directory.path().join("app.db-wal")).unwrap();
        db.close().await.unwrap();
        let mut bytes = fs::read(file).unwrap();
        assert!(bytes.len() > 4 * 4096, "{} bytes", bytes.len());
        for page in bytes.chunks_mut(4096).skip(1) {
            page[2048..].fill(0);
        }
        fs::write(torn.path(), bytes).unwrap();
        let db = torn.open().await;
        let report = db.check(CheckDepth::Full).await.unwrap();
        assert!(report.is_ok(), "{kind:?}: {report:?}");
        assert_eq!(common::count(&db).await, 2000);
        db.close().await.unwrap();
    }
}
