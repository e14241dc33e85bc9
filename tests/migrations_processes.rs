//! Processes that migrate: one that is killed leaves the schema of before or after a migration, never one between; and of
//! two that start together, each migration is run by one.
//!
//! `STRONGROOM_MIGRATE_KILLS` (8 by default) is the number of deaths at random moments, `STRONGROOM_MIGRATE_STARTS` (4)
//! that of starts together, `STRONGROOM_KILL_SEED` replays the moments.
#![cfg(all(feature = "sqlcipher", feature = "migrations", unix))]

mod common;
#[path = "common/killed.rs"]
mod killed;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use common::{key, millis};
use killed::killed;
use strongroom::database::migrations::{MigrateOptions, Migration, MigrationState, Migrations};
use strongroom::{AsyncDatabase, ErrorKind, SqlCipherConnector};

const CHILD: &str = "STRONGROOM_TEST_MIGRATE";
/// After so many steps (begun and done each count) the child kills itself.
const STEPS: &str = "STRONGROOM_TEST_MIGRATE_STEPS";
const LAST: i64 = 7;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Every kind of migration, with enough work in each to be met in its middle.
fn list() -> Migrations<SqlCipherConnector> {
    Migrations::new()
        .sql(1, "customers", "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT)")
        .code(2, "rows", async |tx| {
            let rows = (0..3000_i64).map(|id| (id, format!("customer {id}")));
            tx.execute_many("INSERT INTO customers VALUES ($1, $2)", rows).await.map(drop)
        })
        .sql(
            3,
            "orders",
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers);
             INSERT INTO orders SELECT id, id FROM customers",
        )
        .add(
            Migration::sql(
                4,
                "rebuild",
                "CREATE TABLE rebuilt (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
                 INSERT INTO rebuilt SELECT * FROM customers;
                 DROP TABLE customers;
                 ALTER TABLE rebuilt RENAME TO customers",
            )
            .without_foreign_keys(),
        )
        .add(Migration::sql(5, "compact", "VACUUM").outside_transaction().repeatable())
        .sql(6, "index", "CREATE INDEX by_name ON customers (name)")
        .sql(LAST, "last", "CREATE TABLE last (a); INSERT INTO last SELECT id FROM orders")
}

async fn open(path: &Path) -> AsyncDatabase {
    AsyncDatabase::builder(path).key(key()).pool_max(3).open().await.unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits for a line, migrates, and says what it ran. Does nothing unless started by the tests below.
#[test]
fn the_migrating_process() {
    let (Some(path), steps) = (std::env::var_os(CHILD), number(STEPS, u64::MAX)) else { return };
    runtime().block_on(async {
        let db = open(Path::new(&path)).await;
        println!("\nready");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        let left = std::sync::atomic::AtomicU64::new(steps);
        let options = MigrateOptions::new().on_progress(move |now| {
            if left.fetch_sub(1, Ordering::SeqCst) == 0 {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
            }
            if matches!(now.state, MigrationState::Done(_)) {
                println!("\nran {}", now.version);
            }
        });
        let report = db.migrate_with(&list(), options).await.unwrap();
        assert_eq!(report.version, Some(LAST));
        db.close().await.unwrap();
    });
}

/// Starts a process that is ready to migrate.
fn child(path: &Path, steps: u64) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_migrating_process", "--nocapture"])
        .env(CHILD, path)
        .env(STEPS, steps.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim() != "ready" {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the child ended before it was ready");
    }
    (child, said)
}

fn go(child: &mut Child) {
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
}

async fn schema(db: &AsyncDatabase) -> String {
    let sql = "SELECT coalesce(group_concat(sql, ';'), '') FROM (SELECT sql FROM sqlite_schema \
               WHERE name != 'strongroom_migrations' AND name NOT LIKE 'sqlite_%' ORDER BY name)";
    db.fetch_value(sql, ()).await.unwrap().unwrap()
}

async fn last(db: &AsyncDatabase) -> i64 {
    if !db.table_exists("strongroom_migrations").await.unwrap() {
        return 0;
    }
    let sql = "SELECT coalesce(max(version), 0) FROM strongroom_migrations WHERE finished_at IS NOT NULL";
    db.fetch_value(sql, ()).await.unwrap().unwrap()
}

/// The schema behind each migration, from 0 on.
async fn schemas() -> Vec<String> {
    let db = AsyncDatabase::builder(":memory:").open().await.unwrap();
    let mut schemas = vec![String::new()];
    for version in 1..=LAST {
        db.migrate_with(&list(), MigrateOptions::new().up_to(version)).await.unwrap();
        schemas.push(schema(&db).await);
    }
    schemas
}

/// Looks at what a death has left behind, and migrates to the end.
async fn look(path: &Path, schemas: &[String], what: &str) -> i64 {
    let db = open(path).await;
    let found = last(&db).await;
    assert_eq!(schema(&db).await, schemas[usize::try_from(found).unwrap()], "{what}: not the schema of {found}");
    let health: Option<String> = db.fetch_value("PRAGMA integrity_check", ()).await.unwrap();
    assert_eq!(health.as_deref(), Some("ok"), "{what}");
    assert!(db.fetch_all("PRAGMA foreign_key_check", ()).await.unwrap().is_empty(), "{what}");
    if found >= 2 {
        let rows: Option<i64> = db.fetch_value("SELECT count(*) FROM customers", ()).await.unwrap();
        assert_eq!(rows, Some(3000), "{what}");
    }
    assert_eq!(db.migrate(&list()).await.expect(what).version, Some(LAST), "{what}");
    assert_eq!(schema(&db).await, schemas[schemas.len() - 1], "{what}");
    db.close().await.unwrap();
    found
}

#[test]
fn a_process_that_is_killed_at_any_step_leaves_the_schema_of_before_or_after() {
    let running = runtime();
    let schemas = running.block_on(schemas());
    for steps in 0..2 * LAST.unsigned_abs() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.db");
        let (mut child, mut said) = child(&path, steps);
        go(&mut child);
        said.read_to_string(&mut String::new()).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "after {steps} steps");
        let found = running.block_on(look(&path, &schemas, &format!("killed after {steps} steps")));
        // A step of odd number comes behind a commit.
        assert_eq!(found.unsigned_abs(), steps.div_ceil(2), "after {steps} steps");
    }
}

