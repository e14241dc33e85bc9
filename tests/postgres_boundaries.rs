//! A connection to PostgreSQL that is harmed at each boundary of its protocol: cut, delayed, stalled, split or spoilt.
//! Nothing acknowledged is missing, nothing is done twice, nothing hangs, the handle heals, and the error says what.
//!
//! `STRONGROOM_PROXY_STRIDE` is the distance between the messages that are harmed; 1 harms each.
#![cfg(all(feature = "postgres", target_os = "linux"))]
#![allow(clippy::large_futures, reason = "a test may have a large stack")]

#[path = "common/postgres.rs"]
mod common;
#[path = "common/proxy.rs"]
mod proxy;

use std::future::Future;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::{Server, run_sql, server, value};
use futures_util::TryStreamExt;
use proxy::{Harm, Proxy, Side};
use strongroom::pool::Attempt;
use strongroom::postgres::{PostgresConnection, PostgresConnector};
use strongroom::{AsyncDatabase, Error, ErrorKind, Result, RetryPolicy};
use tokio::time::timeout;

type Db = AsyncDatabase<PostgresConnector>;

const LONG: Duration = Duration::from_secs(30);

/// What a caller was told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Done,
    Nothing,
    Unknown,
}

/// What was written, how many rows it was to be, and what was told of it.
#[derive(Default)]
struct Ledger {
    next: i64,
    told: Vec<(i64, i64, Told)>,
    errors: Vec<Error>,
}

impl Ledger {
    async fn write(&mut self, rows: i64, call: impl AsyncFnOnce(i64) -> Result<()>) -> bool {
        self.next += 1;
        let told = match call(self.next).await {
            Ok(()) => Told::Done,
            Err(error) => {
                let unknown = error.kind() == ErrorKind::OutcomeUnknown;
                self.errors.push(error);
                if unknown { Told::Unknown } else { Told::Nothing }
            }
        };
        self.told.push((self.next, rows, told));
        told == Told::Done
    }

    fn read<T: PartialEq + std::fmt::Debug>(&mut self, outcome: Result<T>, expected: &T) {
        match outcome {
            Ok(found) => assert_eq!(found, *expected),
            Err(error) => self.errors.push(error),
        }
    }

    /// What a connection past the proxy finds of all that was written.
    async fn judge(&mut self, beside: &mut PostgresConnection) -> std::result::Result<(), String> {
        for (id, rows, told) in self.told.drain(..) {
            let found: i64 = value(beside, &format!("SELECT count(*) FROM t WHERE id = {id}")).await;
            let right = match told {
                Told::Done => found == rows,
                Told::Nothing => found == 0,
                Told::Unknown => found == rows || found == 0,
            };
            if !right {
                return Err(format!(
                    "{found} rows of write {id}, which was to have {rows}; its caller was told: {told:?}"
                ));
            }
        }
        Ok(())
    }
}

const ROW: &str = "INSERT INTO t VALUES ($1, 'a')";

/// Each way there is to write and to read, by itself and in transactions.
async fn live(db: &Db, ledger: &mut Ledger) {
    ledger.write(1, async |id| db.execute(ROW, (id,)).await.map(drop)).await;
    ledger
        .write(3, async |id| {
            db.transaction(async |tx| {
                tx.execute(ROW, (id,)).await?;
                let mut nested = tx.begin().await?;
                nested.execute(ROW, (id,)).await?;
                nested.rollback().await?;
                tx.execute_many(ROW, [(id,), (id,)]).await.map(drop)
            })
            .await
        })
        .await;
    // So many that they go as a COPY.
    ledger.write(40, async |id| db.execute_many(ROW, (0..40).map(|_| (id,))).await.map(drop)).await;
    ledger
        .write(1, async |id| {
            let mut tx = db.begin().await?;
            tx.fetch_one("INSERT INTO t VALUES ($1, 'b') RETURNING id", (id,)).await?;
            tx.commit().await
        })
        .await;
    ledger
        .write(0, async |id| {
            let mut tx = db.begin().await?;
            tx.execute(ROW, (id,)).await?;
            tx.rollback().await
        })
        .await;
    let sum = db.fetch_value::<i64>("SELECT sum(i)::int8 FROM generate_series(1, 20) i", ()).await;
    ledger.read(sum, &Some(210));
    let rows = db.fetch_stream("SELECT i FROM generate_series(1, 300) i", ()).try_collect::<Vec<_>>().await;
    ledger.read(rows.map(|rows| rows.len()), &300);
    let wrong = db.execute("INSERT INTO nowhere VALUES (1)", ()).await.unwrap_err();
    ledger.errors.push(wrong);
    ledger.write(1, async |id| db.execute_script(&format!("INSERT INTO t VALUES ({id}, 'c')")).await).await;
}

/// The error of the statement that is wrong by itself counts as one that says so.
fn says_what(error: &Error) -> bool {
    let known = match error.kind() {
        ErrorKind::Connection | ErrorKind::OutcomeUnknown | ErrorKind::Timeout | ErrorKind::Transaction => true,
        ErrorKind::Query => error.to_string().contains("nowhere"),
        _ => false,
    };
    known && error.to_string().len() > 20
}

