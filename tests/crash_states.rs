//! A power failure at any moment of anything: what was acknowledged is there, nothing is there by halves, and the file
//! opens and is whole.
//!
//! Each test records what a piece of a database's life does to its files, together with what callers were told; then
//! disks are made as a power failure at some moment may leave them (`common/states.rs`), opened and judged.
//!
//! `STRONGROOM_CRASH_STATES` is the number of states of each test (as many as the record has moments are all moments),
//! `STRONGROOM_CRASH_SEED` the number of the first.
#![cfg(all(feature = "sqlcipher", feature = "migrations", target_os = "linux", target_env = "gnu"))]

mod common;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/ledger.rs"]
mod ledger;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use common::{Home, Kind, key, secs};
use faults::record::{Event, Record};
use faults::{Call, states};
use futures_util::future::join_all;
use ledger::{CHANGE, Ledger, OPEN, Story, judge};
use strongroom::database::migrations::Migrations;
use strongroom::sqlcipher::{ReplaceOptions, SqlCipherConnector, Synchronous, Tuning};
use strongroom::{AsyncDatabase, DatabaseBuilder};
use tempfile::TempDir;
use tokio::time::timeout;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A database's life, and how its remains are judged.
struct Life {
    home: Home,
    tuning: Tuning,
    level: Synchronous,
    page: u32,
}

impl Life {
    fn new(level: Synchronous) -> Self {
        faults::quick();
        Self { home: Home::new(Kind::KeyedFile), tuning: Tuning::default().synchronous(level), level, page: 4096 }
    }

    fn builder(&self, home: &Home) -> DatabaseBuilder<SqlCipherConnector> {
        let builder = home.builder().max_retries(1).tuning(self.tuning.clone());
        if home.kind.is_keyed() { builder.cipher_page_size(self.page) } else { builder }
    }

    fn ledger(&self, text: usize) -> Ledger {
        Ledger::of(self.home.directory.path(), text)
    }

    async fn open(&self, ledger: &Ledger) -> AsyncDatabase {
        let db = ledger.tell(OPEN, self.builder(&self.home).open()).await.unwrap();
        ledger.schema(&db).await.unwrap();
        db
    }
}

/// So many tasks write so many times each, at once.
async fn busy(db: &AsyncDatabase, ledger: &Ledger, tasks: usize, writes: usize) {
    let write = async || {
        for _ in 0..writes {
            ledger.write(db).await.unwrap();
        }
    };
    join_all((0..tasks).map(|_| write())).await;
}

fn run<T>(what: impl Future<Output = T>) -> T {
    let running = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    running.block_on(async { timeout(secs(300), what).await.expect("it hangs") })
}

/// Makes disks of a record, and has each judged.
fn each_state(name: &str, record: &Record, judged: impl AsyncFn(&mut Home, &Story) -> Result<(), String> + Sync) {
    let (count, seed) = (number("STRONGROOM_CRASH_STATES", 20), number("STRONGROOM_CRASH_SEED", 1));
    let next = AtomicU64::new(seed);
    let worst = Mutex::new(None);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let state = next.fetch_add(1, SeqCst);
                    if state >= seed + count || worst.lock().unwrap().is_some() {
                        return;
                    }
                    if let Err(found) = run(one_state(record, state, &judged)) {
                        worst.lock().unwrap().get_or_insert(format!("{name}, state {state}, {found}"));
                    }
                }
            });
        }
    });
    let worst = worst.into_inner().unwrap();
    println!("{name}: {count} states of {} moments", record.events.len());
    assert_eq!(worst, None);
}

