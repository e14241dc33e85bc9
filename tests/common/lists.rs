//! Callers that append to lists and read them in each way there is, and a history of what they were told.
#![allow(unsafe_code, reason = "the clock that all processes have")]
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

#[path = "histories.rs"]
pub mod histories;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use histories::{Op, Outcome, Transaction};
use strongroom::database::TransactionOptions;
use strongroom::engine::TransactionMode;
use strongroom::{AsyncDatabase, Connection, Connector, Error, ErrorKind, Result};
use tokio::time::sleep;

pub const TABLE: &str = "CREATE TABLE lists (k BIGINT PRIMARY KEY, vs TEXT NOT NULL)";
const APPEND: &str = "INSERT INTO lists VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET vs = lists.vs || excluded.vs";
const READ: &str = "SELECT vs FROM lists WHERE k = $1";

/// So many lists are in use at a time, each for a little while, so that none grows long.
const KEYS: u64 = 5;
const TURN: u64 = 40_000_000;

/// Nanoseconds, the same for all processes.
pub fn now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the address of a time.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) }, 0);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// Of databases.
pub trait Engine: Connector<Connection: Connection> {}
impl<C: Connector<Connection: Connection>> Engine for C {}

pub struct Caller {
    random: fastrand::Rng,
    next: u64,
    write: TransactionOptions,
    read: TransactionMode,
    pub history: Vec<Transaction>,
}

fn outcome<T>(told: &Result<T>) -> Outcome {
    match told {
        Ok(_) => Outcome::Committed,
        Err(error) if error.kind() == ErrorKind::OutcomeUnknown => Outcome::Unknown,
        Err(_) => Outcome::Aborted,
    }
}

fn list(text: Option<String>) -> Vec<u64> {
    let text = text.unwrap_or_default();
    text.split_terminator(',').map(|value| value.parse().unwrap_or_else(|_| panic!("torn: {text}"))).collect()
}

impl Caller {
    /// The number is another one for each caller in each process.
    pub fn new(number: u64, seed: u64, write: TransactionOptions, read: TransactionMode) -> Self {
        let random = fastrand::Rng::with_seed(seed.wrapping_add(number));
        Self { random, next: number << 32, write, read, history: Vec::new() }
    }

    fn key(&mut self) -> u64 {
        now() / TURN * KEYS + self.random.u64(..KEYS)
    }

