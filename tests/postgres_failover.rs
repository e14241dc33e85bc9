//! A primary dies under load: nothing that was acknowledged is lost, and nothing is done twice.
//!
//! `STRONGROOM_FAILOVER_ROUNDS` says how often, 1 by default.
#![cfg(all(feature = "postgres", target_os = "linux"))]
#![allow(clippy::large_futures, reason = "a test may have a large stack")]

#[path = "common/cluster.rs"]
mod cluster;
#[path = "common/postgres.rs"]
mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cluster::Cluster;
use futures_util::TryStreamExt as _;
use strongroom::engine::{Access, TransactionMode};
use strongroom::pool::ExponentialBackoff;
use strongroom::postgres::PostgresConnector;
use strongroom::postgres::{Readers, TargetSessionAttrs};
use strongroom::{AsyncDatabase, Connection, Connector, ErrorKind};

const WRITERS: u32 = 16;

/// What the writers saw.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<i64>,
    unknown: Vec<i64>,
    /// Known not to be done, and so done again.
    again: usize,
    last: Option<Instant>,
    longest_gap: Duration,
}

async fn write(
    db: AsyncDatabase<PostgresConnector>,
    next: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
) {
    while !stop.load(Ordering::Relaxed) {
        let id = next.fetch_add(1, Ordering::Relaxed);
        loop {
            let outcome = db.execute("INSERT INTO t VALUES ($1)", (id,)).await;
            let mut seen = seen.lock().unwrap();
            match outcome {
                Ok(_) => {
                    let now = Instant::now();
                    let gap = now - seen.last.replace(now).unwrap_or(now);
                    seen.longest_gap = seen.longest_gap.max(gap);
                    seen.acknowledged.push(id);
                }
                Err(error) if error.kind() == ErrorKind::OutcomeUnknown => seen.unknown.push(id),
                // Nothing was done.
                Err(error) if error.kind() == ErrorKind::Connection => {
                    seen.again += 1;
                    continue;
                }
                Err(error) => panic!("writers see nothing else: {error:?}"),
            }
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dying_primary_costs_time_and_nothing_else() {
    let Some(cluster) = Cluster::start() else { return };
    let rounds = std::env::var("STRONGROOM_FAILOVER_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number"));
    let db = AsyncDatabase::with_connector(cluster.connector())
        .pool_max(WRITERS)
        .retry(ExponentialBackoff::default())
        .open()
        .await
        .expect("a database");
    db.execute("CREATE TABLE t (id BIGINT NOT NULL)", ()).await.expect("a table");

    let (next, seen) = (Arc::new(AtomicI64::new(0)), Arc::new(Mutex::new(Seen::default())));
    for round in 0..rounds {
        let stop = Arc::new(AtomicBool::new(false));
        seen.lock().unwrap().last = None;
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| tokio::spawn(write(db.clone(), Arc::clone(&next), Arc::clone(&stop), Arc::clone(&seen))))
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let dead = cluster.primary();
        cluster.script("kill", &dead);
        let promoted = cluster.script("promote", "");
        println!("round {round}: {dead} died, {promoted} was promoted");
        let before = seen.lock().unwrap().acknowledged.len();
        tokio::time::sleep(Duration::from_secs(2)).await;
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.expect("no writer panics");
        }
        let written = seen.lock().unwrap().acknowledged.len() - before;
        assert!(written > 0, "round {round}: nobody writes to {promoted} after {dead} died");
        if round + 1 < rounds {
            cluster.script("rejoin", &dead);
        }
    }

    let rows = db.fetch_all("SELECT id, count(*) FROM t GROUP BY id", ()).await.expect("the rows");
    let found: HashMap<i64, i64> = rows.iter().map(|row| (row.get(0).unwrap(), row.get(1).unwrap())).collect();
    let seen = seen.lock().unwrap();
    let lost = seen.acknowledged.iter().filter(|id| !found.contains_key(id)).count();
    let doubled = found.values().filter(|count| **count > 1).count();
    let done = seen.unknown.iter().filter(|id| found.contains_key(id)).count();
    println!(
        "{rounds} rounds: {} acknowledged, {lost} lost, {doubled} doubled, {} unknown ({done} of them done), {} tried again, \
         longest gap {:?}",
        seen.acknowledged.len(),
        seen.unknown.len(),
        seen.again,
        seen.longest_gap,
    );
    assert_eq!((lost, doubled), (0, 0));
    assert_eq!(found.len(), seen.acknowledged.len() + done, "a row that nobody wrote, or that was called undone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_reads_outlives_the_promotion_of_its_standby() {
    let Some(cluster) = Cluster::start() else { return };
    let mut primary = cluster.connector().connect(Access::Write).await.expect("a session");
    common::script(
        &mut primary,
        "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (m mood); INSERT INTO t VALUES ('sad')",
    )
    .await;
    let mut readers = Vec::new();
    for offset in 0..3 {
        let one = PostgresConnector::new("127.0.0.1", cluster.port + offset).database("postgres").user("app");
        let one = one.key(strongroom::PassphraseKeySource::new("cluster")).tls(strongroom::postgres::Tls::off());
        let mut session = one.connect(Access::Read).await.expect("a session");
        if common::value::<bool>(&mut session, "SELECT pg_is_in_recovery()").await {
            let seen = async {
                while !session.table_exists("t").await.expect("asked") {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            seen.await;
            session.begin(TransactionMode::READ).await.expect("begun");
            assert_eq!(common::value::<i64>(&mut session, "SELECT count(*) FROM t").await, 1);
            readers.push(session);
        }
    }
    assert_eq!(readers.len(), 2);
    cluster.script("kill", &cluster.primary());
    cluster.script("promote", "");
    let mut written = cluster.connector().connect(Access::Write).await.expect("a new primary");
    common::run_sql(&mut written, "INSERT INTO t VALUES ('sad')", ()).await.expect("written");
    for session in &mut readers {
        // Its view is the one it began with, and a type may be looked up in it.
        let rows = common::run_sql(session, "SELECT m FROM t", ()).await.expect("read");
        assert_eq!(rows.len(), 1);
        session.commit().await.expect("its end");
        let error = common::run_sql(session, "INSERT INTO t VALUES ('sad')", ()).await.expect_err("it is for reading");
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    }
}

/// The ports of six sessions that are open at the same time.
async fn ports(connector: &PostgresConnector, access: Access) -> Vec<u16> {
    let (mut open, mut ports) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let mut session = connector.connect(access).await.expect("a session");
        ports.push(common::value::<u16>(&mut session, "SELECT inet_server_port()").await);
        open.push(session);
    }
    ports.sort_unstable();
    ports
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_are_spread_over_the_standbys() {
    let Some(cluster) = Cluster::start() else { return };
    let node = |number: u16| cluster.port + number;
    let (any, standbys) = (cluster.connector(), [node(1), node(1), node(1), node(2), node(2), node(2)]);
    assert_eq!(ports(&any, Access::Read).await, [node(0), node(0), node(1), node(1), node(2), node(2)]);
    assert_eq!(ports(&any, Access::Write).await, [node(0); 6]);
    let primary = cluster.connector().readers(Readers::Primary);
    assert_eq!(ports(&primary, Access::Read).await, [node(0); 6]);
    let prefer = cluster.connector().readers(Readers::PreferStandby);
    assert_eq!(ports(&prefer, Access::Read).await, standbys);
    // As a database of its own for reads: all its sessions are on standbys.
    let only = cluster.connector().target_session_attrs(TargetSessionAttrs::ReadOnly);
    assert_eq!(ports(&only, Access::Write).await, standbys);
    let reads = AsyncDatabase::with_connector(only.clone()).pool_max(4).open().await.expect("a database");
    assert_eq!(reads.fetch_value::<bool>("SELECT pg_is_in_recovery()", ()).await.unwrap(), Some(true));
    // Those of a standby that is gone go to the other one, and without any standby to the primary.
    cluster.script("kill", "n1");
    assert_eq!(ports(&prefer, Access::Read).await, [node(2); 6]);
    assert_eq!(ports(&only, Access::Write).await, [node(2); 6]);
    cluster.script("kill", "n2");
    assert_eq!(ports(&prefer, Access::Read).await, [node(0); 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_reads_from_the_standbys_if_told_to_and_does_all_else_on_the_primary() {
    const STANDBY: &str = "SELECT pg_is_in_recovery()";
    let Some(cluster) = Cluster::start() else { return };
    let open = async |connector| AsyncDatabase::with_connector(connector).pool_max(4).open().await.expect("a database");
    for connector in [cluster.connector(), cluster.connector().readers(Readers::Primary)] {
        let db = open(connector).await;
        for _ in 0..4 {
            assert_eq!(db.fetch_value::<bool>(STANDBY, ()).await.unwrap(), Some(false));
        }
    }
    let any = open(cluster.connector().readers(Readers::Any)).await;
    let mut both = (any.read_connection().await.unwrap(), any.read_connection().await.unwrap());
    let port = "SELECT inet_server_port()";
    let first = both.0.fetch_value::<i64>(port, ()).await.unwrap();
    assert_ne!(first, both.1.fetch_value::<i64>(port, ()).await.unwrap(), "they take turns");
    drop(both);

    let db = open(cluster.connector().readers(Readers::PreferStandby)).await;
    db.execute_script("CREATE TABLE read (id BIGINT); CREATE SEQUENCE numbers").await.unwrap();
    assert_eq!(db.fetch_value::<i64>("INSERT INTO read VALUES (1) RETURNING id", ()).await.unwrap(), Some(1));
    while db.fetch_value::<i64>("SELECT count(*) FROM pg_class WHERE relname = 'numbers'", ()).await.unwrap() != Some(1)
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for number in 1..4_i64 {
        let next = db.fetch_value::<i64>("SELECT nextval('numbers')", ()).await.unwrap();
        assert_eq!(next, Some(number), "what only the function writes goes to the primary, once");
    }
    for locks in ["SELECT id FROM read FOR UPDATE", "WITH w AS (DELETE FROM read RETURNING id) SELECT id FROM w"] {
        assert_eq!(db.fetch_value::<i64>(locks, ()).await.unwrap(), Some(1), "{locks}");
    }
    for _ in 0..4 {
        assert_eq!(db.fetch_value::<bool>(STANDBY, ()).await.unwrap(), Some(true));
    }
    let streamed: Vec<_> = db.fetch_stream(STANDBY, ()).try_collect().await.unwrap();
    assert!(streamed[0].get::<bool>(0).unwrap());
    assert!(db.table_exists("read").await.unwrap());
    let mut reader = db.read_connection().await.unwrap();
    assert_eq!(reader.fetch_value::<bool>(STANDBY, ()).await.unwrap(), Some(true));
    let mut writer = db.connection().await.unwrap();
    assert_eq!(writer.fetch_value::<bool>(STANDBY, ()).await.unwrap(), Some(false));
    drop((reader, writer));
    let on_standby = db.transaction(async |tx| tx.fetch_value::<bool>(STANDBY, ()).await).await.unwrap();
    let mut reading = db.begin_with(TransactionMode::READ).await.unwrap();
    assert_eq!((on_standby, reading.fetch_value::<bool>(STANDBY, ()).await.unwrap()), (Some(false), Some(false)));
    reading.rollback().await.unwrap();
    let error = db.fetch_all("SELECT nothing FROM nowhere", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query);
    assert!(db.stats().total_connections <= 4, "{:?}", db.stats());
    // Without a standby, reads go to the primary.
    cluster.script("kill", "n1");
    cluster.script("kill", "n2");
    let last = open(cluster.connector().readers(Readers::PreferStandby)).await;
    assert_eq!(last.fetch_value::<bool>(STANDBY, ()).await.unwrap(), Some(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_sees_the_last_state_where_readers_are_late_and_when_the_primary_dies() {
    let Some(cluster) = Cluster::start() else { return };
    let connector = cluster.connector().readers(Readers::PreferStandby);
    let db = AsyncDatabase::with_connector(connector).pool_max(4).open().await.expect("a database");
    db.execute_script("CREATE TABLE seen (id bigint)").await.unwrap();
    db.install_change_feed(["seen"]).await.unwrap();
    let mut count = db.watch_as::<i64>("SELECT count(*) FROM seen", ());
    let mut comes_to = async |last: i64| {
        let comes = async { while count.next().await.expect("it goes on").expect("a result") != [last] {} };
        tokio::time::timeout(Duration::from_secs(30), comes).await.unwrap_or_else(|_| panic!("{last} is missed"));
    };
    comes_to(0).await;
    // What is committed is not seen on the standbys.
    let standbys = cluster.connector().target_session_attrs(TargetSessionAttrs::ReadOnly);
    for _ in 0..4 {
        let mut standby = standbys.connect(Access::Read).await.unwrap();
        common::run_sql(&mut standby, "SELECT pg_wal_replay_pause()", ()).await.unwrap();
    }
    db.execute("INSERT INTO seen VALUES (1)", ()).await.unwrap();
    comes_to(1).await;
    for _ in 0..4 {
        let mut standby = standbys.connect(Access::Read).await.unwrap();
        common::run_sql(&mut standby, "SELECT pg_wal_replay_resume()", ()).await.unwrap();
    }

    let dead = cluster.primary();
    cluster.script("kill", &dead);
    cluster.script("promote", "");
    let insert = async || db.execute("INSERT INTO seen VALUES (2)", ()).await;
    while let Err(error) = insert().await {
        assert_ne!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    comes_to(2).await;
    db.execute("INSERT INTO seen VALUES (3)", ()).await.unwrap();
    comes_to(3).await;
}