async fn one_state(
    record: &Record,
    state: u64,
    judged: &impl AsyncFn(&mut Home, &Story) -> Result<(), String>,
) -> Result<(), String> {
    // Moments in an order that covers them evenly, each once before any comes again.
    let moments = record.events.len() as u64 + 1;
    let step = (moments * 618 / 1000..=moments).find(|step| coprime(*step, moments)).unwrap();
    let events = usize::try_from(state.wrapping_mul(step) % moments).unwrap();
    let mut home = Home::new(Kind::KeyedFile);
    let mut random = fastrand::Rng::with_seed(state);
    states::write(&states::crash(record, events, &mut random), home.directory.path());
    if random.bool() {
        // Whatever stands in the index of a log after a power failure.
        let noise: Vec<u8> = (0..32768).map(|_| random.u8(..)).collect();
        std::fs::write(home.directory.path().join("app.db-shm"), noise).unwrap();
    }
    let story = Story::of(record, events);
    let judged = timeout(secs(60), judged(&mut home, &story)).await.unwrap_or_else(|_| Err("it hangs".into()));
    judged.map_err(|found| {
        // Made again, as it is changed by opening it.
        let kept = TempDir::new().unwrap().keep();
        states::write(&states::crash(record, events, &mut fastrand::Rng::with_seed(state)), &kept);
        let after = &record.events[events.saturating_sub(3)..events];
        let after: Vec<_> =
            after.iter().map(|event| format!("{event:.60?}").chars().take(80).collect::<String>()).collect();
        format!("moment {events} of {moments}, kept in {}: {found}; before it: {after:?}", kept.display())
    })
}

fn coprime(mut one: u64, mut other: u64) -> bool {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one == 1
}

impl Life {
    /// Opens what is left and looks at all of it.
    async fn judge(&self, home: &Home, story: &Story) -> Result<(), String> {
        if story.is_done(OPEN) && !home.path().exists() {
            return Err("the file is gone".into());
        }
        let db = self.builder(home).open().await.map_err(|error| format!("open: {error}"))?;
        judge(&db, story, self.level).await?;
        let report = db.close().await.map_err(|error| format!("close: {error}"))?;
        if report.is_clean() { Ok(()) } else { Err(format!("close: {report:?}")) }
    }

    fn each_state(&self, name: &str, record: &Record) {
        self.assert_complete(record);
        each_state(name, record, async |home, story| self.judge(home, story).await);
    }

    /// What a record makes of the files is what they are.
    fn assert_complete(&self, record: &Record) {
        let entries = std::fs::read_dir(self.home.directory.path()).unwrap().map(|entry| entry.unwrap());
        let kept = entries.filter(|entry| !entry.file_name().to_string_lossy().ends_with("-shm"));
        let real: states::Files = kept.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect();
        assert!(states::whole(record) == real, "the recorder missed something");
    }
}

