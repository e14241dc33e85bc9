//! The hot paths, one at a time, for tools that count instructions: `hot_paths PATH TIMES` does it so many times.
//!
//! `scripts/instruction-counts` runs this under callgrind and compares with what stands in `benches/instructions.txt`.
#![allow(clippy::cast_possible_wrap, reason = "numbers here are small")]

use std::hint::black_box;
use std::time::Duration;

use strongroom::database::{Event, Observer};
use strongroom::engine::Access;
use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{AsyncDatabase, PassphraseKeySource, Pool, Secret, SqlCipherConnector, Transaction, rusqlite};

const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT, c REAL);
    CREATE TABLE log (id INTEGER PRIMARY KEY, a INTEGER, b TEXT);
    WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 20000)
    INSERT INTO t SELECT i, i * 7, 'a text of some thirty characters ' || i, i / 3.0 FROM n";
const READ: &str = "SELECT b FROM t WHERE id = $1";
const INSERT: &str = "INSERT INTO log (a, b) VALUES ($1, $2)";
const FETCH: &str = "SELECT id, a, b, c FROM t LIMIT $1";
const RANGE: &str = "SELECT id, a, b, c FROM t WHERE id BETWEEN $1 AND $2";
const BALANCE: &str = "SELECT a FROM t WHERE id = $1";
const UPDATE: &str = "UPDATE t SET a = a + 1 WHERE id = $1";

