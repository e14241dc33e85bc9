//! Settings of the engine at both ends of what they can be.

#![cfg(feature = "sqlcipher")]

use std::time::Duration;

use strongroom::sqlcipher::Tuning;
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;

use cipher::{create, keyed, plain, read};

#[tokio::test]
async fn the_shortest_and_the_longest_are_taken() {
    let extremes = [
        Tuning::default()
            .busy_timeout(Duration::MAX)
            .statement_cache(usize::MAX)
            .journal_size_limit(u64::MAX)
            .cache_kib(u32::MAX),
        Tuning::default().busy_timeout(Duration::ZERO).statement_cache(0).journal_size_limit(0).cache_kib(0),
    ];
    for tuning in extremes {
        for has_key in [false, true] {
            let home = TempDir::new().unwrap();
            let path = home.path().join("a.db");
            let builder = || if has_key { keyed(&path, "a passphrase") } else { plain(&path) }.tuning(tuning.clone());
            create(builder()).await;
            assert_eq!(read(builder()).await.unwrap(), "row");
            assert_eq!(read(builder().exclusive()).await.unwrap(), "row");
            assert_eq!(read(builder().read_only()).await.unwrap(), "row");
        }
    }
}

#[tokio::test]
async fn the_largest_page_cache_is_a_large_one_and_so_is_the_largest_log() {
    for kib in [64, 1 << 30, i32::MAX.cast_unsigned(), u32::MAX] {
        let home = TempDir::new().unwrap();
        let db = plain(&home.path().join("a.db")).tuning(Tuning::default().cache_kib(kib)).open().await.unwrap();
        let set: i64 = db.fetch_value("PRAGMA cache_size", ()).await.unwrap().unwrap();
        assert_eq!(set, -i64::from(kib.min(i32::MAX.cast_unsigned())));
        db.close().await.unwrap();
    }
    for limit in [0, u64::MAX] {
        let home = TempDir::new().unwrap();
        let tuning = Tuning::default().journal_size_limit(limit);
        let db = plain(&home.path().join("a.db")).tuning(tuning).open().await.unwrap();
        let set: i64 = db.fetch_value("PRAGMA journal_size_limit", ()).await.unwrap().unwrap();
        assert_eq!(set.cast_unsigned(), limit.min(i64::MAX.cast_unsigned()));
        db.close().await.unwrap();
    }
}