/// Everybody's writes with a lane full of them, then a close. Without the script, a session could be altered by it.
fn groups(level: Synchronous, tuning: fn(Tuning) -> Tuning) -> (Life, Record) {
    let mut life = Life::new(level);
    life.tuning = tuning(life.tuning);
    let ledger = life.ledger(200);
    run(async {
        let db = life.open(&ledger).await;
        db.execute_script("PRAGMA synchronous = OFF\nDROP TABLE nothing").await.unwrap_err();
        busy(&db, &ledger, 8, 5).await;
        db.checkpoint().await.unwrap();
        busy(&db, &ledger, 3, 4).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    (life, record)
}

#[test]
fn many_tasks_that_write_at_once_lose_nothing_acknowledged_when_commits_are_synced() {
    let (life, record) = groups(Synchronous::Full, |tuning| tuning);
    life.each_state("groups, full", &record);
}

#[test]
fn transactions_that_share_syncs_lose_nothing_acknowledged() {
    let (life, record) = groups(Synchronous::FullShared, |tuning| tuning);
    life.each_state("groups, shared", &record);
}

#[test]
fn without_synced_commits_only_the_newest_are_lost_and_never_a_half() {
    let (life, record) = groups(Synchronous::Normal, |tuning| tuning);
    life.each_state("groups, normal", &record);
}

#[test]
fn without_short_cuts_nothing_is_lost_either() {
    let (life, record) = groups(Synchronous::Full, Tuning::plain);
    life.each_state("plain, full", &record);
}

/// More than the log holds before it is copied, in small pages; with a reader that holds it up for a while.
fn background(level: Synchronous) -> (Life, Record) {
    let mut life = Life::new(level);
    life.page = 1024;
    let ledger = life.ledger(3000);
    run(async {
        let db = life.open(&ledger).await;
        busy(&db, &ledger, 4, 4).await;
        let mut reader = db.read_connection().await.unwrap();
        reader.execute("BEGIN", ()).await.unwrap();
        reader.fetch_one("SELECT count(*) FROM t", ()).await.unwrap();
        busy(&db, &ledger, 4, 6).await;
        reader.execute("COMMIT", ()).await.unwrap();
        drop(reader);
        busy(&db, &ledger, 4, 9).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    (life, record)
}

#[test]
fn a_log_that_is_copied_in_the_background_loses_nothing_acknowledged() {
    let (life, record) = background(Synchronous::Full);
    life.each_state("background, full", &record);
}

#[test]
fn a_log_that_is_copied_without_synced_commits_loses_only_the_newest() {
    let (life, record) = background(Synchronous::Normal);
    life.each_state("background, normal", &record);
}

#[test]
fn a_log_whose_copy_was_not_synced_loses_nothing_acknowledged() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(300);
    let file = life.home.directory.path().canonicalize().unwrap().join("app.db");
    run(async {
        let db = life.open(&ledger).await;
        busy(&db, &ledger, 4, 5).await;
        let mut reader = db.read_connection().await.unwrap();
        reader.execute("BEGIN", ()).await.unwrap();
        reader.fetch_one("SELECT count(*) FROM t", ()).await.unwrap();
        busy(&db, &ledger, 4, 5).await;
        // What the reader does not see stays in the log; a part that is copied is not synced.
        assert!(db.checkpoint().await.unwrap().left > 0);
        reader.execute("COMMIT", ()).await.unwrap();
        drop(reader);
        faults::fail(&file, Call::Sync, 0, 1, libc::EIO);
        db.checkpoint().await.unwrap_err();
        faults::heal(&file);
        busy(&db, &ledger, 2, 3).await;
        db.checkpoint().await.unwrap();
        busy(&db, &ledger, 2, 3).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    let failed = record.events.iter().any(|event| matches!(event, Event::Sync { fine: false, .. }));
    assert!(failed, "no copy of the log was synced");
    life.each_state("failed copy, full", &record);
}

#[test]
fn a_creation_and_each_reopening_leave_a_path_that_opens() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(200);
    run(async {
        life.open(&ledger).await.close().await.unwrap();
        for _ in 0..3 {
            let db = life.builder(&life.home).open().await.unwrap();
            busy(&db, &ledger, 2, 2).await;
            db.close().await.unwrap();
        }
    });
    life.each_state("creation", &ledger.recording.so_far());
}

#[test]
fn a_vacuum_moves_rows_and_loses_none() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(500);
    run(async {
        let db = life.open(&ledger).await;
        db.execute("CREATE TABLE waste AS SELECT randomblob(3000) FROM t, t LIMIT 60", ()).await.unwrap();
        busy(&db, &ledger, 4, 5).await;
        db.execute("DROP TABLE waste", ()).await.unwrap();
        let vacuum = async {
            db.vacuum_free(None, |_| {}).await.unwrap();
            db.vacuum().await.unwrap();
        };
        tokio::join!(vacuum, busy(&db, &ledger, 2, 6));
        db.execute("VACUUM", ()).await.unwrap();
        busy(&db, &ledger, 2, 2).await;
        db.close().await.unwrap();
    });
    life.each_state("vacuum", &ledger.recording.so_far());
}

fn steps() -> Migrations<SqlCipherConnector> {
    let rebuilt = "CREATE TABLE rebuilt (op INTEGER, part INTEGER, width INTEGER, text TEXT, PRIMARY KEY (op, part));
        INSERT INTO rebuilt SELECT * FROM t; DROP TABLE t; ALTER TABLE rebuilt RENAME TO t;
        CREATE TRIGGER t_total AFTER INSERT ON t BEGIN UPDATE total SET n = n + 1; END";
    let rows = "INSERT INTO step VALUES (1)";
    Migrations::new()
        .sql(1, "table", "CREATE TABLE step (n)")
        .sql(2, "rows", rows)
        .sql(3, "rebuilt", rebuilt)
        .sql(4, "more", rows)
}

#[test]
fn a_migration_is_there_or_not_and_goes_on_from_there() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(300);
    run(async {
        let db = life.open(&ledger).await;
        busy(&db, &ledger, 2, 6).await;
        tokio::join!(async { ledger.tell(CHANGE, db.migrate(&steps())).await.unwrap() }, busy(&db, &ledger, 2, 4));
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    life.assert_complete(&record);
    each_state("migration", &record, async |home, story| {
        life.judge(home, story).await?;
        let db = life.builder(home).open().await.unwrap();
        let plan = db.migration_plan(&steps()).await.map_err(|error| error.to_string())?;
        if story.is_done(CHANGE) && !plan.pending.is_empty() {
            return Err("a migration that was acknowledged is lost".into());
        }
        if db.table_exists("t").await.unwrap() {
            db.migrate(&steps()).await.map_err(|error| format!("migrate: {error}"))?;
            let rows: Option<i64> = db.fetch_value("SELECT count(*) FROM step", ()).await.unwrap();
            if rows != Some(2) {
                return Err(format!("{rows:?} rows of two migrations"));
            }
        }
        db.close().await.unwrap();
        life.judge(home, story).await
    });
}

#[test]
fn a_copy_is_there_as_a_whole_or_not_at_all() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(300);
    let copy = |home: &Home| home.directory.path().join("copy.db");
    run(async {
        let db = life.open(&ledger).await;
        busy(&db, &ledger, 4, 5).await;
        ledger.tell(CHANGE, db.backup_to(copy(&life.home))).await.unwrap();
        busy(&db, &ledger, 2, 2).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    life.assert_complete(&record);
    each_state("copy", &record, async |home, story| {
        life.judge(home, story).await?;
        if !copy(home).exists() {
            return if story.is_done(CHANGE) { Err("the copy is gone".into()) } else { Ok(()) };
        }
        let builder = AsyncDatabase::builder(copy(home)).key(key()).create_if_missing(false);
        let db = builder.open().await.map_err(|error| format!("the copy: {error}"))?;
        // All that was written before it, and nothing later has to be in it.
        let begun = record.events.iter().position(|event| matches!(event, Event::Told(CHANGE, _))).unwrap();
        judge(&db, &Story::of(&record, begun), Synchronous::Full)
            .await
            .map_err(|found| format!("the copy: {found}"))?;
        db.close().await.map(drop).map_err(|error| error.to_string())
    });
}

#[test]
fn a_database_that_is_encrypted_in_place_opens_as_what_it_was_or_will_be() {
    let mut life = Life::new(Synchronous::Full);
    life.home.kind = Kind::PlainFile;
    let ledger = life.ledger(300);
    run(async {
        let db = life.open(&ledger).await;
        busy(&db, &ledger, 4, 5).await;
        db.close().await.unwrap();
        let builder = AsyncDatabase::builder(life.home.path()).key(key());
        ledger.tell(CHANGE, builder.encrypt(ReplaceOptions::new())).await.unwrap();
        life.home.kind = Kind::KeyedFile;
        let db = life.builder(&life.home).open().await.unwrap();
        busy(&db, &ledger, 2, 2).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    life.assert_complete(&record);
    each_state("encryption", &record, async |home, story| {
        let plain = std::fs::read(home.path()).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0"));
        if story.is_done(CHANGE) && plain {
            return Err("the encryption was acknowledged and is lost".into());
        }
        home.kind = if plain || !story.has_begun(CHANGE) { Kind::PlainFile } else { Kind::KeyedFile };
        life.judge(home, story).await
    });
}
