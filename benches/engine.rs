//! The everyday calls beside rusqlite called directly, in the same run, on plain and on encrypted files.
//!
//! "direct" is one synchronous connection with cached statements on one thread; "strongroom" is one task of a tokio
//! runtime with two threads. Both write ahead with `synchronous = NORMAL` and the same page cache.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{AsyncDatabase, PassphraseKeySource, Secret, apply_cipher_key, is_sqlcipher_available, rusqlite};
use tokio::runtime::{Builder, Runtime};

const ROWS: u32 = 100_000;
const CACHE_KIB: u32 = 16 * 1024;
const SCHEMA: &str = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL NOT NULL, note TEXT);
    CREATE TABLE log (id INTEGER PRIMARY KEY, line TEXT NOT NULL);
    CREATE TABLE bulk (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL NOT NULL)";
const INSERT: &str = "INSERT INTO item VALUES (?1, ?2, ?3, ?4)";
const READ: &str = "SELECT name, price FROM item WHERE id = ?1";
const WRITE: &str = "INSERT INTO log (line) VALUES (?1)";
const BULK: &str = "INSERT INTO bulk (name, price) VALUES (?1, ?2)";
const FETCH: &str = "SELECT id, name, price, note FROM item";

/// One file, opened both ways.
struct Both {
    direct: rusqlite::Connection,
    ours: AsyncDatabase,
}

impl Both {
    fn open(runtime: &Runtime, path: &Path, encrypted: bool) -> Self {
        let secret = Secret::raw_key([7; 32]);
        let tuning = Tuning::default().synchronous(Synchronous::Normal).cache_kib(CACHE_KIB);
        let mut builder = AsyncDatabase::builder(path).tuning(tuning);
        if encrypted {
            builder = builder.key(PassphraseKeySource::new(secret.clone()));
        }
        let ours = runtime.block_on(async {
            let ours = builder.open().await.unwrap();
            ours.execute_script(SCHEMA).await.unwrap();
            let items =
                (0..ROWS).map(|id| (id, format!("item {id}"), f64::from(id) / 4.0, Some("a note of some length")));
            ours.execute_many(INSERT, items).await.unwrap();
            // Snapshots are kept only while the log is short, and this load has made it long.
            ours.execute_script("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
            ours
        });
        let direct = rusqlite::Connection::open(path).unwrap();
        if encrypted {
            apply_cipher_key(&direct, &secret).unwrap();
        }
        let settings =
            format!("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -{CACHE_KIB}");
        direct.execute_batch(&settings).unwrap();
        Self { direct, ours }
    }
}

fn point_read(criterion: &mut Criterion, runtime: &Runtime, name: &str, both: &Both) {
    let mut group = criterion.benchmark_group(format!("{name}/point read"));
    group.bench_function("direct", |bencher| {
        let mut id = 0;
        bencher.iter(|| {
            id = (id + 7919) % 1000;
            let mut statement = both.direct.prepare_cached(READ).unwrap();
            let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, f64>(1)?));
            black_box(statement.query_row([id], row).unwrap())
        });
    });
    group.bench_function("strongroom", |bencher| {
        let mut id = 0;
        bencher.to_async(runtime).iter(|| {
            id = (id + 7919) % 1000;
            async move {
                let row = both.ours.fetch_one(READ, (id,)).await.unwrap().unwrap();
                black_box((row.get::<String>(0).unwrap(), row.get::<f64>(1).unwrap()))
            }
        });
    });
    group.finish();
}

fn single_write(criterion: &mut Criterion, runtime: &Runtime, name: &str, both: &Both) {
    let mut group = criterion.benchmark_group(format!("{name}/single write"));
    group.bench_function("direct", |bencher| {
        bencher.iter(|| both.direct.prepare_cached(WRITE).unwrap().execute(["a line"]).unwrap());
    });
    group.bench_function("strongroom", |bencher| {
        bencher.to_async(runtime).iter(async || both.ours.execute(WRITE, ("a line",)).await.unwrap());
    });
    group.finish();
}

fn bulk_insert(criterion: &mut Criterion, runtime: &Runtime, name: &str, both: &Both) {
    const COUNT: u32 = 10_000;
    let mut group = criterion.benchmark_group(format!("{name}/bulk insert"));
    group.throughput(Throughput::Elements(COUNT.into())).sample_size(10);
    group.bench_function("direct", |bencher| {
        bencher.iter(|| {
            let transaction = both.direct.unchecked_transaction().unwrap();
            let mut statement = transaction.prepare_cached(BULK).unwrap();
            for n in 0..COUNT {
                statement.execute(rusqlite::params![format!("name {n}"), f64::from(n)]).unwrap();
            }
            drop(statement);
            transaction.commit().unwrap();
        });
    });
    group.bench_function("strongroom", |bencher| {
        bencher.to_async(runtime).iter(async || {
            let rows = (0..COUNT).map(|n| (format!("name {n}"), f64::from(n)));
            both.ours.execute_many(BULK, rows).await.unwrap()
        });
    });
    group.finish();
}

fn fetch(criterion: &mut Criterion, runtime: &Runtime, name: &str, both: &Both) {
    let mut group = criterion.benchmark_group(format!("{name}/fetch 100,000 rows"));
    group.throughput(Throughput::Elements(ROWS.into())).sample_size(10);
    group.bench_function("direct", |bencher| {
        bencher.iter(|| {
            let mut statement = both.direct.prepare_cached(FETCH).unwrap();
            let row = |row: &rusqlite::Row<'_>| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, f64>(2)?, row.get::<_, String>(3)?))
            };
            statement.query_map((), row).unwrap().collect::<rusqlite::Result<Vec<_>>>().unwrap()
        });
    });
    group.bench_function("strongroom", |bencher| {
        bencher.to_async(runtime).iter(async || both.ours.fetch_all(FETCH, ()).await.unwrap());
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (name, encrypted) in [("plain", false), ("encrypted", true)] {
        if encrypted && !is_sqlcipher_available() {
            continue;
        }
        let both = Both::open(&runtime, &directory.path().join(name), encrypted);
        for bench in [point_read, single_write, bulk_insert, fetch] {
            bench(criterion, &runtime, name, &both);
        }
        runtime.block_on(both.ours.close()).unwrap();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = all
}
criterion_main!(benches);
