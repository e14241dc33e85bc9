//! Several who want a file for themselves at the same moment: each gets it in its turn.

#![cfg(feature = "sqlcipher")]

use std::time::Duration;

use strongroom::sqlcipher::Tuning;
use strongroom::{DatabaseBuilder, SqlCipherConnector};
use tempfile::TempDir;
use tokio::task::JoinSet;

#[path = "common/cipher.rs"]
mod cipher;

use cipher::{create, keyed, plain};

const TAKERS: i64 = 12;

/// Takes the file, writes a row, and gives it back.
async fn take(builder: DatabaseBuilder<SqlCipherConnector>) -> i64 {
    let tuning = Tuning::default().busy_timeout(Duration::from_secs(10));
    let db = builder.exclusive().tuning(tuning).open().await.unwrap();
    let sql = "INSERT INTO t VALUES ('mine') RETURNING rowid";
    let rows = db.fetch_value(sql, ()).await.unwrap().unwrap();
    db.close().await.unwrap();
    rows
}

#[tokio::test]
async fn all_who_want_a_file_for_themselves_at_the_same_moment_get_it_one_after_the_other() {
    for has_key in [false, true] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("a.db");
        let builder = || if has_key { keyed(&path, "a passphrase") } else { plain(&path) };
        create(builder()).await;
        let mut takers = JoinSet::new();
        for _ in 0..TAKERS {
            takers.spawn(take(builder()));
        }
        let mut seen = takers.join_all().await;
        seen.sort_unstable();
        assert_eq!(seen, (2..=TAKERS + 1).collect::<Vec<_>>(), "each found what those before it wrote");
    }
}

#[tokio::test]
async fn who_wants_a_file_for_itself_waits_for_those_who_share_it_and_they_wait_for_it() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    create(plain(&path)).await;
    let sharing = plain(&path).open().await.unwrap();
    sharing.execute("INSERT INTO t VALUES ('shared')", ()).await.unwrap();
    let takers = [tokio::spawn(take(plain(&path))), tokio::spawn(take(plain(&path)))];
    sharing.execute("INSERT INTO t VALUES ('shared')", ()).await.unwrap();
    sharing.close().await.unwrap();
    for taker in takers {
        assert!(taker.await.unwrap() >= 3);
    }
    let sharing = plain(&path).open().await.unwrap();
    assert_eq!(sharing.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(5));
}
