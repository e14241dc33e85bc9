//! A writing process that is killed: what was acknowledged is there, nothing is there by halves, and the file is whole.
//!
//! The child writes pairs of rows in every way there is and says so through a pipe, after each call has returned. The
//! parent kills it at a random moment and looks. (This is no power failure: what was handed to the system survives. So
//! `Synchronous::Normal` may lose nothing either.)
//!
//! `STRONGROOM_KILL_ROUNDS` (8 by default) is the number of deaths, `STRONGROOM_KILL_SEED` replays their moments.
#![cfg(all(feature = "sqlcipher", unix))]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{AsyncDatabase, ErrorKind, PassphraseKeySource, Result, Secret};
use tempfile::TempDir;

const CHILD: &str = "STRONGROOM_TEST_KILL";
const WAY: &str = "STRONGROOM_TEST_KILL_WAY";
const WRITERS: i64 = 8;

/// One file lives through so many deaths.
const LIVES: u64 = 12;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn tuning(way: u64) -> Tuning {
    let synchronous = match way & 5 {
        1 => Synchronous::Full,
        5 => Synchronous::FullShared,
        _ => Synchronous::Normal,
    };
    Tuning::default().synchronous(synchronous).group_commit(way & 2 == 0)
}

async fn open(path: &Path, way: u64) -> Result<AsyncDatabase> {
    let key = PassphraseKeySource::new(Secret::raw_key([7; 32]));
    AsyncDatabase::builder(path).key(key).tuning(tuning(way)).pool_max(4).open().await
}

/// Writes until it is killed. Does nothing unless started by the test below.
#[test]
fn the_writing_process() {
    let (Some(path), way) = (std::env::var_os(CHILD), number(WAY, 0)) else { return };
    let running = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    running.block_on(async {
        let db = open(Path::new(&path), way).await.unwrap();
        db.execute_script("CREATE TABLE IF NOT EXISTS pairs (writer, n, half, PRIMARY KEY (writer, n, half))")
            .await
            .unwrap();
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write_on(db.clone(), writer)));
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

async fn write_on(db: AsyncDatabase, writer: i64) {
    let next = "SELECT coalesce(max(n) + 1, 0) FROM pairs WHERE writer = $1";
    let first: i64 = db.fetch_value(next, (writer,)).await.unwrap().unwrap();
    for n in first.. {
        write_pair(&db, writer, n).await.unwrap();
        acknowledge(writer, n);
        if writer == 0 && n % 40 == 39 {
            // The file itself is written, and moved about in.
            let sql = if n % 80 == 79 { "VACUUM" } else { "PRAGMA wal_checkpoint(TRUNCATE)" };
            db.execute(sql, ()).await.unwrap();
        }
    }
}

fn acknowledge(writer: i64, n: i64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {writer} {n}").and_then(|()| out.flush()).unwrap();
}

/// Both rows or none, in one of four ways.
async fn write_pair(db: &AsyncDatabase, writer: i64, n: i64) -> Result<()> {
    let one = "INSERT INTO pairs VALUES ($1, $2, $3)";
    match (writer + n) % 4 {
        0 | 1 => db.execute("INSERT INTO pairs VALUES ($1, $2, 0), ($1, $2, 1)", (writer, n)).await.map(drop),
        2 => db.execute_many(one, [(writer, n, 0), (writer, n, 1)]).await.map(drop),
        _ => {
            db.transaction(async |tx| {
                tx.execute(one, (writer, n, 0)).await?;
                tx.execute(one, (writer, n, 1)).await.map(drop)
            })
            .await
        }
    }
}

/// Starts the writer, kills it `after` the first acknowledgement, and gives back the last one of each task.
fn live_and_die(path: &Path, way: u64, after: Duration) -> BTreeMap<i64, i64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_writing_process", "--nocapture"])
        .env(CHILD, path)
        .env(WAY, way.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(std::result::Result::ok);
    let (mut acknowledged, mut killer) = (BTreeMap::new(), None);
    let mut child = Some(child);
    for line in lines {
        // The first one may stand behind the words of the test harness; the last one may be cut off.
        let Some((_, told)) = line.split_once("ack ") else { continue };
        let numbers: Vec<i64> = told.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [writer, n] = numbers[..] else { continue };
        acknowledged.insert(writer, n);
        if let Some(mut child) = child.take() {
            killer = Some(std::thread::spawn(move || {
                std::thread::sleep(after);
                child.kill().unwrap();
                child.wait().unwrap()
            }));
        }
    }
    let status = killer.expect("the child wrote something").join().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "it died by itself: {status:?}");
    acknowledged
}