type Tuple = (i64, i64, String, f64);

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let (Some(path), Some(times)) = (args.next(), args.next()) else {
        return println!("usage: hot_paths PATH TIMES, where PATH is one of {}", PATHS.join(", "));
    };
    let times: u64 = times.parse().expect("a number");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hot.db");
    if let Some(path) = path.strip_prefix("direct-") {
        return direct(path, times, &file);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // What waits for the disk goes through the lane's thread; the rest stays on the task.
    let synchronous = if path == "lane" { Synchronous::Full } else { Synchronous::Normal };
    runtime.block_on(async {
        let builder = AsyncDatabase::builder(&file)
            .tuning(Tuning::default().synchronous(synchronous))
            .key(PassphraseKeySource::new(Secret::raw_key([7; 32])));
        let builder = if path == "observed" { builder.observer(Nothing) } else { builder };
        let db = builder.open().await.unwrap();
        db.execute_script(SCHEMA).await.unwrap();
        db.execute_script("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
        ours(&path, times, &db).await;
        db.close().await.unwrap();
    });
}

/// Is told, and does nothing.
struct Nothing;

impl Observer for Nothing {
    fn observe(&self, _: &Event<'_>) {}
}

const PATHS: [&str; 17] = [
    "checkout",
    "read",
    "observed",
    "write",
    "followed",
    "lane",
    "transaction",
    "statement",
    "bulk",
    "fetch",
    "fetch-as",
    "range",
    "direct-read",
    "direct-bulk",
    "direct-fetch",
    "direct-range",
    "direct-transaction",
];

async fn ours(path: &str, times: u64, db: &AsyncDatabase) {
    match path {
        // A connection of the pool, borrowed and given back.
        "checkout" => {
            let pool = Pool::builder(SqlCipherConnector::new(":memory:")).build();
            for _ in 0..times {
                black_box(pool.get_for(Access::Read).await.unwrap());
            }
            pool.close(Duration::from_secs(1)).await;
        }
        // A point read on the caller's task, and one that somebody observes.
        "read" | "observed" => {
            for turn in 0..times {
                let id = (turn % 1000) as i64 + 1;
                black_box(db.fetch_value::<String>(READ, (id,)).await.unwrap());
            }
        }
        // A lone insert on the caller's task, and one of which somebody hears.
        "write" | "followed" => {
            let listener = if path == "followed" { Some(db.changes().await.unwrap()) } else { None };
            if let Some(mut changes) = listener {
                tokio::spawn(async move { while changes.next().await.is_some() {} });
            }

            for turn in 0..times {
                db.execute(INSERT, (turn as i64, "some text of a log")).await.unwrap();
            }
        }
        // Inserts of 32 callers at a time, which share commits on a thread.
        "lane" => {
            for turn in 0..times / 32 {
                let inserts = (0..32).map(|_| db.execute(INSERT, (turn as i64, "some text of a log")));
                futures_util::future::try_join_all(inserts).await.unwrap();
            }
        }
        // A transaction on the caller's task: read, update, insert, commit.
        "transaction" => {
            for turn in 0..times {
                let id = (turn % 1000) as i64 + 1;
                let run = async |tx: &mut Transaction| {
                    let a = tx.fetch_value::<i64>(BALANCE, (id,)).await?;
                    tx.execute(UPDATE, (id,)).await?;
                    tx.execute(INSERT, (a, "some text of a log")).await
                };
                db.transaction(run).await.unwrap();
            }
        }
        // One of many inserts of a transaction.
        "statement" => {
            let mut tx = db.begin().await.unwrap();
            for turn in 0..times {
                tx.execute(INSERT, (turn as i64, "some text of a log")).await.unwrap();
            }
            tx.commit().await.unwrap();
        }
        // A hundred rows into tuples, on the caller's task.
        "range" => {
            for turn in 0..times {
                let from = (turn * 100 % 1000) as i64 + 1;
                black_box(db.fetch_all_as::<Tuple>(RANGE, (from, from + 99)).await.unwrap());
            }
        }
        // One row of a bulk insert.
        "bulk" => {
            let rows = (0..times as i64).map(|id| (id, "some text of a log"));
            db.execute_many(INSERT, rows).await.unwrap();
        }
        // One row of a large result.
        "fetch" => {
            black_box(db.fetch_all(FETCH, (times as i64,)).await.unwrap());
        }
        // The same into tuples.
        "fetch-as" => {
            let rows: Vec<Tuple> = db.fetch_all_as(FETCH, (times as i64,)).await.unwrap();
            black_box(rows);
        }
        _ => panic!("there is no such path; there are {}", PATHS.join(", ")),
    }
}

/// The same by rusqlite alone, for comparison.
fn direct(path: &str, times: u64, file: &std::path::Path) {
    let db = rusqlite::Connection::open(file).unwrap();
    strongroom::apply_cipher_key(&db, &Secret::raw_key([7; 32])).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL").unwrap();
    db.execute_batch(SCHEMA).unwrap();
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    match path {
        "read" => {
            for turn in 0..times {
                let id = (turn % 1000) as i64 + 1;
                let text: String = db.prepare_cached(READ).unwrap().query_row([id], |row| row.get(0)).unwrap();
                black_box(text);
            }
        }
        "bulk" => {
            db.execute_batch("BEGIN IMMEDIATE").unwrap();
            let mut insert = db.prepare_cached(INSERT).unwrap();
            for id in 0..times as i64 {
                insert.execute((id, "some text of a log")).unwrap();
            }
            drop(insert);
            db.execute_batch("COMMIT").unwrap();
        }
        "fetch" => {
            black_box(tuples(&db, FETCH, [times as i64]));
        }
        "range" => {
            for turn in 0..times {
                let from = (turn * 100 % 1000) as i64 + 1;
                black_box(tuples(&db, RANGE, [from, from + 99]));
            }
        }
        "transaction" => {
            let run = |sql, params: &[&dyn rusqlite::ToSql]| db.prepare_cached(sql).unwrap().execute(params).unwrap();
            for turn in 0..times {
                let id = (turn % 1000) as i64 + 1;
                run("BEGIN IMMEDIATE", &[]);
                let a: i64 = db.prepare_cached(BALANCE).unwrap().query_row([id], |row| row.get(0)).unwrap();
                run(UPDATE, &[&id]);
                run(INSERT, &[&a, &"some text of a log"]);
                run("COMMIT", &[]);
            }
        }
        _ => panic!("there is no such path; there are {}", PATHS.join(", ")),
    }
}

fn tuples(db: &rusqlite::Connection, sql: &str, params: impl rusqlite::Params) -> Vec<Tuple> {
    let mut statement = db.prepare_cached(sql).unwrap();
    let rows = statement.query_map(params, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
    rows.unwrap().map(Result::unwrap).collect()
}
