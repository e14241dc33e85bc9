//! Writes of every kind, a record of what their callers were told, and the judgement on a file that is found afterwards.
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use strongroom::database::CheckDepth;
use strongroom::sqlcipher::Synchronous;
use strongroom::{AsyncDatabase, Connection, Connector, ErrorKind, Result};

use super::faults::record::{Event, Record, Recording, Told};

/// Operations of their own kind; writes of rows have the numbers from [`FIRST`].
pub const OPEN: u64 = 0;
pub const SCHEMA: u64 = 1;
pub const CHANGE: u64 = 2;
pub const FIRST: u64 = 100;

const TABLES: &str = "BEGIN;
    CREATE TABLE t (op INTEGER, part INTEGER, width INTEGER, text TEXT, PRIMARY KEY (op, part));
    CREATE INDEX t_text ON t (text);
    CREATE TABLE total (n INTEGER NOT NULL);
    INSERT INTO total VALUES (0);
    CREATE TRIGGER t_total AFTER INSERT ON t BEGIN UPDATE total SET n = n + 1; END;
    COMMIT;";

const PARTS: &str = "WITH RECURSIVE p (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM p LIMIT $2)
    INSERT INTO t SELECT $1, i, $2, $3 FROM p";

const PART: &str = "INSERT INTO t VALUES ($1, $2, $3, $4)";

/// Of databases.
pub trait Engine: Connector<Connection: Connection> {}
impl<C: Connector<Connection: Connection>> Engine for C {}

/// Who writes, and tells the record.
pub struct Ledger {
    pub recording: Recording,
    next: AtomicU64,
    /// Characters in a row, about.
    text: usize,
}

impl Ledger {
    pub fn of(directory: &Path, text: usize) -> Self {
        Self::from(directory, text, FIRST)
    }

    /// Whose writes have numbers from this one.
    pub fn from(directory: &Path, text: usize, first: u64) -> Self {
        Self { recording: Recording::of(directory), next: AtomicU64::new(first), text }
    }

    pub async fn tell<T>(&self, operation: u64, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.recording.tell(operation, Told::Begun);
        let outcome = call.await;
        let told = match &outcome {
            Ok(_) => Told::Done,
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => Told::Unknown,
            Err(_) => Told::Refused,
        };
        self.recording.tell(operation, told);
        outcome
    }

    pub async fn schema<C: Engine>(&self, db: &AsyncDatabase<C>) -> Result<()> {
        self.tell(SCHEMA, db.execute_script(TABLES)).await
    }

    /// One operation: one to four rows, in one of the ways there are, or none. Gives back what its caller was told.
    pub async fn write<C: Engine>(&self, db: &AsyncDatabase<C>) -> Result<()> {
        let op = self.next.fetch_add(1, SeqCst);
        let number = i64::try_from(op).unwrap();
        let width = 1 + number % 4;
        let text = format!("{:x}.", op.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(1 + self.text / 16);
        let part = |part| (number, part, width, text.clone());
        let one = async |which| db.execute(PART, part(which)).await.map(drop);
        match op % 6 {
            0 if width == 1 => self.tell(op, one(0)).await,
            0..=2 => self.tell(op, async { db.execute(PARTS, (number, width, &text)).await.map(drop) }).await,
            3 => self.tell(op, async { db.execute_many(PART, (0..width).map(part)).await.map(drop) }).await,
            4 => self.tell(op, transaction(db, width, &part)).await,
            _ => match self.tell(op, rolled_back(db, &part)).await {
                Err(error) if error.kind() == ErrorKind::Constraint => Ok(()),
                other => other,
            },
        }
    }
}

type Part = (i64, i64, i64, String);

/// Its rows, and one more in a savepoint that is rolled back.
async fn transaction<C: Engine>(db: &AsyncDatabase<C>, width: i64, part: &(dyn Fn(i64) -> Part + Sync)) -> Result<()> {
    db.transaction(async |tx| {
        tx.execute(PART, part(0)).await?;
        let mut savepoint = tx.begin().await?;
        savepoint.execute(PART, part(77)).await?;
        savepoint.rollback().await?;
        for which in 1..width {
            tx.execute(PART, part(which)).await?;
        }
        Ok(())
    })
    .await
}

/// Fails at its second row, which is there already. Nothing of it may ever be seen: its width is a lie.
async fn rolled_back<C: Engine>(db: &AsyncDatabase<C>, part: &(dyn Fn(i64) -> Part + Sync)) -> Result<()> {
    let (op, which, _, text) = part(0);
    db.transaction(async |tx| {
        for _ in 0..2 {
            tx.execute(PART, (op, which, 99, &text)).await?;
        }
        Ok(())
    })
    .await
}

/// What was begun and told up to a moment of a record.
#[derive(Clone, Debug, Default)]
pub struct Story {
    begun: BTreeMap<u64, usize>,
    told: BTreeMap<u64, (usize, Told)>,
    /// Where the last sync of the log that succeeded began.
    synced: usize,
}

impl Story {
    pub fn of(record: &Record, events: usize) -> Self {
        let mut story = Self::default();
        for (number, event) in record.events[..events].iter().enumerate() {
            match event {
                Event::Told(operation, Told::Begun) => drop(story.begun.insert(*operation, number)),
                Event::Told(operation, told) => drop(story.told.insert(*operation, (number, *told))),
                _ => {}
            }
        }
        let synced = record.syncs("app.db-wal").take_while(|(number, _)| *number < events);
        story.synced = synced.last().map_or(0, |(_, begun)| begun);
        story
    }

