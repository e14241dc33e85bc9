//! Copies and changes of key beside what they are made of: `cp`, a read of all rows, `PRAGMA rekey` and
//! `sqlcipher_export`, taken in turns in one run; medians of rounds, as ratios.
//!
//! `cargo bench --bench copies -- [backup] [beside] [rekey] [encrypt]`. `STRONGROOM_BENCH_ROUNDS` sets the rounds (3 by
//! default), `STRONGROOM_BENCH_MB` the size of the database (200 by default).
#![allow(clippy::cast_precision_loss, reason = "numbers here are small")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strongroom::rusqlite::Connection;
use strongroom::sqlcipher::ReplaceOptions;
use strongroom::{AsyncDatabase, Secret, apply_cipher_key};
use tempfile::TempDir;

const ROW: u64 = 1000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn key(byte: u8) -> Secret {
    Secret::raw_key([byte; 32])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A database with so many megabytes, closed.
async fn filled(path: &Path, megabytes: u64, secret: Option<Secret>) {
    let builder = AsyncDatabase::builder(path);
    let db = match secret {
        Some(secret) => builder.key(secret),
        None => builder,
    };
    let db = db.open().await.unwrap();
    db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, z BLOB); CREATE INDEX i ON t (name)")
        .await
        .unwrap();
    let insert = format!(
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT $1)
         SELECT i, hex(randomblob(8)), randomblob({ROW}) FROM n"
    );
    db.execute(&insert, (megabytes * 900,)).await.unwrap();
    db.close().await.unwrap();
}

fn raw(path: &Path, secret: Option<&Secret>) -> Connection {
    let connection = Connection::open(path).unwrap();
    if let Some(secret) = secret {
        apply_cipher_key(&connection, secret).unwrap();
    }
    connection
}

fn read_all(connection: &Connection) -> i64 {
    connection.query_row("SELECT sum(length(name) + length(z)) FROM t", (), |row| row.get(0)).unwrap()
}

/// What is to be removed with its logs.
fn remove(path: &Path) {
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        std::fs::remove_file(PathBuf::from(name)).ok();
    }
}

struct Place(TempDir);

impl Place {
    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn show(what: &str, ours: Vec<f64>, theirs: Vec<f64>, mark: &str) {
    let (ours, theirs) = (median(ours), median(theirs));
    println!("{what}: {ours:.2} s beside {theirs:.2} s, ratio {:.2} ({mark})", ours / theirs);
}

async fn backup(place: &Place, rounds: u64) {
    let (original, copy) = (place.at("keyed.db"), place.at("copy.db"));
    let db = AsyncDatabase::builder(&original).key(key(1)).open().await.unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        remove(&copy);
        let began = Instant::now();
        db.backup_to(&copy).await.unwrap();
        ours.push(began.elapsed().as_secs_f64());
        remove(&copy);
        let began = Instant::now();
        std::fs::copy(&original, &copy).unwrap();
        std::fs::File::open(&copy).unwrap().sync_all().unwrap();
        read_all(&raw(&copy, Some(&key(1))));
        theirs.push(began.elapsed().as_secs_f64());
    }
    db.close().await.unwrap();
    remove(&copy);
    show("backup, beside cp, a sync and a read of all rows", ours, theirs, "at most 1.3");
}