#[test]
fn a_process_that_is_killed_at_a_random_moment_leaves_the_schema_of_before_or_after() {
    let (rounds, seed) = (number("STRONGROOM_MIGRATE_KILLS", 8), number("STRONGROOM_KILL_SEED", 7));
    let mut random = fastrand::Rng::with_seed(seed);
    let running = runtime();
    let schemas = running.block_on(schemas());
    let (mut whole, mut found) = (Duration::from_millis(60), Vec::new());
    for round in 0..rounds {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.db");
        let (mut child, mut said) = child(&path, u64::MAX);
        let after = whole.mul_f64(random.f64());
        let began = Instant::now();
        go(&mut child);
        let gone = killed(&mut child, began, after);
        said.read_to_string(&mut String::new()).unwrap();
        // It got through: the next deaths come earlier.
        whole = if gone.success() { whole.mul_f64(0.8) } else { whole.mul_f64(1.1) };
        found.push(running.block_on(look(
            &path,
            &schemas,
            &format!("seed {seed}, round {round}, killed after {after:?}"),
        )));
    }
    println!("{rounds} deaths found the schema at {found:?}");
}

#[test]
fn of_processes_that_start_together_each_migration_is_run_by_one() {
    let running = runtime();
    for round in 0..number("STRONGROOM_MIGRATE_STARTS", 4) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.db");
        running.block_on(async { open(&path).await.close().await.unwrap() });
        let mut children = [child(&path, u64::MAX), child(&path, u64::MAX)];
        for (child, _) in &mut children {
            go(child);
        }
        let mut ran = Vec::new();
        for (mut child, mut said) in children {
            let mut text = String::new();
            said.read_to_string(&mut text).unwrap();
            assert!(child.wait().unwrap().success(), "round {round}: {text}");
            ran.extend(text.lines().filter_map(|line| line.strip_prefix("ran ")?.parse::<i64>().ok()));
        }
        ran.sort_unstable();
        assert_eq!(ran, (1..=LAST).collect::<Vec<_>>(), "round {round}");
    }
}

/// One process runs outside of a transaction for a while; the other neither takes it for dead nor runs it too.
#[tokio::test]
async fn a_run_outside_of_transactions_is_waited_for() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.db");
    let (one, other) = (open(&path).await, open(&path).await);
    let rows = "CREATE TABLE t AS WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c LIMIT 20000) SELECT i FROM c";
    let list = Migrations::new().sql(1, "rows", rows).add(
        Migration::sql(2, "work", "CREATE TABLE u AS SELECT * FROM t; VACUUM; DROP TABLE t").outside_transaction(),
    );
    let first = async { one.migrate(&list).await.unwrap().ran.len() };
    let second = async {
        tokio::time::sleep(millis(20)).await;
        other.migrate(&list).await.unwrap().ran.len()
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first + second, 2);
}

static BEGAN: AtomicBool = AtomicBool::new(false);
static MAY_END: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// SQL's `hold()`: works on without a lock of the database, until it may end.
fn hold() -> i64 {
    BEGAN.store(true, Ordering::SeqCst);
    let ends = MAY_END.1.wait_timeout_while(MAY_END.0.lock().unwrap(), Duration::from_secs(60), |may| !*may);
    *ends.unwrap().0 = false;
    1
}

/// However long it takes, and whether or not it may be repeated: while its process lives, nobody else runs it.
#[tokio::test]
async fn a_run_outside_of_transactions_is_not_given_up_for_lost_while_it_works() {
    for repeatable in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.db");
        let hook = async |connection: &mut strongroom::sqlcipher::SqlCipherConnection| {
            let flags = rusqlite::functions::FunctionFlags::SQLITE_UTF8;
            connection.interact(move |c| c.create_scalar_function("hold", 0, flags, |_| Ok(hold()))).await
        };
        let one = AsyncDatabase::builder(&path).key(key()).set_up(hook).open().await.unwrap();
        let other = open(&path).await;
        let work = Migration::sql(1, "work", "CREATE TABLE t (a); SELECT hold()").outside_transaction();
        let list = Migrations::new().add(if repeatable { work.repeatable() } else { work });
        BEGAN.store(false, Ordering::SeqCst);
        let first = async { one.migrate(&list).await.unwrap().ran.len() };
        let second = async {
            while !BEGAN.load(Ordering::SeqCst) {
                tokio::time::sleep(millis(2)).await;
            }
            let short = || MigrateOptions::new().patience(millis(200));
            for options in [short(), short().run_again(1), short().take_as_done(1)] {
                let error = other.migrate_with(&list, options).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
            }
            *MAY_END.0.lock().unwrap() = true;
            MAY_END.1.notify_all();
            other.migrate(&list).await.unwrap().ran.len()
        };
        assert_eq!(tokio::join!(first, second), (1, 0));
        let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains("migrating")), "{left:?}");
    }
}
