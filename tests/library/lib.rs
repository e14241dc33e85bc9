//! A library (DLL) that has a database in it. `scripts/cross-tests` builds it, `on_windows_library` loads it.
#![allow(unsafe_code, missing_docs, reason = "functions that are found by name")]

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use strongroom::sqlcipher::Tuning;
use strongroom::{AsyncDatabase, PassphraseKeySource, Secret};
use tokio::runtime::Builder;

/// Decrypts pages for ever: a thread that runs it is inside of libcrypto most of the time.
const ENDLESS: &str = "SELECT sum(length(a.body) + length(b.body) + length(c.body)) FROM big a, big b, big c";

static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Has threads read and write for as long as the process lives, in the file that `STRONGROOM_TEST_FILE` names.
#[unsafe(no_mangle)]
pub extern "C" fn begin() {
    let file = std::env::var("STRONGROOM_TEST_FILE").unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let key = PassphraseKeySource::new(Secret::raw_key([7; 32]));
        let builder = AsyncDatabase::builder(file).key(key).pool_min(4).tuning(Tuning::default().cache_kib(64));
        let db = builder.open().await.unwrap();
        db.execute_script("CREATE TABLE t (n); CREATE TABLE big (body)").await.unwrap();
        db.execute_many("INSERT INTO big VALUES ($1)", (0..300).map(|_| ("x".repeat(3500),))).await.unwrap();
        for _ in 0..3 {
            let db = db.clone();
            tokio::spawn(async move { db.fetch_all(ENDLESS, ()).await });
        }
        tokio::spawn(async move {
            loop {
                db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
                WRITTEN.fetch_add(1, SeqCst);
            }
        });
    });
    std::mem::forget(runtime);
}

/// How many rows were written so far.
#[unsafe(no_mangle)]
pub extern "C" fn written() -> u64 {
    WRITTEN.load(SeqCst)
}
