//! The events of `tracing` that an operator asks for: each with its level, its message and its fields.
#![cfg(all(feature = "sqlcipher", feature = "testing", target_os = "linux"))]

mod common;
#[path = "common/events.rs"]
mod events;
#[path = "common/faults.rs"]
mod faults;
mod toy;

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::Duration;

use common::{eventually, millis, secs, with_table};
use events::{listen, logged, the_one};
use faults::Call;
use strongroom::database::TransactionOptions;
use strongroom::keys::{ChainKeySource, FileKeySource, async_trait};
use strongroom::pool::{FixedDelay, Ping};
use strongroom::testing::{Fault, FaultyConnector, Point};
use strongroom::{
    AsyncDatabase, DatabaseBuilder, ErrorKind, KeySource, PassphraseKeySource, Pool, Result, Secret, SqlCipherConnector,
};
use toy::{Gate, Step, Toys};

const PASSPHRASE: &str = "zq-never-logged-3";

fn raw(byte: u8) -> Secret {
    Secret::raw_key([byte; 32])
}

fn keyed(path: &Path) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path).key(PassphraseKeySource::new(raw(1)))
}

#[tokio::test]
async fn an_opened_database_says_its_path_its_format_and_the_source_of_its_key() {
    listen();
    let home = tempfile::tempdir().unwrap();
    let open = ["database", "encrypted", "format"];
    let keyed_open = ["database", "encrypted", "format", "key_source"];
    let told = |name: &str, fields: &[&str]| {
        let event = the_one("the database is open", name, "INFO", fields);
        let path = home.path().join(name);
        assert_eq!(event.fields["database"], path.display().to_string());
        (event.fields["encrypted"].clone(), event.fields["format"].clone(), event.fields.get("key_source").cloned())
    };
    AsyncDatabase::builder(home.path().join("plain.db")).open().await.unwrap().close().await.unwrap();
    assert_eq!(told("plain.db", &open), ("false".into(), "SQLite".into(), None));
    keyed(&home.path().join("fresh.db")).open().await.unwrap().close().await.unwrap();
    let given = || Some("a secret given by the caller".to_owned());
    assert_eq!(told("fresh.db", &keyed_open), ("true".into(), "SQLCipher 4".into(), given()));
    let path = home.path().join("old.db");
    let old = keyed(&path).cipher_compatibility(3).cipher_page_size(8192).cipher_kdf_iter(4000);
    old.open().await.unwrap().close().await.unwrap();
    let format = "SQLCipher 3, 4000 rounds, pages of 8192 bytes".to_owned();
    assert_eq!(told("old.db", &keyed_open), ("true".into(), format, given()));
    let path = home.path().join("ios.db");
    let ios = keyed(&path).plaintext_header_with([5; 16]);
    ios.open().await.unwrap().close().await.unwrap();
    assert_eq!(told("ios.db", &keyed_open), ("true".into(), "SQLCipher 4, plaintext header".into(), given()));
}

