//! Rows in the memory of a process after their database was closed: fragments stay, and with `memory_security` none does.
#![cfg(all(feature = "sqlcipher", target_os = "linux"))]

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use strongroom::sqlcipher::Tuning;
use strongroom::{AsyncDatabase, Secret};

const CHILD: &str = "STRONGROOM_TEST_ROWS";
const SECURE: &str = "STRONGROOM_TEST_ROWS_SECURE";

/// Uses a database whose rows come into being inside the engine, closes it, and waits to be looked into.
async fn child(directory: &Path) {
    let tuning = Tuning::default().memory_security(std::env::var_os(SECURE).is_some());
    let key = strongroom::PassphraseKeySource::new(Secret::raw_key([7; 32]));
    let db = AsyncDatabase::builder(directory.join("a.db")).key(key).tuning(tuning).pool_max(3).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a)").await.unwrap();
    let fill = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
        INSERT INTO t SELECT printf('%s%s%s-%d', 'qZ8 row that', ' stays behind', ' Xv5', i) FROM n";
    db.execute(fill, ()).await.unwrap();
    let readers = [db.read_connection().await.unwrap(), db.read_connection().await.unwrap()];
    drop(readers);
    let ordered = "SELECT max(length(a)) FROM (SELECT a FROM t ORDER BY a DESC)";
    assert!(db.fetch_value::<i64>(ordered, ()).await.unwrap().unwrap() > 29);
    db.close().await.unwrap();
    drop(db);
    println!("\nstage: closed");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// How often the memory that a child can write to holds a row.
fn rows_left(secure: bool) -> Option<usize> {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "rows_are_wiped_if_that_is_asked_for", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, directory.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    if secure {
        command.env(SECURE, "1");
    }
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("stage: closed")), "the child failed");
    let count = count(child.id(), b"qZ8 row that stays behind Xv5-");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    count
}

fn count(process: u32, needle: &[u8]) -> Option<usize> {
    let memory = File::open(format!("/proc/{process}/mem")).ok()?;
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    let mut count = 0;
    for map in maps.lines().filter(|map| map.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
        let (start, end) = map.split_once(' ').unwrap().0.split_once('-').unwrap();
        let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        if let Ok(read) = memory.read_at(&mut bytes, start) {
            count += memchr::memmem::find_iter(&bytes[..read], needle).count();
        }
    }
    Some(count)
}

#[test]
fn rows_are_wiped_if_that_is_asked_for() {
    if let Some(directory) = std::env::var_os(CHILD) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(child(Path::new(&directory)));
    }
    let Some(left) = rows_left(false) else {
        let required = std::env::var_os("STRONGROOM_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "the memory of a child must be readable here");
        println!("skipped: the memory of a child cannot be read here");
        return;
    };
    // Otherwise the search proves nothing.
    assert!(left > 0, "no row was found without the setting");
    assert_eq!(rows_left(true), Some(0), "rows stay with the setting; without it {left}");
}