/// Opens after a death and looks at everything. Gives back the last pair of each writer.
async fn look(path: &Path, way: u64, acknowledged: &BTreeMap<i64, i64>, what: &str) -> BTreeMap<i64, i64> {
    let db = open(path, way).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let health: Option<String> = db.fetch_value("PRAGMA integrity_check", ()).await.unwrap();
    assert_eq!(health.as_deref(), Some("ok"), "{what}");
    let pages = db.fetch_all("PRAGMA cipher_integrity_check", ()).await.unwrap();
    assert!(pages.is_empty(), "{what}: {pages:?}");
    let halves = "SELECT count(*) FROM (SELECT 1 FROM pairs GROUP BY writer, n HAVING count(*) != 2)";
    assert_eq!(db.fetch_value::<i64>(halves, ()).await.unwrap(), Some(0), "{what}: half a transaction");
    let found = "SELECT writer, max(n), count(*) FROM pairs GROUP BY writer";
    let found: Vec<(i64, i64, i64)> = db.fetch_all_as(found, ()).await.unwrap();
    for (writer, told) in acknowledged {
        let (_, last, rows) =
            found.iter().find(|row| row.0 == *writer).unwrap_or_else(|| panic!("{what}: all is lost"));
        assert!(last >= told, "{what}: writer {writer} was told {told} and {last} is there");
        assert!(*last <= told + 1, "{what}: writer {writer} was told {told} and {last} is there: who wrote it?");
        assert_eq!(*rows, 2 * (last + 1), "{what}: writer {writer} has holes");
    }
    let twice = "INSERT INTO pairs SELECT * FROM pairs LIMIT 1";
    let refused = db.execute(twice, ()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Constraint, "{what}");
    db.close().await.unwrap();
    found.into_iter().map(|(writer, last, _)| (writer, last)).collect()
}

#[test]
fn a_killed_process_loses_nothing_it_acknowledged_and_leaves_nothing_half_done() {
    let (rounds, seed) = (number("STRONGROOM_KILL_ROUNDS", 8), number("STRONGROOM_KILL_SEED", 7));
    let mut random = fastrand::Rng::with_seed(seed);
    let running = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut homes: BTreeMap<u64, (TempDir, BTreeMap<i64, i64>)> = BTreeMap::new();
    let (mut pairs, mut acknowledgements) = (0, 0);
    for round in 0..rounds {
        let way = round % 4;
        if round % (4 * LIVES) < 4 {
            homes.insert(way, (TempDir::new().unwrap(), BTreeMap::new()));
        }
        let (home, told) = homes.get_mut(&way).unwrap();
        let path = home.path().join("a.db");
        let after = Duration::from_micros(random.u64(0..120_000));
        let acknowledged = live_and_die(&path, way, after);
        let what = format!("seed {seed}, round {round}, {:?}, killed after {after:?}", tuning(way));
        acknowledgements += acknowledged.iter().map(|(writer, n)| n - told.get(writer).unwrap_or(&-1)).sum::<i64>();
        told.extend(acknowledged);
        *told = running.block_on(look(&path, way, told, &what));
        pairs = pairs.max(told.values().map(|last| last + 1).sum());
    }
    println!("{rounds} deaths, {acknowledgements} acknowledgements looked for, at most {pairs} pairs in a file");
    assert!(acknowledgements >= i64::try_from(rounds).unwrap(), "hardly anything was written");
}