#[tokio::test]
async fn the_source_that_answered_is_told_and_so_is_one_that_could_not() {
    listen();
    let home = tempfile::tempdir().unwrap();
    let (broken, whole) = (home.path().join("broken.key"), home.path().join("whole.key"));
    for (path, text) in [(&broken, "not a key"), (&whole, PASSPHRASE)] {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let chain = ChainKeySource::new(FileKeySource::new(&broken).raw_key()).or(FileKeySource::new(&whole));
    let db = AsyncDatabase::builder(home.path().join("app.db")).key(chain).open().await.unwrap();
    db.close().await.unwrap();
    the_one("a key source could not answer; the next one is asked", "broken.key", "WARN", &["reason", "source"]);
    the_one("a key source has answered", "whole.key", "DEBUG", &["key_source", "took"]);
    let open = the_one("the database is open", "whole.key", "INFO", &["database", "encrypted", "format", "key_source"]);
    assert!(open.fields["key_source"].contains("whole.key"));

    let alone = FileKeySource::new(home.path().join("missing.key"));
    AsyncDatabase::builder(home.path().join("no.db")).key(alone).open().await.unwrap_err();
    let failed = logged("a key source gave no key", "missing.key");
    assert!(!failed.is_empty() && failed.iter().all(|event| event.level == "DEBUG"), "{failed:?}");
    assert_eq!(failed[0].fields.keys().collect::<Vec<_>>(), ["error", "key_source", "took"]);
    assert!(!events::everything().contains(PASSPHRASE), "a key was logged");
}

/// What somebody else may put another key into.
struct Safe(&'static AtomicU8);

#[async_trait]
impl KeySource for Safe {
    async fn resolve(&self) -> Result<Secret> {
        Ok(raw(self.0.load(SeqCst)))
    }
    fn describe(&self) -> String {
        "the safe of the events".into()
    }
}

#[tokio::test]
async fn a_key_that_was_changed_here_or_elsewhere_is_told() {
    static KEY: AtomicU8 = AtomicU8::new(1);
    listen();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("changed.db");
    let db = AsyncDatabase::builder(&path).key(Safe(&KEY)).open().await.unwrap();
    with_table(&db).await;
    db.suspend().await.unwrap();
    let other = keyed(&path).open().await.unwrap();
    other.rekey(PassphraseKeySource::new(raw(2))).await.unwrap();
    other.close().await.unwrap();
    let fields = ["database", "key_source", "pages", "took"];
    let here = the_one("the database has another key", "changed.db", "INFO", &fields);
    assert_eq!(here.fields["key_source"], "a secret given by the caller");
    KEY.store(2, SeqCst);
    assert_eq!(common::count(&db).await, 0);
    let there = the_one("the file has another key now", "changed.db", "INFO", &["database", "key_source"]);
    assert_eq!(there.fields["key_source"], "the safe of the events");
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_pool_that_closes_says_so_and_warns_of_what_is_left() {
    listen();
    let pool = Pool::builder(SqlCipherConnector::new(":memory:")).name("closed well").build();
    drop(pool.get().await.unwrap());
    pool.close(secs(5)).await;
    the_one("the pool is closed", "closed well", "INFO", &["connections", "pool"]);
    let pool = Toys::default().pool().name("closed badly").max_size(1).build();
    let held = pool.get().await.unwrap();
    pool.close(millis(1)).await;
    the_one("the pool did not close cleanly", "closed badly", "WARN", &["pool", "report"]);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_is_tried_again_and_a_connection_that_is_replaced_are_told() {
    listen();
    let toys = Toys::default();
    let pool = Pool::builder(toys.clone()).name("tries again").max_size(1).retry(FixedDelay::new(3, secs(1)));
    let pool = pool.build();
    toys.world.script(Step::Connect, [Gate::Transient]);
    drop(pool.get().await.unwrap());
    let again = the_one("connecting again after a pause", "tries again", "WARN", &["error", "number", "pause", "pool"]);
    assert_eq!((&*again.fields["number"], &*again.fields["pause"]), ("1", "1s"));

    let toys = Toys::default();
    let pool = toys.pool().name("replaces").min_size(1).max_size(1).health(Ping).build();
    pool.warm().await.unwrap();
    toys.world.script(Step::Ping, [Gate::Err]);
    tokio::time::advance(secs(1)).await;
    drop(pool.get().await.unwrap());
    the_one("an idle connection failed its health check", "replaces", "DEBUG", &["error", "pool"]);
    // One that breaks while it is lent is replaced in the background.
    let mut loan = pool.get().await.unwrap();
    loan.state = strongroom::engine::ResourceState::Broken;
    drop(loan);
    eventually("it is replaced", || !logged("lost connections were replaced", "replaces").is_empty()).await;
    the_one("lost connections were replaced", "replaces", "DEBUG", &["connections", "pool"]);
    toys.world.script(Step::Connect, [Gate::Err]);
    let mut loan = pool.get().await.unwrap();
    loan.state = strongroom::engine::ResourceState::Broken;
    drop(loan);
    eventually("it is tried", || !logged("a lost connection could not be replaced", "replaces").is_empty()).await;
    the_one("a lost connection could not be replaced", "replaces", "WARN", &["error", "pool"]);
}

#[tokio::test(start_paused = true)]
async fn long_waits_and_old_loans_are_warned_of() {
    listen();
    let pool = Toys::default().pool().name("waits long").max_size(1).max_loan_age(Some(secs(4))).build();
    let held = pool.get().await.unwrap();
    held.label("who has it");
    let other = pool.clone();
    let waiter = tokio::spawn(async move { other.get().await.map(drop) });
    tokio::time::sleep(secs(5)).await;
    drop(held);
    waiter.await.unwrap().unwrap();
    let waited = the_one("waited long for a connection", "waits long", "WARN", &["location", "pool", "waited"]);
    assert!(waited.fields["location"].starts_with(file!()), "{waited:?}");
    let fields = ["held", "in_transaction", "label", "location", "pool"];
    let old = the_one("a connection is held for longer than 4s", "waits long", "WARN", &fields);
    assert_eq!(old.fields["label"], "who has it");
}

#[tokio::test]
async fn a_transaction_that_runs_again_is_told_with_its_place() {
    listen();
    let connector = FaultyConnector::new(SqlCipherConnector::new(":memory:"));
    let faults = connector.faults();
    let db = AsyncDatabase::with_connector(connector).open().await.unwrap();
    faults.at(Point::Commit, Fault::Fail(ErrorKind::Serialization));
    let options = TransactionOptions::default();
    db.transaction_with(options, async |tx| tx.execute("CREATE TABLE t (a)", ()).await).await.unwrap();
    let fields = ["error", "location", "number", "pause"];
    let again = the_one("running a transaction again after a pause", file!(), "DEBUG", &fields);
    assert_eq!(again.fields["number"], "1");
}

#[tokio::test]
async fn a_checkpoint_that_fails_is_an_error_that_names_the_file() {
    listen();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().canonicalize().unwrap().join("failing.db");
    let db = keyed(&file).open().await.unwrap();
    with_table(&db).await;
    faults::fail(&file, Call::Sync, 0, usize::MAX, libc::EIO);
    db.checkpoint().await.unwrap_err();
    assert!(faults::heal(&file) > 0, "nothing was synced");
    let failed = the_one("a checkpoint failed", "failing.db", "ERROR", &["database", "error"]);
    assert_eq!(failed.fields["database"], file.display().to_string());
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_slow_call_is_warned_of() {
    listen();
    let db = AsyncDatabase::builder(":memory:").log_slow_calls(Duration::ZERO).open().await.unwrap();
    db.fetch_value::<i64>("SELECT 4711 AS slow_one", ()).await.unwrap();
    let slow = logged("a slow call", "AS slow_one");
    assert!(slow.len() == 1 && slow[0].level == "WARN" && slow[0].fields["statement"] == "SELECT ? AS slow_one");
    assert!(slow[0].fields["location"].starts_with(file!()), "{slow:?}");
}

/// A row of the page for each event that a test here provokes, and for those of PostgreSQL.
#[test]
fn the_page_lists_these_events_with_their_levels() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/observing.md")).unwrap();
    let part = page.split("| event | level | on | fields |").nth(1).expect("the table").split("\n\n").next().unwrap();
    let rows: Vec<_> = part.lines().filter(|line| line.starts_with("| `")).collect();
    for (message, level, fields) in [
        ("the database is open", "INFO", "`database`, `encrypted`, `format`, `key_source`"),
        ("the database is open", "INFO", "`database`, `encrypted`, `server_version`, `key_source`"),
        ("the database has another key", "INFO", "`database`, `key_source`, `pages`, `took`"),
        ("the file has another key now", "INFO", "`database`, `key_source`"),
        ("the pool is closed", "INFO", "`pool`, `connections`"),
        ("the pool did not close cleanly", "WARN", "`pool`, `report`"),
        ("a key source has answered", "DEBUG", "`key_source`, `took`"),
        ("a key source gave no key", "DEBUG", "`key_source`, `took`, `error`"),
        ("a key source could not answer; the next one is asked", "WARN", "`source`, `reason`"),
        ("connecting again after a pause", "WARN", "`pool`, `error`, `number`, `pause`"),
        ("an idle connection failed its health check", "DEBUG", "`pool`, `error`"),
        ("lost connections were replaced", "DEBUG", "`pool`, `connections`"),
        ("a lost connection could not be replaced", "WARN", "`pool`, `error`"),
        ("waited long for a connection", "WARN", "`pool`, `location`, `waited`"),
        ("a connection is held for longer than ..", "WARN", "`pool`, `location`, `label`, `held`, `in_transaction`"),
        ("running a transaction again after a pause", "DEBUG", "`location`, `error`, `number`, `pause`"),
        ("a checkpoint failed; ..", "ERROR", "`database`, `error`"),
    ] {
        let row = |row: &&&str| {
            row.starts_with(&format!("| `{message}` | {level} |")) && row.contains(&format!("| {fields} |"))
        };
        assert_eq!(rows.iter().filter(row).count(), 1, "{message}, {level}, {fields}");
    }
    assert_eq!(rows.len(), 17, "a row without a test: {rows:#?}");
}