/// Until a write and a read work; no more calls may fail than there can be connections that broke.
async fn heals(db: &Db, ledger: &mut Ledger) -> std::result::Result<(), String> {
    for _ in 0..4 {
        let errors = ledger.errors.len();
        ledger.write(1, async |id| db.execute(ROW, (id,)).await.map(drop)).await;
        let seven = db.fetch_value::<i64>("SELECT 7::int8", ()).await;
        ledger.read(seven, &Some(7));
        if ledger.errors.len() == errors {
            return Ok(());
        }
    }
    Err(format!("the handle does not heal: {:?}", ledger.errors))
}

/// A few attempts without a pause.
struct AtOnce;

impl RetryPolicy for AtOnce {
    fn next_delay(&self, attempt: Attempt<'_>) -> Option<Duration> {
        (attempt.error.is_transient() && attempt.number < 5).then_some(Duration::ZERO)
    }
}

struct Walk {
    proxy: Proxy,
    beside: PostgresConnection,
    ledger: Ledger,
    _server: Server,
}

/// Panics of the library and the driver, caught ones too.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let of_test = info.location().is_some_and(|at| at.file().starts_with("tests/"));
            PANICS.fetch_add(usize::from(!of_test), SeqCst);
            before(info);
        }));
    });
}

fn strides(default: usize) -> usize {
    std::env::var("STRONGROOM_PROXY_STRIDE").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

impl Walk {
    async fn new() -> Option<Self> {
        count_panics();
        let server = server()?;
        let mut beside = server.connect().await;
        run_sql(&mut beside, "CREATE TABLE t (id int8, what text)", ()).await.unwrap();
        let proxy = Proxy::before(&server).await;
        Some(Self { proxy, beside, ledger: Ledger::default(), _server: server })
    }

    fn open(&self) -> strongroom::DatabaseBuilder<PostgresConnector> {
        AsyncDatabase::with_connector(self.proxy.connector().connect_timeout(Duration::from_secs(2)))
            .pool_max(2)
            .pool_timeout(Duration::from_secs(5))
            .retry(AtOnce)
    }

    /// Whether a life got as far as the harm.
    async fn met(&mut self, side: Side, skip: usize, harm: Harm, limit: Duration) -> std::result::Result<bool, String> {
        let db = self.open().build();
        self.proxy.harm(side, skip, harm);
        live(&db.with_timeout(limit), &mut self.ledger).await;
        let spared = self.proxy.heal();
        if let Some(error) = self.ledger.errors.iter().find(|error| !says_what(error)) {
            return Err(format!("an error that says nothing: {error:?}"));
        }
        let failed = self.ledger.errors.len() > 1;
        let gentle = matches!(harm, Harm::Delay(_)) || spared;
        if gentle && failed {
            return Err(format!("something failed without a reason: {:?}", self.ledger.errors));
        }
        heals(&db, &mut self.ledger).await?;
        self.ledger.errors.clear();
        self.ledger.judge(&mut self.beside).await?;
        // A connection that is being put in order counts as lent.
        while db.stats().active_connections > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let report = db.close().await.map_err(|error| format!("close: {error}"))?;
        if !report.is_clean() {
            return Err(format!("close: {report:?}"));
        }
        Ok(!spared)
    }

    /// Every message of a side meets each harm, in strides that begin elsewhere for each.
    async fn each(&mut self, side: Side, harms: &[Harm], stride: usize, limit: Duration) {
        let stride = strides(stride);
        let (mut lives, mut longest) = (0, 0);
        for (turn, harm) in harms.iter().enumerate() {
            for skip in (turn % stride..).step_by(stride) {
                let what = format!("{harm:?} of message {skip} of the {side:?}");
                let met = finish(&what, self.met(side, skip, *harm, limit)).await;
                assert_eq!(PANICS.load(SeqCst), 0, "{what}: something panicked");
                if !met.unwrap_or_else(|found| panic!("{what}: {found}")) {
                    break;
                }
                (lives, longest) = (lives + 1, longest.max(skip));
            }
        }
        println!("{side:?}: {lives} lives with a harm, of up to {longest} messages");
        assert!(lives >= harms.len(), "nothing was harmed");
    }
}

async fn finish<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.unwrap_or_else(|_| panic!("{what}: it hangs"))
}

const CUTS: [Harm; 2] = [Harm::CutBehind, Harm::CutWithin];

#[tokio::test]
async fn a_connection_may_be_cut_behind_or_within_any_message_of_the_server() {
    let Some(mut walk) = Walk::new().await else { return };
    walk.each(Side::Server, &CUTS, 40, LONG).await;
}

#[tokio::test]
async fn a_connection_may_be_cut_behind_or_within_any_message_of_the_client() {
    let Some(mut walk) = Walk::new().await else { return };
    walk.each(Side::Client, &CUTS, 20, LONG).await;
}

#[tokio::test]
async fn any_message_may_be_late() {
    let Some(mut walk) = Walk::new().await else { return };
    let late = [Harm::Delay(Duration::from_millis(20))];
    walk.each(Side::Server, &late, 60, LONG).await;
    walk.each(Side::Client, &late, 30, LONG).await;
}

