//! The work done by rusqlite, called directly.

use std::path::Path;

use strongroom::sqlcipher::Synchronous;
use strongroom::{Secret, rusqlite};

use crate::work::{
    ALL, BALANCE, INSERT, KEY, RANGE, READ, Random, Round, SCHEMA, Setup, TRIPLE, Tuple, UPDATE, Work, fill, timed,
};

impl Work {
    pub(crate) fn direct(self, db: &rusqlite::Connection, setup: Setup) -> Round {
        let mut random = Random(1);
        let read = |random: &mut Random| {
            let id = random.below(setup.rows) as i64 + 1;
            let text: String = db.prepare_cached(READ).unwrap().query_row([id], |row| row.get(0)).unwrap();
            std::hint::black_box(text);
        };
        match self {
            Self::Reads { .. } => timed(1, || read(&mut random)),
            Self::Triples { .. } => timed(1, || {
                let id = random.below(setup.rows) as i64 + 1;
                let mut triple = db.prepare_cached(TRIPLE).unwrap();
                let row: (i64, String, f64) =
                    triple.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
                std::hint::black_box(row);
            }),
            Self::Ranges { .. } => timed(1, || {
                let from = random.below(setup.rows - 100) as i64 + 1;
                std::hint::black_box(tuples(db, RANGE, [from, from + 99]));
            }),
            Self::Transactions { .. } => timed(1, || {
                let id = random.below(setup.rows) as i64 + 1;
                let run =
                    |sql, params: &[&dyn rusqlite::ToSql]| db.prepare_cached(sql).unwrap().execute(params).unwrap();
                run("BEGIN IMMEDIATE", &[]);
                let a: i64 = db.prepare_cached(BALANCE).unwrap().query_row([id], |row| row.get(0)).unwrap();
                run(UPDATE, &[&id]);
                run(INSERT, &[&a, &"some text of a log"]);
                run("COMMIT", &[]);
            }),
            Self::First => timed(1, || {
                let mut all = db.prepare_cached(ALL).unwrap();
                std::hint::black_box(all.query_row((), |row| row.get::<_, i64>(0)).unwrap());
            }),
            Self::Inserts { .. } => timed(1, || {
                let id = random.below(1 << 30) as i64;
                db.prepare_cached(INSERT).unwrap().execute((id, "some text of a log")).unwrap();
            }),
            Self::Mixed => timed(1, || {
                if random.below(10) == 0 {
                    let id = random.below(setup.rows) as i64 + 1;
                    db.prepare_cached(UPDATE).unwrap().execute([id]).unwrap();
                } else {
                    read(&mut random);
                }
            }),
            Self::Bulk => timed(100_000, || {
                db.execute_batch("BEGIN IMMEDIATE").unwrap();
                {
                    let mut insert = db.prepare_cached(INSERT).unwrap();
                    for id in 0..100_000_i64 {
                        insert.execute((id, "some text of a log")).unwrap();
                    }
                }
                db.execute_batch("COMMIT; DELETE FROM log").unwrap();
            }),
            Self::Sleep => timed(1, || {
                let own = rusqlite::Connection::open(format!("{}-beside", db.path().unwrap())).unwrap();
                if setup.encrypted {
                    strongroom::apply_cipher_key(&own, &Secret::raw_key(KEY)).unwrap();
                }
                own.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL").unwrap();
                own.execute_batch("CREATE TABLE IF NOT EXISTS log (a); INSERT INTO log VALUES (1)").unwrap();
                std::hint::black_box(
                    own.query_row("SELECT max(rowid) FROM log", (), |row| row.get::<_, i64>(0)).unwrap(),
                );
                own.close().unwrap();
            }),
            Self::Fetch | Self::FetchAs | Self::Stream => timed(100_000, || {
                std::hint::black_box(tuples(db, ALL, ()));
            }),
        }
    }
}

fn tuples(db: &rusqlite::Connection, sql: &str, params: impl rusqlite::Params) -> Vec<Tuple> {
    let mut statement = db.prepare_cached(sql).unwrap();
    let rows = statement.query_map(params, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

pub(crate) fn prepare_direct(path: &Path, setup: Setup) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(path).unwrap();
    if setup.encrypted {
        strongroom::apply_cipher_key(&db, &Secret::raw_key(KEY)).unwrap();
    }
    let synchronous = if setup.synchronous == Synchronous::Normal { "NORMAL" } else { "FULL" };
    db.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA foreign_keys = ON; {SCHEMA}"
    ))
    .unwrap();
    db.execute_batch(&fill(setup.rows)).unwrap();
    db
}
