//! Histories of other tools are taken over: what they did is not done again, and what does not fit is refused by name.
//!
//! The tables are written here as the tools write them (sqlx 0.8, refinery 0.8 to 0.10, `rusqlite_migration` 2), with
//! checksums by other implementations of the same algorithms.
#![cfg(all(feature = "sqlcipher", feature = "migrations"))]

mod common;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use common::{kinds, memory};
use sha2::{Digest as _, Sha384};
use strongroom::database::migrations::{Adopt, MigrateOptions, Migrations};
use strongroom::{AsyncDatabase, ErrorKind, Reason, SqlCipherConnector};

type List = Migrations<SqlCipherConnector>;

const FILES: [(&str, &str); 3] = [
    ("1_create_users.sql", "CREATE TABLE users (id INTEGER PRIMARY KEY);\n"),
    ("2_add_names.sql", "ALTER TABLE users ADD COLUMN name TEXT;\n-- done\n"),
    ("3_find_by_name.sql", "CREATE INDEX by_name ON users (name);\n"),
];

fn list() -> List {
    List::from_files(FILES).unwrap()
}

/// A database on which another tool has run the first two files.
async fn migrated() -> AsyncDatabase {
    let db = memory().await;
    for (_, text) in &FILES[..2] {
        db.execute_script(text).await.unwrap();
    }
    db
}

async fn sqlx(texts: [&str; 2]) -> AsyncDatabase {
    let db = migrated().await;
    db.execute_script(
        "CREATE TABLE _sqlx_migrations (
             version BIGINT PRIMARY KEY, description TEXT NOT NULL, installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
             success BOOLEAN NOT NULL, checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)",
    )
    .await
    .unwrap();
    for (version, name, text) in [(1, "create users", texts[0]), (2, "add names", texts[1])] {
        let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                   VALUES ($1, $2, TRUE, $3, 1000)";
        db.execute(sql, (version, name, Sha384::digest(text).to_vec())).await.unwrap();
    }
    db
}

/// As refinery hashes: name, number, text.
fn refinery_checksum(name: &str, version: i32, text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (name, version, text).hash(&mut hasher);
    hasher.finish().to_string()
}

async fn refinery(texts: [&str; 2]) -> AsyncDatabase {
    let db = migrated().await;
    let table = "CREATE TABLE refinery_schema_history (version INTEGER PRIMARY KEY, name VARCHAR(255), \
                 applied_on VARCHAR(255), checksum VARCHAR(255))";
    db.execute_script(table).await.unwrap();
    for (version, name, text) in [(1, "create_users", texts[0]), (2, "add_names", texts[1])] {
        let sql = "INSERT INTO refinery_schema_history VALUES ($1, $2, '2026-01-01T00:00:00Z', $3)";
        db.execute(sql, (version, name, refinery_checksum(name, version, text))).await.unwrap();
    }
    db
}

/// As `diesel_migrations` makes it.
async fn diesel() -> AsyncDatabase {
    let db = migrated().await;
    db.execute_script(
        "CREATE TABLE __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY NOT NULL,
             run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
         INSERT INTO __diesel_schema_migrations (version) VALUES ('1'), ('00000000000002')",
    )
    .await
    .unwrap();
    db
}

async fn user_version(version: i64) -> AsyncDatabase {
    let db = migrated().await;
    let mut conn = db.connection().await.unwrap();
    conn.execute_script(&format!("PRAGMA user_version = {version}")).await.unwrap();
    drop(conn);
    db
}

fn adopting(from: Adopt) -> MigrateOptions {
    MigrateOptions::new().adopt(from)
}

async fn assert_adopts(db: AsyncDatabase, from: Adopt, origin: &str) {
    let plan = db.migration_plan_with(&list(), &adopting(from)).await.unwrap();
    assert_eq!((plan.adopted, plan.version, plan.pending.len()), (2, Some(2), 1), "{from:?}");
    assert!(!db.table_exists("strongroom_migrations").await.unwrap(), "the plan did something");
    let report = db.migrate_with(&list(), adopting(from)).await.unwrap();
    assert_eq!((report.adopted, report.ran.len(), report.version), (2, 1, Some(3)), "{from:?}");
    let origins: Vec<Option<String>> =
        db.fetch_all_as("SELECT origin FROM strongroom_migrations ORDER BY version", ()).await.unwrap();
    assert_eq!(origins, [Some(origin.to_owned()), Some(origin.to_owned()), None]);
    // From then on ours counts, with or without the option.
    for options in [adopting(from), MigrateOptions::new()] {
        let report = db.migrate_with(&list(), options).await.unwrap();
        assert_eq!((report.adopted, report.ran.len()), (0, 0), "{from:?}");
    }
}

#[tokio::test]
async fn what_another_tool_did_is_not_done_again() {
    let texts = [FILES[0].1, FILES[1].1];
    assert_adopts(sqlx(texts).await, Adopt::Sqlx, "sqlx").await;
    assert_adopts(refinery(texts).await, Adopt::Refinery, "refinery").await;
    assert_adopts(user_version(2).await, Adopt::UserVersion, "user_version").await;
    assert_adopts(diesel().await, Adopt::Diesel, "diesel").await;
    // Checked out on another system, the other tool saw other line endings.
    let dos = texts.map(|text| text.replace('\n', "\r\n"));
    let dos = [&*dos[0], &*dos[1]];
    assert_adopts(sqlx(dos).await, Adopt::Sqlx, "sqlx").await;
    assert_adopts(refinery(dos).await, Adopt::Refinery, "refinery").await;
}

#[tokio::test]
async fn where_another_tool_did_nothing_all_of_the_list_runs() {
    for from in [Adopt::Sqlx, Adopt::Refinery, Adopt::Diesel, Adopt::UserVersion] {
        let report = memory().await.migrate_with(&list(), adopting(from)).await.unwrap();
        assert_eq!((report.adopted, report.ran.len()), (0, 3), "{from:?}");
    }
}

#[tokio::test]
async fn a_history_that_does_not_fit_is_refused_by_name_and_nothing_is_changed() {
    let changed = [FILES[0].1, "ALTER TABLE users ADD COLUMN name TEXT DEFAULT ''"];
    let failed = sqlx([FILES[0].1, FILES[1].1]).await;
    failed.execute("UPDATE _sqlx_migrations SET success = FALSE WHERE version = 2", ()).await.unwrap();
    let further = sqlx([FILES[0].1, FILES[1].1]).await;
    further.execute("UPDATE _sqlx_migrations SET version = 9 WHERE version = 2", ()).await.unwrap();
    let missing = refinery([FILES[0].1, FILES[1].1]).await;
    missing.execute("UPDATE refinery_schema_history SET version = 0 WHERE version = 1", ()).await.unwrap();
    for (db, from, reason, words) in [
        (sqlx(changed).await, Adopt::Sqlx, Reason::MigrationChanged, "migration 2 (add names)"),
        (refinery(changed).await, Adopt::Refinery, Reason::MigrationChanged, "migration 2 (add_names)"),
        (failed, Adopt::Sqlx, Reason::MigrationUnfinished, "migration 2 (add names)"),
        (further, Adopt::Sqlx, Reason::NewerSchema, "migration 9 (add names)"),
        (missing, Adopt::Refinery, Reason::MigrationMissing, "migration 0 (create_users)"),
        (user_version(7).await, Adopt::UserVersion, Reason::NewerSchema, "user_version 7"),
    ] {
        let error = db.migrate_with(&list(), adopting(from)).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Migration, reason), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!db.table_exists("strongroom_migrations").await.unwrap(), "{error}");
    }
}
