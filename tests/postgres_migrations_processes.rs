//! Processes that migrate a database on PostgreSQL and are killed on the way: what they leave is the schema of before or
//! after a migration, no lock stays, and the next run goes on.
//!
//! `STRONGROOM_MIGRATE_KILLS` (8 by default) is the number of deaths, `STRONGROOM_KILL_SEED` replays their moments.
#![cfg(all(feature = "postgres", feature = "migrations", target_os = "linux"))]

#[path = "common/killed.rs"]
mod killed;
#[path = "common/postgres.rs"]
mod servers;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use killed::killed;
use servers::{Server, connector_at, server};
use strongroom::AsyncDatabase;
use strongroom::database::migrations::{Migration, Migrations};
use strongroom::postgres::PostgresConnector;

const CHILD: &str = "STRONGROOM_TEST_MIGRATE";
const LAST: usize = 5;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// With enough work in each to be met in its middle.
fn list() -> Migrations<PostgresConnector> {
    Migrations::new()
        .sql(1, "customers", "CREATE TABLE customers (id BIGINT PRIMARY KEY, name TEXT)")
        .code(2, "rows", async |tx| {
            let rows = (0..3000_i64).map(|id| (id, format!("customer {id}")));
            tx.execute_many("INSERT INTO customers VALUES ($1, $2)", rows).await.map(drop)
        })
        .sql(
            3,
            "orders",
            "CREATE TABLE orders (id BIGINT PRIMARY KEY, customer BIGINT NOT NULL REFERENCES customers);
             INSERT INTO orders SELECT id, id FROM customers",
        )
        .add(
            Migration::sql(
                4,
                "find customers by name",
                "DROP INDEX CONCURRENTLY IF EXISTS by_name; CREATE INDEX CONCURRENTLY by_name ON customers (name)",
            )
            .outside_transaction()
            .repeatable(),
        )
        .sql(5, "city", "ALTER TABLE customers ADD COLUMN city TEXT")
}

async fn open(port: u16, name: &str) -> AsyncDatabase<PostgresConnector> {
    AsyncDatabase::with_connector(connector_at(port).database(name)).pool_max(1).open().await.unwrap()
}

/// Waits for a line, migrates, and says that it is done. Does nothing unless started by the test below.
#[tokio::test]
async fn the_migrating_process() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (port, name) = told.split_once('/').unwrap();
    let db = open(port.parse().unwrap(), name).await;
    println!("\nready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    assert_eq!(db.migrate(&list()).await.unwrap().version, Some(5));
}

fn child(server: &Server, name: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_migrating_process", "--nocapture"])
        .env(CHILD, format!("{}/{name}", server.port))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.as_mut().unwrap());
    let mut line = String::new();
    while line.trim() != "ready" {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the child ended before it was ready");
    }
    child
}

/// What a death has left behind, once the server has noticed it: how many migrations are there, whole.
async fn look(db: &AsyncDatabase<PostgresConnector>, what: &str) -> usize {
    const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity \
                          WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let mut conn = db.connection().await.unwrap();
    let limit = Instant::now() + Duration::from_secs(20);
    while conn.fetch_value::<i64>(OTHERS, ()).await.unwrap() != Some(0) {
        assert!(Instant::now() < limit, "{what}: its session is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(conn.fetch_value::<i64>(locks, ()).await.unwrap(), Some(0), "{what}: a lock was left behind");
    let done = if conn.table_exists("strongroom_migrations").await.unwrap() {
        let sql = "SELECT version FROM strongroom_migrations WHERE finished_at IS NOT NULL ORDER BY version";
        conn.fetch_all_as::<i64>(sql, ()).await.unwrap()
    } else {
        Vec::new()
    };
    assert_eq!(done, (1..=i64::try_from(done.len()).unwrap()).collect::<Vec<_>>(), "{what}");
    let found = "SELECT to_regclass('customers') IS NOT NULL, to_regclass('orders') IS NOT NULL,
        EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('customers') AND attname = 'city'),
        coalesce((SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('by_name')), false)";
    let (customers, orders, city, mut index): (bool, bool, bool, bool) =
        conn.fetch_one_as(found, ()).await.unwrap().unwrap();
    // Of one that runs outside of a transaction, the work may be done and its line missing: it is run again.
    index &= done.len() != 3;
    let has = |version| done.len() >= version;
    assert_eq!((customers, orders, index, city), (has(1), has(3), has(4), has(5)), "{what}: {done:?}");
    if customers {
        let rows = conn.fetch_value::<i64>("SELECT count(*) FROM customers", ()).await.unwrap();
        assert_eq!(rows, Some(if has(2) { 3000 } else { 0 }), "{what}");
    }
    done.len()
}

#[tokio::test]
async fn a_process_that_is_killed_at_a_random_moment_leaves_the_schema_of_before_or_after() {
    let Some(server) = server() else { return };
    let seed = number("STRONGROOM_KILL_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let main = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    // As long as a whole run takes.
    let mut whole = Duration::ZERO;
    let mut met = 0;
    for round in 0..=number("STRONGROOM_MIGRATE_KILLS").unwrap_or(8) {
        let (name, what) = (format!("killed_{round}"), format!("seed {seed}, round {round}"));
        main.execute(&format!("CREATE DATABASE {name}"), ()).await.unwrap();
        let mut child = child(&server, &name);
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let began = Instant::now();
        if round == 0 {
            assert!(child.wait().unwrap().success(), "{what}");
            whole = began.elapsed();
            continue;
        }
        let after = Duration::from_micros(random.u64(0..u64::try_from(whole.as_micros()).unwrap()));
        let status = killed(&mut child, began, after);
        assert!(status.success() || status.signal() == Some(9), "{what}: {status}");
        let db = open(server.port, &name).await;
        let done = look(&db, &what).await;
        met += u64::from((1..LAST).contains(&done));
        assert_eq!(db.migrate(&list()).await.expect(&what).ran.len(), LAST - done, "{what}");
        assert_eq!(look(&db, &what).await, LAST, "{what}");
        db.close().await.unwrap();
    }
    assert!(met > 0, "seed {seed}: nobody was killed on the way");
}