/// Reads and writes a second, of so many tasks, until they are to stop.
async fn beside(place: &Place, rounds: u64) {
    let (original, copy) = (place.at("keyed.db"), place.at("copy.db"));
    let db = AsyncDatabase::builder(&original).key(key(1)).open().await.unwrap();
    let rows: i64 = db.fetch_value("SELECT max(id) FROM t", ()).await.unwrap().unwrap();
    let (mut alone, mut busy) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..rounds {
        for copies in [false, true] {
            remove(&copy);
            let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new([AtomicU64::new(0), AtomicU64::new(0)]));
            let tasks: Vec<_> = (0..4)
                .map(|i| {
                    let (db, stop, done) = (db.clone(), Arc::clone(&stop), Arc::clone(&done));
                    tokio::spawn(async move {
                        let mut random = fastrand::Rng::with_seed(i);
                        while !stop.load(Ordering::Relaxed) {
                            if i % 2 == 0 {
                                let id = random.i64(1..=rows);
                                db.fetch_value::<String>("SELECT name FROM t WHERE id = $1", (id,)).await.unwrap();
                            } else {
                                db.execute("INSERT INTO t (name) VALUES ('more')", ()).await.unwrap();
                            }
                            done[usize::from(i % 2 == 1)].fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            let began = Instant::now();
            if copies {
                db.backup_to(&copy).await.unwrap();
            } else {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            let took = began.elapsed().as_secs_f64();
            let rates = [0, 1].map(|i| done[i].load(Ordering::Relaxed) as f64 / took);
            stop.store(true, Ordering::Relaxed);
            for task in tasks {
                task.await.unwrap();
            }
            let kept = if copies { &mut busy } else { &mut alone };
            kept.iter_mut().zip(rates).for_each(|(kept, rate)| kept.push(rate));
        }
    }
    db.close().await.unwrap();
    remove(&copy);
    for (what, (busy, alone)) in ["reads", "writes"].into_iter().zip(busy.into_iter().zip(alone)) {
        let (busy, alone) = (median(busy), median(alone));
        println!("{what} beside a backup: {busy:.0} beside {alone:.0} a second, {:.2} (at least 0.6)", busy / alone);
    }
}

async fn rekey(place: &Place, rounds: u64) {
    let (path, other) = (place.at("keyed.db"), place.at("other.db"));
    std::fs::copy(&path, &other).unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let db = AsyncDatabase::builder(&path).key(key(1)).open().await.unwrap();
    let mut old = key(1);
    for round in 0..rounds {
        let byte = if round % 2 == 0 { 2 } else { 1 };
        let began = Instant::now();
        db.rekey(key(byte)).await.unwrap();
        ours.push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        let connection = raw(&other, Some(&old));
        let salt: String = connection.query_row("PRAGMA cipher_salt", (), |row| row.get(0)).unwrap();
        let hex = format!("{byte:02x}").repeat(32);
        connection.execute_batch(&format!("PRAGMA synchronous = FULL; PRAGMA rekey = \"x'{hex}{salt}'\"")).unwrap();
        drop(connection);
        theirs.push(began.elapsed().as_secs_f64());
        old = key(byte);
    }
    if rounds % 2 == 1 {
        db.rekey(key(1)).await.unwrap();
    }
    db.close().await.unwrap();
    remove(&other);
    show("rekey, beside PRAGMA rekey, which looks at nothing", ours, theirs, "at most 1.3");
}

async fn encrypt(place: &Place, rounds: u64, megabytes: u64) {
    let (original, path, other) = (place.at("plain.db"), place.at("a.db"), place.at("b.db"));
    filled(&original, megabytes, None).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        remove(&path);
        std::fs::copy(&original, &path).unwrap();
        let began = Instant::now();
        AsyncDatabase::builder(&path).key(key(1)).encrypt(ReplaceOptions::new()).await.unwrap();
        ours.push(began.elapsed().as_secs_f64());
        remove(&other);
        let began = Instant::now();
        let connection = raw(&original, None);
        let attach = format!("ATTACH '{}' AS new KEY \"x'{}'\"", other.display(), "01".repeat(32));
        connection.execute_batch(&format!("{attach}; SELECT sqlcipher_export('new'); DETACH new")).unwrap();
        drop(connection);
        theirs.push(began.elapsed().as_secs_f64());
    }
    for path in [&original, &path, &other] {
        remove(path);
    }
    show("encrypt in place, beside sqlcipher_export, which looks at nothing", ours, theirs, "at most 1.2");
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let (rounds, megabytes) = (number("STRONGROOM_BENCH_ROUNDS", 3), number("STRONGROOM_BENCH_MB", 200));
    let place = Place(TempDir::new().unwrap());
    if ["backup", "beside", "rekey"].into_iter().any(is_wanted) {
        filled(&place.at("keyed.db"), megabytes, Some(key(1))).await;
    }
    if is_wanted("backup") {
        backup(&place, rounds).await;
    }
    if is_wanted("beside") {
        beside(&place, rounds).await;
    }
    if is_wanted("rekey") {
        rekey(&place, rounds).await;
    }
    if is_wanted("encrypt") {
        encrypt(&place, rounds, megabytes).await;
    }
}
