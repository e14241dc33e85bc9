//! A checker of what watchers and listeners are told while two processes write to one file: after quiet every watcher shows
//! the last state, nothing is told that was not committed, and all is told in its order.
//!
//! Writers commit, roll back, are dropped half-way and are late; watchers are dropped and come again; calls of the engine fail, in
//! both processes, and the other one is killed.
//!
//! `STRONGROOM_CHECK_SECONDS` (2 by default) is the time of each run, `STRONGROOM_CHECK_SEED` replays one.
#![cfg(all(feature = "sqlcipher", feature = "testing"))]
#![allow(clippy::cast_precision_loss, clippy::large_futures, reason = "a test may have a large stack")]

#[path = "common/other.rs"]
mod other;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use other::start_itself;
use strongroom::database::ChangeKind::Insert;
use strongroom::database::{ChangeOptions, ChangeStream};
use strongroom::testing::{Fault, Faults, FaultyConnector, Point};
use strongroom::{AsyncDatabase, ErrorKind, PassphraseKeySource, Result, Secret, SqlCipherConnector};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

type Database = AsyncDatabase<FaultyConnector<SqlCipherConnector>>;

const CHILD: &str = "STRONGROOM_TEST_WATCH_CHECKER";

/// Each entry of the ledger moves the total along with it, so that a state between two commits, or a piece of one, is seen.
const SCHEMA: &str = "CREATE TABLE ledger (id INTEGER PRIMARY KEY, who INTEGER NOT NULL, UNIQUE (id, who));
     CREATE TABLE total (n INTEGER NOT NULL); INSERT INTO total VALUES (0);
     CREATE TRIGGER ledger_total AFTER INSERT ON ledger BEGIN UPDATE total SET n = n + 1; END;
     CREATE VIEW state AS SELECT (SELECT n FROM total), (SELECT count(*) FROM ledger),
         (SELECT count(*) FROM ledger WHERE who < 0)";
const STATE: &str = "SELECT * FROM state";
const ENTRY: &str = "INSERT INTO ledger (who) VALUES ($1)";
/// What is rolled back.
const GHOST: i64 = -1;

