//! Migrations on PostgreSQL.
#![cfg(all(feature = "postgres", feature = "sqlcipher", feature = "migrations", target_os = "linux"))]

mod common;
#[path = "common/postgres.rs"]
mod servers;

use common::{Walked, kinds, walk};
use servers::{Server, server};
use strongroom::database::migrations::{MigrateOptions, Migration, Migrations};
use strongroom::postgres::PostgresConnector;
use strongroom::{AsyncDatabase, ErrorKind, Reason};

type Database = AsyncDatabase<PostgresConnector>;

fn list() -> Migrations<PostgresConnector> {
    Migrations::new()
        .sql(1, "customers", "CREATE TABLE customers (id BIGINT PRIMARY KEY, name TEXT)")
        .code(2, "first customer", async |tx| {
            tx.execute("INSERT INTO customers VALUES ($1, $2)", (1, "alice")).await.map(drop)
        })
        .sql(
            3,
            "orders",
            "CREATE TABLE orders (id BIGINT PRIMARY KEY, customer BIGINT NOT NULL REFERENCES customers);
             CREATE FUNCTION one() RETURNS BIGINT LANGUAGE sql AS $$ SELECT 1; $$;
             INSERT INTO orders VALUES (1, one())",
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

/// A database of its own on the server.
async fn database(server: &Server, name: &str) -> PostgresConnector {
    let main = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    main.execute(&format!("CREATE DATABASE {name}"), ()).await.unwrap();
    main.close().await.unwrap();
    server.connector().database(name)
}

async fn open(connector: &PostgresConnector) -> Database {
    AsyncDatabase::with_connector(connector.clone()).pool_max(4).open().await.unwrap()
}

async fn versions(db: &Database) -> Vec<i64> {
    if !db.table_exists("strongroom_migrations").await.unwrap() {
        return Vec::new();
    }
    let sql = "SELECT version FROM strongroom_migrations WHERE finished_at IS NOT NULL ORDER BY version";
    db.fetch_all_as(sql, ()).await.unwrap()
}

/// Nobody holds a lock of a run.
async fn assert_unlocked(db: &Database, what: &str) {
    for _ in 0..400 {
        let locks: Option<i64> =
            db.fetch_value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", ()).await.unwrap();
        if locks == Some(0) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{what}: a lock was left behind");
}

#[tokio::test]
async fn migrations_run_once_and_what_does_not_fit_is_refused() {
    let Some(server) = server() else { return };
    let connector = database(&server, "once").await;
    // A pool of one: everything goes over the same connection.
    let db = AsyncDatabase::with_connector(connector).pool_max(1).open().await.unwrap();
    assert_eq!(db.migration_plan(&list()).await.unwrap().pending.len(), 5);
    let report = db.migrate_with(&list(), MigrateOptions::new().up_to(3)).await.unwrap();
    assert_eq!((report.ran.len(), report.version), (3, Some(3)));
    let report = db.migrate(&list()).await.unwrap();
    assert_eq!((report.ran.len(), report.version), (2, Some(5)));
    assert_eq!(db.migrate(&list()).await.unwrap().ran.len(), 0);
    assert_eq!(versions(&db).await, [1, 2, 3, 4, 5]);
    let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'by_name'::regclass";
    assert_eq!(db.fetch_value::<bool>(valid, ()).await.unwrap(), Some(true));
    assert_unlocked(&db, "after a run").await;

    let broken = list().sql(6, "broken", "CREATE TABLE half (a INT); INSERT INTO nowhere VALUES (1)");
    let error = db.migrate(&broken).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query, "{error}");
    assert!(error.to_string().starts_with("migration 6 (broken): "), "{error}");
    assert!(!db.table_exists("half").await.unwrap());
    assert_unlocked(&db, "after a failure").await;
    for text in [
        "CREATE TABLE half (a INT); COMMIT; CREATE TABLE rest (a INT)",
        "BEGIN; CREATE TABLE half (a INT); COMMIT",
        "CREATE TABLE half (a INT); END; SELECT 1/0",
    ] {
        let error = db.migrate(&list().sql(6, "commits", text)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Control, "{text}: {error}");
        assert!(error.advice().unwrap_or_default().contains("COMMIT"), "{error}");
        assert!(!db.table_exists("half").await.unwrap(), "{text} has left its table behind");
    }
    let inside = list().sql(6, "inside", "CREATE INDEX CONCURRENTLY more ON customers (city)");
    assert!(db.migrate(&inside).await.unwrap_err().to_string().starts_with("migration 6 (inside): "));

    let rebuild = list().add(Migration::sql(6, "rebuild", "SELECT 1").without_foreign_keys());
    assert_eq!(db.migrate(&rebuild).await.unwrap_err().kind(), ErrorKind::Unsupported);
    let old = Migrations::new().sql(1, "customers", "CREATE TABLE customers (id BIGINT PRIMARY KEY, name TEXT)");
    assert_eq!(kinds(&db.migrate(&old).await.unwrap_err()), (ErrorKind::Migration, Reason::NewerSchema));
    assert_eq!(versions(&db).await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_semicolon_within_a_body_or_parentheses_ends_no_statement() {
    let Some(server) = server() else { return };
    let db = open(&database(&server, "semicolons").await).await;
    let text = "CREATE TABLE a (n INT); CREATE TABLE b (n INT);
        CREATE RULE twice AS ON INSERT TO a DO ALSO (INSERT INTO b VALUES (NEW.n); INSERT INTO b VALUES (NEW.n));
        CREATE FUNCTION add(n INT) RETURNS BIGINT BEGIN ATOMIC
            INSERT INTO a VALUES (CASE WHEN n > 0 THEN n ELSE 0 END);
            SELECT count(*) AS end FROM b;
        END;
        SELECT add(1)";
    let list = Migrations::new().add(Migration::sql(1, "outside", text).outside_transaction()).sql(
        2,
        "inside",
        format!("DROP TABLE a, b CASCADE; {text}"),
    );
    assert_eq!(db.migrate(&list).await.unwrap().ran.len(), 2);
    assert_eq!(db.fetch_value::<i64>("SELECT add(2)", ()).await.unwrap(), Some(4));
}

#[tokio::test]
async fn a_file_with_a_byte_order_mark_runs_in_a_transaction_and_outside() {
    let Some(server) = server() else { return };
    let db = open(&database(&server, "marked").await).await;
    let list: Migrations<PostgresConnector> = Migrations::from_files([
        ("1_inside.sql", "\u{feff}CREATE TABLE inside (id BIGINT); CREATE TABLE more (id BIGINT)"),
        ("2_outside.sql", "\u{feff}-- strongroom: outside-transaction\nCREATE TABLE outside (id BIGINT)"),
    ])
    .unwrap();
    assert_eq!(db.migrate(&list).await.unwrap().ran.len(), 2);
    assert!(db.table_exists("more").await.unwrap() && db.table_exists("outside").await.unwrap());
}

#[tokio::test]
async fn an_index_that_was_not_finished_stops_the_next_run_unless_it_is_repeatable() {
    let Some(server) = server() else { return };
    let db = open(&database(&server, "unfinished").await).await;
    db.migrate_with(&list(), MigrateOptions::new().up_to(3)).await.unwrap();
    db.execute("INSERT INTO customers VALUES (2, 'alice')", ()).await.unwrap();
    // Two rows of one name: the server leaves an index behind that it does not use.
    let unique = "CREATE UNIQUE INDEX CONCURRENTLY names ON customers (name)";
    let unique = list().add(Migration::sql(6, "unique", unique).outside_transaction());
    assert_eq!(db.migrate(&unique).await.unwrap_err().kind(), ErrorKind::Constraint);
    let stopped = db.migrate(&unique).await.unwrap_err();
    assert_eq!(kinds(&stopped), (ErrorKind::Migration, Reason::MigrationUnfinished), "{stopped}");
    assert!(stopped.to_string().contains("migration 6 (unique)"), "{stopped}");
    db.execute_script("DROP INDEX names; DELETE FROM customers WHERE id = 2").await.unwrap();
    let report = db.migrate_with(&unique, MigrateOptions::new().run_again(6)).await.unwrap();
    assert_eq!((report.ran.len(), report.version), (1, Some(6)));
    assert_unlocked(&db, "after an index").await;
}

#[tokio::test]
async fn handles_that_start_together_run_each_migration_once_also_the_concurrent_index() {
    let Some(server) = server() else { return };
    for round in 0..5 {
        let connector = database(&server, &format!("together_{round}")).await;
        let mut runs = Vec::new();
        for _ in 0..3 {
            let db = open(&connector).await;
            runs.push(tokio::spawn(async move { db.migrate(&list()).await.map(|report| report.ran.len()) }));
        }
        let mut total = 0;
        for run in runs {
            let limit = std::time::Duration::from_secs(30);
            total += tokio::time::timeout(limit, run).await.expect("no deadlock").unwrap().unwrap();
        }
        assert_eq!(total, 5, "round {round}");
    }
}

#[tokio::test]
async fn a_run_that_is_dropped_at_any_moment_leaves_no_lock_and_no_half() {
    let Some(server) = server() else { return };
    let (mut polls, mut done) = (0, false);
    while !done {
        let db = open(&database(&server, &format!("dropped_{polls}")).await).await;
        done = matches!(walk(db.migrate(&list()), polls).await, Walked::Done(_));
        let what = format!("after {polls} polls");
        assert_unlocked(&db, &what).await;
        let had = versions(&db).await;
        assert_eq!(db.table_exists("orders").await.unwrap(), had.len() >= 3, "{what}: {had:?}");
        assert_eq!(db.migrate(&list()).await.expect(&what).version, Some(5), "{what}");
        db.close().await.unwrap();
        polls += if polls < 8 { 1 } else { 5 };
    }
    assert!(polls > 8, "it was never dropped on the way");
}

#[tokio::test]
async fn another_run_is_waited_for_only_so_long() {
    let Some(server) = server() else { return };
    let connector = database(&server, "waits").await;
    let (holder, db) = (open(&connector).await, open(&connector).await);
    let mut held = holder.connection().await.unwrap();
    held.fetch_all("SELECT pg_try_advisory_lock(7876647666)", ()).await.unwrap();
    let options = MigrateOptions::new().patience(std::time::Duration::from_millis(120));
    let error = db.migrate_with(&list(), options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.is_transient());
    held.fetch_all("SELECT pg_advisory_unlock(7876647666)", ()).await.unwrap();
    assert_eq!(db.migrate(&list()).await.unwrap().ran.len(), 5);
}

#[tokio::test]
async fn a_migration_that_looks_elsewhere_for_names_leads_no_other_astray() {
    let Some(server) = server() else { return };
    let connector = database(&server, "paths").await;
    let db = open(&connector).await;
    let list = Migrations::new()
        .sql(
            1,
            "first",
            "CREATE TABLE first (a INT); CREATE SCHEMA side; SET search_path = side; CREATE TABLE a (a INT)",
        )
        // So begins what pg_dump writes.
        .sql(2, "dumped", "SELECT pg_catalog.set_config('search_path', '', false); CREATE TABLE public.second (a INT)")
        .add(
            Migration::sql(3, "apart", "SET search_path = side; VACUUM a; CREATE TABLE b (a INT)")
                .outside_transaction(),
        )
        .sql(4, "third", "CREATE TABLE third (a INT); SET LOCAL search_path = nowhere")
        .code(5, "by code", async |tx| tx.execute_script("CREATE TABLE fourth (a INT)").await);
    assert_eq!(db.migrate_with(&list, MigrateOptions::new().up_to(2)).await.unwrap().ran.len(), 2);
    assert_eq!(db.migrate(&list).await.unwrap().ran.len(), 3);
    assert_eq!(db.migrate(&list).await.unwrap().ran.len(), 0);
    let sql = "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('public', 'side') ORDER BY 1";
    let tables: Vec<String> = db.fetch_all_as(sql, ()).await.unwrap();
    let wanted = ["first", "fourth", "second", "strongroom_migrations", "third"].map(|name| format!("public.{name}"));
    assert_eq!(tables, [&wanted[..], &["side.a".to_owned(), "side.b".to_owned()]].concat());
}

#[tokio::test]
async fn a_role_with_a_schema_of_its_own_does_not_begin_a_second_history() {
    let Some(server) = server() else { return };
    let connector = database(&server, "roles").await;
    let db = open(&connector).await;
    db.execute_script("CREATE SCHEMA app").await.unwrap();
    db.close().await.unwrap();
    // The first role is called like its schema, so what it makes is there.
    let db = open(&connector).await;
    assert_eq!(db.migrate(&list()).await.unwrap().ran.len(), 5);
    db.execute_script("CREATE ROLE other SUPERUSER; CREATE SCHEMA tenant").await.unwrap();
    let other = open(&connector.clone().setting("role", "other")).await;
    for error in [other.migrate(&list()).await.unwrap_err(), other.migration_plan(&list()).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Migration, "{error}");
        assert!(error.to_string().contains("the schema app"), "{error}");
    }
    assert!(!other.table_exists("public.customers").await.unwrap());
    // Told where to look, it finds the history, or begins one that is meant.
    let told = open(&connector.clone().setting("role", "other").setting("search_path", "app")).await;
    assert_eq!(told.migrate(&list()).await.unwrap().ran.len(), 0);
    let tenant = open(&connector.clone().setting("search_path", "tenant")).await;
    assert_eq!(tenant.migration_plan(&list()).await.unwrap().pending.len(), 5);
    assert_eq!(tenant.migrate(&list()).await.unwrap().ran.len(), 5);
}
