//! SQLCipher's own check of all seals reads the whole file while it is prepared: never on the thread of the runtime.
#![cfg(all(feature = "sqlcipher", target_os = "linux"))]

mod common;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use common::{Home, Kind};

const CHECK: &str = "PRAGMA cipher_integrity_check";
const ROWS: u64 = 1000;

/// How many bytes this thread has read.
fn read_by_this_thread() -> u64 {
    let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let read = counts.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn the_check_of_all_seals_runs_on_a_thread_and_is_made_anew_each_time() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().pool_max(2).open().await.unwrap();
    db.execute("CREATE TABLE t (bytes)", ()).await.unwrap();
    db.execute_many("INSERT INTO t VALUES (zeroblob($1))", (0..ROWS).map(|_| (3900,))).await.unwrap();
    db.checkpoint().await.unwrap();
    let size = home.path().metadata().unwrap().len();
    assert!(size > ROWS * 3900);
    for who in ["reader", "writer", "transaction"] {
        for _ in 0..3 {
            let before = read_by_this_thread();
            let found = match who {
                "reader" => db.fetch_all(CHECK, ()).await,
                "writer" => db.connection().await.unwrap().fetch_all(CHECK, ()).await,
                _ => db.begin().await.unwrap().fetch_all(CHECK, ()).await,
            };
            assert!(found.unwrap().is_empty(), "{who}");
            let read = read_by_this_thread() - before;
            assert!(read < size / 2, "{who}: {read} bytes of {size} were read on the thread of the runtime");
        }
    }
    let file = OpenOptions::new().write(true).open(home.path()).unwrap();
    file.write_all_at(&[1; 8], size / 2).unwrap();
    assert!(!db.fetch_all(CHECK, ()).await.unwrap().is_empty(), "it is not what was found before");
}