#[tokio::test]
async fn any_message_may_never_come_and_a_deadline_ends_the_call() {
    let Some(mut walk) = Walk::new().await else { return };
    walk.each(Side::Server, &[Harm::Stall], 150, Duration::from_millis(300)).await;
    walk.each(Side::Client, &[Harm::Stall], 70, Duration::from_millis(300)).await;
}

#[tokio::test]
async fn messages_may_come_a_byte_at_a_time() {
    let Some(mut walk) = Walk::new().await else { return };
    walk.proxy.split(true);
    let db = walk.open().build();
    live(&db, &mut walk.ledger).await;
    assert_eq!(walk.ledger.errors.len(), 1, "{:?}", walk.ledger.errors);
    walk.ledger.judge(&mut walk.beside).await.unwrap();
}

/// A driver that takes it for a part of the answer would give each later answer to the call before its own.
#[tokio::test]
async fn a_message_of_a_type_that_there_is_not_ends_the_connection_at_once_and_is_named() {
    let Some(walk) = Walk::new().await else { return };
    let mut named = 0;
    for skip in (0..20).step_by(3) {
        let db = walk.open().build();
        db.connect().await.unwrap();
        walk.proxy.harm(Side::Server, skip, Harm::Type);
        for _ in 0..4 {
            let Err(error) = db.execute("SELECT 1", ()).await else { continue };
            let says = format!("{error:?}").contains("no message of PostgreSQL's protocol");
            assert!(says && error.kind() == ErrorKind::Connection, "message {skip}: {error:?}");
            named += 1;
        }
        assert!(!walk.proxy.heal(), "message {skip} was not met");
        assert_eq!(db.fetch_value::<i64>("SELECT 7::int8", ()).await.unwrap(), Some(7));
        assert!(db.close().await.unwrap().is_clean());
    }
    assert_eq!(named, 7);
}

#[tokio::test]
async fn any_message_of_the_server_may_be_spoilt() {
    let Some(mut walk) = Walk::new().await else { return };
    let harms = [Harm::Type, Harm::Length(0), Harm::Length(u32::MAX), Harm::Length(5)];
    walk.each(Side::Server, &harms, 120, Duration::from_millis(300)).await;
}

#[tokio::test]
async fn any_message_of_the_client_may_be_spoilt() {
    let Some(mut walk) = Walk::new().await else { return };
    walk.each(Side::Client, &[Harm::Type, Harm::Length(0), Harm::Length(u32::MAX)], 50, Duration::from_millis(300))
        .await;
}

/// Where the bytes themselves are spoilt, and no TLS tells, a value may be another. But nothing panics or hangs, and what is
/// asked afterwards is answered rightly.
#[tokio::test]
async fn the_body_of_any_message_may_be_spoilt_and_the_next_calls_are_right() {
    let Some(mut walk) = Walk::new().await else { return };
    let mut lives = 0;
    for (side, stride) in [(Side::Server, 60), (Side::Client, 25)] {
        for (turn, at) in [0, 1, 4, -1, -5].into_iter().enumerate() {
            let harm = Harm::Body(at);
            for skip in (turn * 7 % strides(stride)..).step_by(strides(stride)) {
                let what = format!("{harm:?} of message {skip} of the {side:?}");
                let db = walk.open().build();
                walk.proxy.harm(side, skip, harm);
                finish(&what, careless(&db.with_timeout(Duration::from_millis(500)))).await;
                let spared = walk.proxy.heal();
                assert_eq!(PANICS.load(SeqCst), 0, "{what}: something panicked");
                finish(&what, heals(&db, &mut walk.ledger)).await.unwrap_or_else(|found| panic!("{what}: {found}"));
                walk.ledger.errors.clear();
                walk.ledger.judge(&mut walk.beside).await.unwrap_or_else(|found| panic!("{what}: {found}"));
                finish(&what, db.close()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
                if spared {
                    break;
                }
                lives += 1;
            }
        }
    }
    println!("{lives} lives with a spoilt body");
    assert!(lives > 20);
}

/// Each way to write and to read, whatever comes of it.
async fn careless(db: &Db) {
    db.execute(ROW, (-1,)).await.ok();
    let rows = async |tx: &mut strongroom::database::Transaction<PostgresConnector>| {
        tx.execute(ROW, (-2,)).await?;
        tx.execute_many(ROW, [(-3,), (-4,)]).await
    };
    db.transaction(rows).await.ok();
    db.execute_many(ROW, (0..40).map(|_| (-5,))).await.ok();
    db.fetch_one("SELECT now(), 1.5::numeric, '{1,2}'::int8[], 'text', NULL::uuid", ()).await.ok();
    db.fetch_stream("SELECT i, 'row ' || i FROM generate_series(1, 300) i", ()).try_collect::<Vec<_>>().await.ok();
    db.execute("INSERT INTO nowhere VALUES (1)", ()).await.ok();
    db.execute_script("INSERT INTO t VALUES (-6, 'c'); SELECT 1").await.ok();
}