    /// Without the writes that began between these moments.
    #[must_use]
    pub fn without(mut self, moments: Range<usize>) -> Self {
        self.begun.retain(|operation, begun| *operation < FIRST || !moments.contains(begun));
        self.told.retain(|operation, _| *operation < FIRST || self.begun.contains_key(operation));
        self
    }

    /// After another one, and what was found when the database was opened then: that is on the disk, whatever its
    /// callers were told.
    #[must_use]
    pub fn after(mut self, found: &BTreeSet<u64>, before: &Self, level: Synchronous) -> Self {
        for (operation, (_, told)) in &before.told {
            if *told != Told::Done || before.must_be_there(*operation, level) {
                self.told.entry(*operation).or_insert((0, *told));
            }
        }
        self.told.extend(found.iter().map(|operation| (*operation, (0, Told::Done))));
        let kept = before.writes().filter(|operation| before.must_be_there(*operation, level));
        self.begun.extend(kept.chain(found.iter().copied()).map(|operation| (operation, 0)));
        // All of it counts as synced.
        self.synced = self.synced.max(1);
        self
    }

    pub fn has_begun(&self, operation: u64) -> bool {
        self.begun.contains_key(&operation)
    }

    pub fn is_done(&self, operation: u64) -> bool {
        self.told.get(&operation).is_some_and(|(_, told)| *told == Told::Done)
    }

    /// Whether an operation was done before another one began.
    fn is_before(&self, operation: u64, other: u64) -> bool {
        self.is_done(operation) && self.begun.get(&other).is_some_and(|begun| self.told[&operation].0 < *begun)
    }

    fn must_be_there(&self, operation: u64, level: Synchronous) -> bool {
        self.is_done(operation) && (level != Synchronous::Normal || self.told[&operation].0 < self.synced)
    }

    fn writes(&self) -> impl Iterator<Item = u64> {
        self.begun.keys().copied().filter(|operation| *operation >= FIRST)
    }
}

/// Whether a database has all that it must have, and nothing by halves.
pub async fn judge<C: Engine>(
    db: &AsyncDatabase<C>,
    story: &Story,
    level: Synchronous,
) -> std::result::Result<(), String> {
    let failed = |what: &str, error| format!("{what}: {error}");
    let report = db.check(CheckDepth::Full).await.map_err(|error| failed("check", error))?;
    if !report.is_ok() {
        return Err(format!("damaged: {report:?}"));
    }
    if !db.table_exists("t").await.map_err(|error| failed("tables", error))? {
        let lost = [SCHEMA].into_iter().chain(story.writes()).find(|op| story.must_be_there(*op, level));
        return lost.map_or(Ok(()), |op| Err(format!("no table, but operation {op} was acknowledged")));
    }
    let sql = "SELECT op, count(*), max(width) FROM t GROUP BY op";
    let found: Vec<(u64, i64, i64)> = db.fetch_all_as(sql, ()).await.map_err(|error| failed("rows", error))?;
    let total: Option<i64> = db.fetch_value("SELECT n FROM total", ()).await.map_err(|error| failed("total", error))?;
    let there: BTreeSet<u64> = found.iter().map(|(op, ..)| *op).collect();
    if let Some(half) = found.iter().find(|(_, rows, width)| rows != width) {
        return Err(format!("half a transaction: {half:?}"));
    }
    if total != Some(found.iter().map(|(_, rows, _)| rows).sum()) {
        return Err(format!("the total is {total:?}: a trigger by halves"));
    }
    if let Some(op) = there.iter().find(|op| story.told.get(op).is_some_and(|(_, told)| *told == Told::Refused)) {
        return Err(format!("operation {op} is there, and its caller was told that it changed nothing"));
    }
    let last = there.iter().copied().max_by_key(|op| story.begun.get(op).copied());
    let missing = story.writes().filter(|op| !there.contains(op));
    for op in missing {
        if story.must_be_there(op, level) {
            return Err(format!("operation {op} was acknowledged and is lost"));
        }
        if last.is_some_and(|last| story.is_before(op, last)) {
            return Err(format!("operation {op} was acknowledged before {last:?} began; that is there, it is not"));
        }
    }
    let more = "INSERT INTO t SELECT coalesce(max(op), 0) + 1000000, 0, 1, 'afterwards' FROM t";
    db.execute(more, ()).await.map(drop).map_err(|error| failed("a write", error))
}
