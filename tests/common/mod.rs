//! Databases of every kind that a promise must hold on.
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use strongroom::{
    AsyncDatabase, DatabaseBuilder, Error, ErrorKind, PassphraseKeySource, Reason, Secret, SqlCipherConnector,
};
use tempfile::TempDir;
use tokio::time::timeout;

/// Where a database stands, and whether it is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    PlainFile,
    KeyedFile,
    PlainMemory,
    KeyedMemory,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::PlainFile, Self::KeyedFile, Self::PlainMemory, Self::KeyedMemory];
    pub const FILES: [Self; 2] = [Self::PlainFile, Self::KeyedFile];

    pub fn is_file(self) -> bool {
        Self::FILES.contains(&self)
    }

    pub fn is_keyed(self) -> bool {
        matches!(self, Self::KeyedFile | Self::KeyedMemory)
    }
}

/// One database and the directory it stands in.
pub struct Home {
    pub kind: Kind,
    pub directory: TempDir,
}

impl Home {
    pub fn new(kind: Kind) -> Self {
        Self { kind, directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> PathBuf {
        if self.kind.is_file() { self.directory.path().join("app.db") } else { PathBuf::from(":memory:") }
    }

    /// A raw key, so that no test pays for deriving one. Plain SQLite refuses keys, and everything is plain then.
    pub fn builder(&self) -> DatabaseBuilder<SqlCipherConnector> {
        let builder = AsyncDatabase::builder(self.path()).pool_timeout(secs(10));
        if self.kind.is_keyed() && cfg!(feature = "sqlcipher") { builder.key(key()) } else { builder }
    }

    pub async fn open(&self) -> AsyncDatabase {
        self.builder().open().await.unwrap()
    }
}

pub fn key() -> PassphraseKeySource {
    PassphraseKeySource::new(Secret::raw_key([7; 32]))
}

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A database in memory, for what does not depend on where it stands.
pub async fn memory() -> AsyncDatabase {
    AsyncDatabase::builder(":memory:").open().await.unwrap()
}

/// A table of two numbers.
pub async fn with_table(db: &AsyncDatabase) {
    db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)").await.unwrap();
}

pub async fn count(db: &AsyncDatabase) -> i64 {
    db.fetch_value("SELECT count(*) FROM t", ()).await.unwrap().unwrap()
}

pub fn kinds(error: &Error) -> (ErrorKind, Reason) {
    (error.kind(), error.reason())
}

/// Rows from 1 to `n`, made by the engine itself.
pub fn numbers(n: u64) -> String {
    format!("WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c LIMIT {n}) SELECT i FROM c")
}

/// Minutes of work for the engine, in one row.
pub const ENDLESS: &str =
    "WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c LIMIT 1000000000) SELECT count(*) FROM c";

/// All that must hold when nobody uses a database: connections can be had, are clean, and the numbers are true.
pub async fn assert_whole(db: &AsyncDatabase, what: &str) {
    let readers = u32::from(db.capabilities().concurrent_readers);
    assert_capacity(db, readers, what).await;
}

/// The same, with so many readers at once beside the writer.
pub async fn assert_capacity(db: &AsyncDatabase, readers: u32, what: &str) {
    let mut held = Vec::new();
    held.push(timeout(secs(5), db.connection()).await.expect(what).expect(what));
    for _ in 0..readers {
        held.push(timeout(secs(5), db.read_connection()).await.expect(what).expect(what));
    }
    for conn in &mut held {
        let idle = conn.interact(|c| Ok(c.is_autocommit())).await.expect(what);
        assert!(idle, "{what}: a connection was lent inside a transaction");
        let keys: i64 = conn.fetch_value("PRAGMA foreign_keys", ()).await.expect(what).unwrap();
        assert_eq!(keys, 1, "{what}: a session is not as it was opened");
    }
    // A connection that is being put in order counts as lent.
    eventually(what, || db.stats().active_connections == 1 + readers).await;
    drop(held);
    eventually(what, || db.stats().active_connections == 0).await;
    let stats = db.stats();
    assert_eq!(stats.total_acquired, stats.total_released, "{what}: {stats:?}");
    assert_eq!((stats.idle_connections, stats.waiting), (stats.total_connections, 0), "{what}: {stats:?}");
}

/// How many descriptors of this process stand for a file whose path begins so.
pub fn open_files(path: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let paths = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    paths.filter(|found| found.to_string_lossy().starts_with(&*path.to_string_lossy())).count()
}

/// Waits, at most five seconds of real time, until something is so.
pub async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if so() {
            return;
        }
        tokio::time::sleep(millis(5)).await;
    }
    panic!("{what}: it never came to that");
}

/// What became of a future that was polled a few times.
pub enum Walked<T> {
    /// It was dropped after so many polls.
    Dropped,
    Done(T),
}

/// Polls a future at most `polls` times, each time when it asks to be, and drops it then.
pub async fn walk<T>(future: impl Future<Output = T>, polls: usize) -> Walked<T> {
    let mut left = polls;
    let mut future = pin!(future);
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(Walked::Dropped);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Walked::Done(value)),
            Poll::Pending if left == 0 => Poll::Ready(Walked::Dropped),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

struct Sleeper;

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {}
}

/// Polls once, whatever the future would like.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::new(Sleeper))))
}

/// Both kinds that tokio has.
pub fn runtimes() -> [tokio::runtime::Runtime; 2] {
    let mut many = tokio::runtime::Builder::new_multi_thread();
    [&mut tokio::runtime::Builder::new_current_thread(), many.worker_threads(2)]
        .map(|builder| builder.enable_all().build().unwrap())
}
