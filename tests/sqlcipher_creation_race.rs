//! Two who create the same file at the same moment: both must end with the same database.

#![cfg(feature = "sqlcipher")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;

use strongroom::{AsyncDatabase, PassphraseKeySource, Secret};
use tempfile::TempDir;

const CHILD: &str = "STRONGROOM_TEST_RACE";

/// Opens, creating if need be, and adds a row.
async fn take_part(path: &Path, n: usize) {
    let db = AsyncDatabase::builder(path)
        .key(PassphraseKeySource::new("shared"))
        .max_retries(10)
        .retry_delay(Duration::from_millis(100))
        .open()
        .await
        .unwrap();
    db.execute("CREATE TABLE IF NOT EXISTS t (a)", ()).await.unwrap();
    db.execute("INSERT INTO t VALUES ($1)", (n,)).await.unwrap();
    db.close().await.unwrap();
}

async fn rows(path: &Path) -> Option<i64> {
    let db = AsyncDatabase::builder(path).key(PassphraseKeySource::new("shared")).open().await.unwrap();
    let rows = db.fetch_value("SELECT count(*) FROM t", ()).await.unwrap();
    db.close().await.unwrap();
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_of_one_process_that_create_a_file_together_agree_on_its_salt() {
    for _ in 0..4 {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("a.db");
        let all = (0..3).map(|n| {
            let path = path.clone();
            tokio::spawn(async move { take_part(&path, n).await })
        });
        for one in all.collect::<Vec<_>>() {
            one.await.unwrap();
        }
        assert_eq!(rows(&path).await, Some(3));
    }
}

#[tokio::test]
async fn processes_that_create_a_file_together_agree_on_its_salt() {
    if let Some(path) = std::env::var_os(CHILD) {
        // The other side of this test: wait for the signal, then go.
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return take_part(Path::new(&path), 1).await;
    }
    for _ in 0..4 {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("a.db");
        let mut children: Vec<_> = (0..3)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "processes_that_create_a_file_together_agree_on_its_salt", "--nocapture"])
                    .env(CHILD, &path)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        std::thread::sleep(Duration::from_millis(50));
        for child in &mut children {
            child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        }
        for child in &mut children {
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(rows(&path).await, Some(3));
    }
}

const FIRST: &str = "STRONGROOM_TEST_FIRST";

#[test]
fn the_first_databases_of_a_process_may_be_opened_by_many_threads_at_once() {
    if let Some(path) = std::env::var_os(FIRST) {
        return open_many(Path::new(&path));
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        AsyncDatabase::builder(&path).key(raw_key()).open().await.unwrap().close().await.unwrap();
    });
    for _ in 0..12 {
        let name = "the_first_databases_of_a_process_may_be_opened_by_many_threads_at_once";
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(FIRST, &path)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

fn raw_key() -> PassphraseKeySource {
    PassphraseKeySource::new(Secret::raw_key([7; 32]))
}

fn open_many(path: &Path) {
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                start.wait();
                runtime.block_on(async {
                    let db = AsyncDatabase::builder(path).key(raw_key()).read_only().open().await.unwrap();
                    db.close().await.unwrap();
                });
            });
        }
    });
}