    fn value(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn tell(&mut self, begun: u64, ops: Vec<Op>, outcome: Outcome) {
        self.history.push(Transaction { begun, ended: now(), ops, outcome });
    }

    /// One call, or one transaction. Gives back what went wrong.
    pub async fn step<C: Engine>(&mut self, db: &AsyncDatabase<C>) -> Option<Error> {
        match self.random.u8(..20) {
            0..5 => self.read(db).await,
            5..7 => self.read_several(db).await,
            7..11 => self.append(db).await,
            11 => self.append_and_read(db).await,
            12 => self.append_many(db).await,
            13 => self.drop_half_way(db).await,
            14..16 => self.one_view(db).await,
            _ => self.transaction(db).await,
        }
    }

    async fn read<C: Engine>(&mut self, db: &AsyncDatabase<C>) -> Option<Error> {
        let (begun, key) = (now(), self.key());
        let found = db.fetch_value::<String>(READ, (key,)).await;
        let told = outcome(&found);
        found.map(|text| self.tell(begun, vec![Op::Read(key, list(text))], told)).err()
    }

    /// All lists of this moment, in one statement.
    async fn read_several<C: Engine>(&mut self, db: &AsyncDatabase<C>) -> Option<Error> {
        let (begun, first) = (now(), self.key() / KEYS * KEYS);
        let sql = "SELECT k, vs FROM lists WHERE k >= $1 AND k < $2";
        let found = db.fetch_all_as::<(u64, String)>(sql, (first, first + KEYS)).await;
        let told = outcome(&found);
        let ops = |found: Vec<(u64, String)>| {
            let text = |key| found.iter().find(|(of, _)| *of == key).map(|(_, text)| text.clone());
            (first..first + KEYS).map(|key| Op::Read(key, list(text(key)))).collect()
        };
        found.map(|found| self.tell(begun, ops(found), told)).err()
    }

    /// Everything, at the end.
    pub async fn read_all<C: Engine>(&mut self, db: &AsyncDatabase<C>) -> Result<()> {
        let begun = now();
        let found = db.fetch_all_as::<(u64, String)>("SELECT k, vs FROM lists", ()).await?;
        let ops = found.into_iter().map(|(key, text)| Op::Read(key, list(Some(text))));
        self.tell(begun, ops.collect(), Outcome::Committed);
        Ok(())
    }

    async fn append<C: Engine>(&mut self, db: &AsyncDatabase<C>) -> Option<Error> {
        let (begun, key, value) = (now(), self.key(), self.value());
        let done = db.execute(APPEND, (key, format!("{value},"))).await;
        self.tell(begun, vec![Op::Append(key, value)], outcome(&done));
        done.err()
    }

    async fn append_and_read<C: Engine>(&mut self, db: &AsyncDatabase<C>) -> Option<Error> {
        let (begun, key, value) = (now(), self.key(), self.value());
        let sql = format!("{APPEND} RETURNING vs");
        let done = db.fetch_value::<String>(&sql, (key, format!("{value},"))).await;
        let told = outcome(&done);
        let read = done.as_ref().ok().map(|text| Op::Read(key, list(text.clone())));
        self.tell(begun, [Op::Append(key, value)].into_iter().chain(read).collect(), told);
        done.err()
    }

    async fn append_many<C: Engine>(&mut self, db: &AsyncDatabase<C>) -> Option<Error> {
        let (begun, first) = (now(), self.key() / KEYS * KEYS);
        let sets: Vec<_> = (first..first + 3).map(|key| (key, self.value())).collect();
        let done = db.execute_many(APPEND, sets.iter().map(|(key, value)| (*key, format!("{value},")))).await;
        let ops = sets.iter().map(|(key, value)| Op::Append(*key, *value)).collect();
        self.tell(begun, ops, outcome(&done));
        done.err()
    }

    /// Nobody is told what becomes of it.
    async fn drop_half_way<C: Engine>(&mut self, db: &AsyncDatabase<C>) -> Option<Error> {
        let (begun, key, value) = (now(), self.key(), self.value());
        let mut call = Box::pin(db.execute(APPEND, (key, format!("{value},"))));
        for _ in 0..self.random.u8(..3) {
            if futures_util::poll!(call.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        self.tell(begun, vec![Op::Append(key, value)], Outcome::Unknown);
        None
    }

    /// Several reads in a transaction that only reads, with pauses.
    async fn one_view<C: Engine>(&mut self, db: &AsyncDatabase<C>) -> Option<Error> {
        let begun = now();
        let keys: Vec<u64> = (0..3).map(|_| self.key()).collect();
        let reads = async {
            let (mut tx, mut ops) = (db.begin_with(self.read).await?, Vec::new());
            for key in keys {
                ops.push(Op::Read(key, list(tx.fetch_value(READ, (key,)).await?)));
                sleep(Duration::from_micros(300)).await;
            }
            tx.commit().await.map(|()| ops)
        };
        reads.await.map(|ops| self.tell(begun, ops, Outcome::Committed)).err()
    }

    /// Reads and appends, with a savepoint that is rolled back; one in eight is rolled back itself.
    async fn transaction<C: Engine>(&mut self, db: &AsyncDatabase<C>) -> Option<Error> {
        let begun = now();
        let appends: Vec<bool> = (0..self.random.u8(2..5)).map(|_| self.random.u8(..3) == 0).collect();
        let plan: Vec<(u64, bool)> = appends.into_iter().map(|appends| (self.key(), appends)).collect();
        let (undo, nested) = (self.random.u8(..8) == 0, self.random.u8(..4) == 0);
        // What each attempt did, and what its savepoint undid.
        let (attempts, next) = (Mutex::new(Vec::<[Vec<Op>; 2]>::new()), Mutex::new(self.next));
        let note = |undone: bool, op| {
            let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
            attempts.last_mut().unwrap()[usize::from(undone)].push(op);
        };
        let value = || {
            let mut next = next.lock().unwrap();
            *next += 1;
            *next
        };
        let work = async |tx: &mut strongroom::Transaction<C>| {
            attempts.lock().unwrap().push([Vec::new(), Vec::new()]);
            for (key, appends) in &plan {
                if *appends {
                    let value = value();
                    note(false, Op::Append(*key, value));
                    tx.execute(APPEND, (*key, format!("{value},"))).await?;
                } else {
                    note(false, Op::Read(*key, list(tx.fetch_value(READ, (*key,)).await?)));
                }
            }
            if nested {
                let (key, value) = (plan[0].0, value());
                note(true, Op::Append(key, value));
                let mut savepoint = tx.begin().await?;
                savepoint.execute(APPEND, (key, format!("{value},"))).await?;
                savepoint.rollback().await?;
            }
            if undo { Err(Error::new(ErrorKind::Query, "changed my mind")) } else { Ok(()) }
        };
        let done = db.transaction_with(self.write.clone(), work).await;
        self.next = *next.lock().unwrap();
        let mut attempts = attempts.into_inner().unwrap();
        if let Some([ops, undone]) = attempts.pop() {
            self.tell(begun, ops, outcome(&done));
            self.tell(begun, undone, Outcome::Aborted);
        }
        for ops in attempts.into_iter().flatten() {
            self.tell(begun, ops, Outcome::Aborted);
        }
        done.err().filter(|_| !undo)
    }
}