/// The total, the entries, and those that nobody may ever see.
type State = (i64, i64, i64);

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn seconds() -> f64 {
    std::env::var("STRONGROOM_CHECK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2.0)
}

fn seed() -> u64 {
    let now = || u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos());
    std::env::var("STRONGROOM_CHECK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(now) | 1
}

/// One of the processes: its writers, watchers and a listener.
struct Side {
    db: Database,
    faults: Faults,
    stop: Arc<AtomicBool>,
    results: Arc<AtomicU64>,
    writers: Vec<JoinHandle<()>>,
    watchers: Vec<(watch::Receiver<State>, JoinHandle<()>)>,
    listener: JoinHandle<Told>,
}

/// What a listener was told.
#[derive(Default)]
struct Told {
    ids: BTreeSet<i64>,
    own: u64,
    others: u64,
}

impl Side {
    async fn start(path: &Path, encrypted: bool, who: i64, seed: u64, faulty: bool) -> Self {
        let mut connector = SqlCipherConnector::new(path);
        if encrypted {
            connector = connector.key(PassphraseKeySource::new(Secret::raw_key([7; 32])));
        }
        let connector = FaultyConnector::new(connector);
        let faults = connector.faults();
        let db = AsyncDatabase::with_connector(connector).pool_max(8).open().await.unwrap();
        if !db.table_exists("ledger").await.unwrap() {
            db.execute_script(SCHEMA).await.unwrap();
        }
        let options = ChangeOptions::new().rows(true).capacity(1 << 16).look_every(Duration::from_millis(5));
        let listener = tokio::spawn(listen(db.changes_with(options).await.unwrap()));
        if faulty {
            faults.random(seed, 60, [Fault::Fail(ErrorKind::Busy), Fault::Break, Fault::LoseAnswer]);
        }
        let (stop, results) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let random = |number: u64| Random(seed.wrapping_mul(2 * number + 3) | 1);
        let watchers = (0..5).map(|number| {
            let (seen, shown) = watch::channel((0, 0, 0));
            let again = (number > 1).then(|| Arc::clone(&stop));
            (shown, tokio::spawn(follow(db.clone(), random(number), seen, Arc::clone(&results), again)))
        });
        let watchers = watchers.collect();
        let writer = |number| write(db.clone(), random(number), Arc::clone(&stop), who);
        let writers = (5..9).map(|number| tokio::spawn(writer(number))).collect();
        Self { db, faults, stop, results, writers, watchers, listener }
    }

    async fn stop_writing(&mut self) {
        self.stop.store(true, SeqCst);
        for writer in self.writers.drain(..) {
            writer.await.expect("a writer");
        }
        self.faults.heal();
    }

    /// Nobody writes any more, in neither process.
    async fn judge(mut self, who: i64, mut random: Random) -> Told {
        // The last write before a quiet may come at any moment of a watcher's work.
        for _ in 0..100 {
            let last: State = self.db.fetch_one_as(STATE, ()).await.unwrap().unwrap();
            assert_eq!((last.0, last.2), (last.1, 0), "the file itself");
            for (number, (shown, _)) in self.watchers.iter_mut().enumerate() {
                let comes = timeout(Duration::from_secs(20), shown.wait_for(|seen| *seen == last)).await;
                comes.unwrap_or_else(|_| panic!("watcher {number} does not come to {last:?}")).expect("a watcher");
            }
            for _ in 0..2 {
                let began = std::time::Instant::now();
                let pause = Duration::from_micros(random.below(4000));
                while began.elapsed() < pause {
                    tokio::task::yield_now().await;
                }
                self.db.execute(ENTRY, (who,)).await.unwrap();
            }
        }
        self.watchers.iter().for_each(|(_, watcher)| watcher.abort());
        let sql = "SELECT id FROM ledger WHERE who = $1";
        let written: BTreeSet<i64> = self.db.fetch_all_as(sql, (who,)).await.unwrap().into_iter().collect();
        self.db.close().await.unwrap();
        let told = timeout(Duration::from_secs(20), self.listener).await.expect("it ends").expect("the listener");
        assert!(told.ids.is_subset(&written), "told and not committed: {:?}", told.ids.difference(&written));
        assert!(written.is_subset(&told.ids), "committed and not told: {:?}", written.difference(&told.ids));
        assert!(self.results.load(SeqCst) > 20 && told.own > 20, "hardly anything was checked");
        told
    }
}

/// Every event: none is missing, each is of whole commits, and in order.
async fn listen(mut changes: ChangeStream) -> Told {
    let (mut told, mut sequence, mut newest) = (Told::default(), 0, 0);
    while let Some(change) = changes.next().await {
        assert_eq!(change.sequence, sequence + change.commits, "one is missing: {change:?}");
        sequence = change.sequence;
        told.others += u64::from(change.unattributed);
        let Some(ledger) = change.table("ledger") else {
            assert!(change.tables.is_empty() || change.schema, "{change:?}");
            continue;
        };
        told.own += change.commits;
        let total = change.table("total").expect("the trigger's table");
        let counts = (ledger.inserted, ledger.updated + ledger.deleted, total.updated, ledger.exact && total.exact);
        assert_eq!(counts, (total.rows_changed(), 0, ledger.inserted, true), "a piece of a commit: {change:?}");
        for row in ledger.rows.as_ref().expect("rows were asked for") {
            assert!(row.kind == Insert && row.row_id > newest, "after {newest}: {change:?}");
            newest = row.row_id;
            told.ids.insert(newest);
        }
    }
    told
}

/// Watches, and begins anew from time to time while there is much to see.
async fn follow(
    db: Database,
    mut random: Random,
    shows: watch::Sender<State>,
    results: Arc<AtomicU64>,
    again_until: Option<Arc<AtomicBool>>,
) {
    let mut seen: State = (0, 0, 0);
    loop {
        let watched = db.watch_as::<State>(STATE, ()).look_every(Duration::from_millis(5));
        let mut watched = watched.settle(Duration::from_micros(random.below(3000)));
        let mut left = if again_until.is_some() { 1 + random.below(20) } else { u64::MAX };
        while left > 0 {
            let Ok(rows) = watched.next().await.expect("it goes on") else { break };
            let now = rows[0];
            assert_eq!((now.0, now.2), (now.1, 0), "a state that never was");
            assert!(now.0 >= seen.0, "{now:?} after {seen:?}");
            seen = now;
            shows.send_replace(seen);
            results.fetch_add(1, SeqCst);
            // To begin anew would come to the last state by itself.
            left -= u64::from(again_until.as_ref().is_some_and(|stop| !stop.load(SeqCst)));
        }
        tokio::task::yield_now().await;
    }
}

async fn write(db: Database, mut random: Random, stop: Arc<AtomicBool>, who: i64) {
    while !stop.load(SeqCst) {
        let outcome = match random.below(9) {
            0 => rolled_back(&db, who).await,
            1 => db.execute_many(ENTRY, [(Some(GHOST),), (None,)]).await.map(drop),
            2 => {
                let limit = Duration::from_micros(random.below(400));
                timeout(limit, transaction(&db, who, 3)).await.unwrap_or(Ok(()))
            }
            3 => {
                let late = db.with_timeout(Duration::from_micros(1 + random.below(400)));
                late.execute(ENTRY, (who,)).await.map(drop)
            }
            4 | 5 => transaction(&db, who, 1 + random.below(3)).await,
            6 => db.execute_many(ENTRY, vec![(who,); usize::try_from(random.below(5)).unwrap()]).await.map(drop),
            _ => db.execute(ENTRY, (who,)).await.map(drop),
        };
        if let Err(error) = outcome {
            let expected = [ErrorKind::Timeout, ErrorKind::Constraint, ErrorKind::OutcomeUnknown];
            let injected = error.to_string().contains("injected") || error.is_transient();
            assert!(injected || expected.contains(&error.kind()), "{error}");
        }
        tokio::time::sleep(Duration::from_micros(random.below(1500))).await;
    }
}

async fn transaction(db: &Database, who: i64, entries: u64) -> Result<()> {
    db.transaction(async |tx| {
        for _ in 0..entries {
            tx.execute(ENTRY, (who,)).await?;
            let mut savepoint = tx.begin().await?;
            savepoint.execute(ENTRY, (GHOST,)).await?;
            savepoint.rollback().await?;
        }
        Ok(())
    })
    .await
}

async fn rolled_back(db: &Database, who: i64) -> Result<()> {
    let mut tx = db.begin().await?;
    tx.execute(ENTRY, (GHOST,)).await?;
    tx.execute(ENTRY, (who,)).await?;
    tx.rollback().await
}

/// The other process, by its standard input and output.
struct Other {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Other {
    fn start(path: &Path, encrypted: bool, who: i64, seed: u64, faulty: bool) -> Self {
        let told = format!("{encrypted} {faulty} {who} {seed} {}", path.display());
        let (child, asks, answers) = start_itself(CHILD, told.as_ref());
        let mut other = Self { child, asks, answers };
        other.ask("start");
        other
    }

    fn ask(&mut self, what: &str) {
        writeln!(self.asks, "{what}").unwrap();
        let done = format!("done: {what}");
        // The first answer stands behind words of the test harness.
        let found = (&mut self.answers).lines().any(|line| line.unwrap().contains(&done));
        assert!(found, "the other process ended instead of {what}");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn end(mut self) {
        drop(self.asks);
        assert!(self.child.wait().unwrap().success());
    }
}

/// Does nothing unless started by [`Other::start`].
#[test]
fn the_other_process() {
    let Ok(text) = std::env::var(CHILD) else { return };
    let [encrypted, faulty, who, seed, path] = text.splitn(5, ' ').collect::<Vec<_>>().try_into().unwrap();
    let (encrypted, faulty) = (encrypted == "true", faulty == "true");
    let (who, seed) = (who.parse().unwrap(), seed.parse().unwrap());
    let runtime = runtime();
    let mut asked = std::io::stdin().lines().map(|line| line.unwrap());
    let mut next = |what: &str| assert_eq!(asked.next().as_deref(), Some(what));
    next("start");
    let mut side = runtime.block_on(Side::start(Path::new(path), encrypted, who, seed, faulty));
    println!("done: start");
    next("stop");
    runtime.block_on(side.stop_writing());
    println!("done: stop");
    next("judge");
    let told = runtime.block_on(side.judge(who, Random(seed)));
    assert!(told.others > 0, "nothing was told of the other process");
    println!("done: judge");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap()
}

fn check(encrypted: bool, faulty: bool) {
    let seed = seed();
    // The last thing said when something fails.
    println!("encrypted: {encrypted}, faults: {faulty}, STRONGROOM_CHECK_SEED={seed}");
    let (runtime, directory) = (runtime(), tempfile::tempdir().unwrap());
    let path = directory.path().join("watched.db");
    let mut side = runtime.block_on(Side::start(&path, encrypted, 1, seed, faulty));
    let half = Duration::from_secs_f64(seconds() / 2.0);
    let killed = Other::start(&path, encrypted, 2, seed ^ 0xabcd, faulty);
    std::thread::sleep(half.mul_f64(0.5 + Random(seed).below(500) as f64 / 1000.0));
    killed.kill();
    let mut other = Other::start(&path, encrypted, 3, seed ^ 0x1234, faulty);
    std::thread::sleep(half);
    runtime.block_on(side.stop_writing());
    other.ask("stop");
    let told = runtime.block_on(side.judge(1, Random(seed)));
    other.ask("judge");
    other.end();
    assert!(told.others > 0, "nothing was told of the other process");
    println!("{} commits of its own were told, {} events of others", told.own, told.others);
}

#[test]
fn every_watcher_of_two_processes_comes_to_the_last_state_and_nothing_is_told_that_was_not_committed() {
    check(false, false);
    check(cfg!(feature = "sqlcipher"), false);
}

#[test]
fn the_same_holds_while_calls_of_the_engine_fail() {
    check(cfg!(feature = "sqlcipher"), true);
}

#[tokio::test]
async fn a_connection_that_breaks_within_a_transaction_is_closed_with_its_hooks_unharmed() {
    let directory = tempfile::tempdir().unwrap();
    let connector = FaultyConnector::new(SqlCipherConnector::new(directory.path().join("app.db")));
    let faults = connector.faults();
    let db = AsyncDatabase::with_connector(connector).pool_max(2).open().await.unwrap();
    db.execute_script(SCHEMA).await.unwrap();
    let mut changes = db.changes().await.unwrap();
    for round in 1..=40 {
        let mut broken = db.begin().await.unwrap();
        broken.execute(ENTRY, (GHOST,)).await.unwrap();
        faults.at(Point::Run, Fault::Break);
        broken.execute(ENTRY, (GHOST,)).await.unwrap_err();
        drop(broken);
        // A hook of the program's own, too, in place of ours.
        let mut lent = db.connection().await.unwrap();
        let called = Arc::new(std::sync::Mutex::new(vec![0_u64; 64]));
        let hook = move || called.lock().unwrap().iter_mut().for_each(|count| *count += 1);
        let native = strongroom::Connection::native(&mut *lent);
        native.rollback_hook(Some(hook)).unwrap();
        native.execute_batch("BEGIN; INSERT INTO ledger (who) VALUES (-1)").unwrap();
        faults.at(Point::Reset, Fault::Break);
        drop(lent);
        db.execute(ENTRY, (1,)).await.unwrap();
        let change = timeout(Duration::from_secs(10), changes.next()).await.unwrap().unwrap();
        assert_eq!((change.sequence, change.table("ledger").map(|ledger| ledger.inserted)), (round, Some(1)));
    }
    assert_eq!(db.fetch_one_as::<State>(STATE, ()).await.unwrap(), Some((40, 40, 0)));
}
