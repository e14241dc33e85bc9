//! The same work done by this library.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use futures_util::StreamExt as _;
use strongroom::sqlcipher::Tuning;
use strongroom::{AsyncDatabase, PassphraseKeySource, Secret, Transaction};

use crate::work::{
    ALL, BALANCE, INSERT, KEY, RANGE, READ, Random, Round, SCHEMA, Setup, TASKS, TRIPLE, Tuple, UPDATE, Work, fill,
    length, percentiles,
};

impl Work {
    pub(crate) async fn ours(self, db: &AsyncDatabase, setup: Setup) -> Round {
        let tasks = match self {
            Self::Reads { tasks }
            | Self::Triples { tasks }
            | Self::Ranges { tasks }
            | Self::Transactions { tasks }
            | Self::Inserts { tasks } => tasks,
            Self::First | Self::Sleep => 1,
            Self::Mixed => TASKS,
            Self::Bulk | Self::Fetch | Self::FetchAs | Self::Stream => return self.ours_in_bulk(db).await,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let workers: Vec<_> = (0..tasks)
            .map(|task| {
                let (db, stop, done) = (db.clone(), Arc::clone(&stop), Arc::clone(&done));
                tokio::spawn(async move {
                    let mut random = Random(task + 1);
                    let mut times = Vec::with_capacity(1 << 16);
                    while !stop.load(Relaxed) {
                        let before = Instant::now();
                        self.one(&db, setup, &mut random).await;
                        times.push(before.elapsed());
                    }
                    done.fetch_add(times.len() as u64, Relaxed);
                    times
                })
            })
            .collect();
        tokio::time::sleep(length()).await;
        stop.store(true, Relaxed);
        let mut times = Vec::new();
        for worker in workers {
            times.append(&mut worker.await.unwrap());
        }
        Round { rate: done.load(Relaxed) as f64 / began.elapsed().as_secs_f64(), ..percentiles(times) }
    }

    async fn one(self, db: &AsyncDatabase, setup: Setup, random: &mut Random) {
        let id = random.below(setup.rows) as i64 + 1;
        match self {
            Self::Inserts { .. } => {
                db.execute(INSERT, (id, "some text of a log")).await.unwrap();
            }
            Self::Triples { .. } => {
                let row = db.fetch_one_as::<(i64, String, f64)>(TRIPLE, (id,)).await.unwrap();
                std::hint::black_box(row);
            }
            Self::Ranges { .. } => {
                let from = random.below(setup.rows - 100) as i64 + 1;
                std::hint::black_box(db.fetch_all_as::<Tuple>(RANGE, (from, from + 99)).await.unwrap());
            }
            Self::Transactions { .. } => {
                let run = async |tx: &mut Transaction| {
                    let a = tx.fetch_value::<i64>(BALANCE, (id,)).await?;
                    tx.execute(UPDATE, (id,)).await?;
                    tx.execute(INSERT, (a, "some text of a log")).await
                };
                db.transaction(run).await.unwrap();
            }
            Self::First => {
                std::hint::black_box(db.fetch_value::<i64>(ALL, ()).await.unwrap());
            }
            Self::Sleep => {
                db.execute(INSERT, (id, "some text of a log")).await.unwrap();
                db.suspend().await.unwrap();
                std::hint::black_box(db.fetch_value::<String>(READ, (id,)).await.unwrap());
            }
            Self::Mixed if random.below(10) == 0 => {
                db.execute(UPDATE, (id,)).await.unwrap();
            }
            _ => {
                std::hint::black_box(db.fetch_value::<String>(READ, (id,)).await.unwrap());
            }
        }
    }

    async fn ours_in_bulk(self, db: &AsyncDatabase) -> Round {
        let (mut times, began) = (Vec::new(), Instant::now());
        while began.elapsed() < length() {
            let before = Instant::now();
            match self {
                Self::Bulk => {
                    let rows = (0..100_000_i64).map(|id| (id, "some text of a log"));
                    db.execute_many(INSERT, rows).await.unwrap();
                    db.execute("DELETE FROM log", ()).await.unwrap();
                }
                Self::FetchAs => {
                    std::hint::black_box(db.fetch_all_as::<Tuple>(ALL, ()).await.unwrap());
                }
                Self::Stream => {
                    let mut rows = db.fetch_stream(ALL, ());
                    while let Some(row) = rows.next().await {
                        std::hint::black_box(row.unwrap().decode::<Tuple>().unwrap());
                    }
                }
                _ => {
                    std::hint::black_box(db.fetch_all(ALL, ()).await.unwrap());
                }
            }
            times.push(before.elapsed());
        }
        let rate = times.len() as f64 * 100_000.0 / began.elapsed().as_secs_f64();
        Round { rate, ..percentiles(times) }
    }
}

pub(crate) async fn prepare_ours(path: &Path, setup: Setup) -> AsyncDatabase {
    let mut builder = AsyncDatabase::builder(path)
        .tuning(Tuning::default().synchronous(setup.synchronous).commit_in_place(setup.in_place));
    if setup.encrypted {
        builder = builder.key(PassphraseKeySource::new(Secret::raw_key(KEY)));
    }
    let db = builder.open().await.unwrap();
    db.execute_script(SCHEMA).await.unwrap();
    db.execute_script(&fill(setup.rows)).await.unwrap();
    if setup.followed {
        let mut changes = db.changes().await.unwrap();
        tokio::spawn(async move { while changes.next().await.is_some() {} });
    }
    db
}
