//! What opening costs: plain, with a passphrase, with a raw key, and pools of one and of ten connections, each used
//! once, beside rusqlite doing the same by hand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use strongroom::{
    AsyncDatabase, DatabaseBuilder, PassphraseKeySource, Secret, SqlCipherConnector, apply_cipher_key, rusqlite,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const SCHEMA: &str = "CREATE TABLE t (a); INSERT INTO t VALUES (1)";
const SETTINGS: &str = "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL";
const READ: &str = "SELECT a FROM t";

/// Ways to lock a database.
#[derive(Clone, Copy)]
enum Lock {
    Plain,
    Passphrase,
    RawKey,
}

impl Lock {
    fn secret(self) -> Option<Secret> {
        match self {
            Self::Plain => None,
            Self::Passphrase => Some(Secret::new("correct horse battery staple")),
            Self::RawKey => Some(Secret::raw_key([7; 32])),
        }
    }

    fn builder(self, path: &Path) -> DatabaseBuilder<SqlCipherConnector> {
        let builder = AsyncDatabase::builder(path);
        match self.secret() {
            Some(secret) => builder.key(PassphraseKeySource::new(secret)),
            None => builder,
        }
    }
}

/// Opens `connections`, uses each once while all are held, and closes.
async fn pooled(builder: DatabaseBuilder<SqlCipherConnector>, connections: u32) {
    let db = builder.pool_max(connections).open().await.unwrap();
    if connections == 1 {
        db.fetch_value::<i64>(READ, ()).await.unwrap();
    } else {
        let mut held = vec![db.connection().await.unwrap()];
        for _ in 1..connections {
            held.push(db.read_connection().await.unwrap());
        }
        for conn in &mut held {
            conn.fetch_value::<i64>(READ, ()).await.unwrap();
        }
    }
    db.close().await.unwrap();
}

/// The same with one connection of rusqlite.
fn direct(path: &Path, secret: Option<&Secret>) {
    let connection = rusqlite::Connection::open(path).unwrap();
    if let Some(secret) = secret {
        apply_cipher_key(&connection, secret).unwrap();
    }
    connection.execute_batch(SETTINGS).unwrap();
    connection.query_row(READ, (), |row| row.get::<_, i64>(0)).unwrap();
    connection.close().unwrap();
}

fn prepared(runtime: &Runtime, directory: &TempDir, name: &str, lock: Lock) -> PathBuf {
    let path = directory.path().join(name);
    runtime.block_on(async {
        let db = lock.builder(&path).open().await.unwrap();
        db.execute_script(SCHEMA).await.unwrap();
        db.close().await.unwrap();
    });
    path
}

fn open(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let directory = TempDir::new().unwrap();
    let mut group = c.benchmark_group("open");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for (name, lock) in [("plain", Lock::Plain), ("passphrase", Lock::Passphrase), ("raw key", Lock::RawKey)] {
        let path = prepared(&runtime, &directory, name, lock);
        let secret = lock.secret();
        group.bench_function(format!("{name}/rusqlite, 1"), |b| b.iter(|| direct(&path, secret.as_ref())));
        for connections in [1, 10] {
            group.bench_function(format!("{name}/pool of {connections}"), |b| {
                b.to_async(&runtime).iter(|| pooled(lock.builder(&path), connections));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, open);
criterion_main!(benches);
