//! Histories of other tools on PostgreSQL: what they did is not done again, and what does not fit is refused by name.
//!
//! The tables of sqlx (0.8.6) and refinery (0.8.16, with tokio-postgres) are dumps of what these tools wrote when they ran these
//! texts; that of diesel is as `diesel_migrations` makes it.
#![cfg(all(feature = "postgres", feature = "migrations", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use common::{Server, server};
use strongroom::database::migrations::{Adopt, MigrateOptions, Migrations};
use strongroom::postgres::PostgresConnector;
use strongroom::{AsyncDatabase, ErrorKind, Reason};

type Database = AsyncDatabase<PostgresConnector>;

const TEXTS: [&str; 3] = [
    "CREATE TABLE users (id BIGINT PRIMARY KEY, name TEXT NOT NULL);\n",
    "CREATE INDEX users_name ON users (name);\n",
    "ALTER TABLE users ADD COLUMN city TEXT;\n",
];

const SQLX: &str = r"
CREATE TABLE _sqlx_migrations (version bigint NOT NULL, description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL, success boolean NOT NULL, checksum bytea NOT NULL,
    execution_time bigint NOT NULL);
INSERT INTO _sqlx_migrations VALUES (1, 'create users', '2026-11-28 09:59:35.260851+00', true,
    '\x857aca4f585b5a1500c0bd235194f3c844c5cee535e42e862267621ed5307404a50fdcd6895bdb2c9a036efb6aed6439', 1258787);
INSERT INTO _sqlx_migrations VALUES (2, 'users by name', '2026-11-28 09:59:35.262387+00', true,
    '\xf5fe384b9e2b9181cc67012b1a087e8242a243a3fe3cf0af80f613c2d09f1311b5f7ac2f5e8f917798f9cfd11b4af5f1', 511053);
ALTER TABLE ONLY _sqlx_migrations ADD CONSTRAINT _sqlx_migrations_pkey PRIMARY KEY (version);";

const REFINERY: &str = "
CREATE TABLE refinery_schema_history (version integer NOT NULL, name character varying(255),
    applied_on character varying(255), checksum character varying(255));
INSERT INTO refinery_schema_history VALUES (1, 'create_users', '2026-11-28T09:59:35.320981122Z', '14227672010915103445');
INSERT INTO refinery_schema_history VALUES (2, 'users_by_name', '2026-11-28T09:59:35.322312859Z', '12768546798747169483');
ALTER TABLE ONLY refinery_schema_history ADD CONSTRAINT refinery_schema_history_pkey PRIMARY KEY (version);";

const DIESEL: &str = "
CREATE TABLE __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY NOT NULL,
    run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
INSERT INTO __diesel_schema_migrations (version) VALUES ('00000000000000'), ('20260102030405');";

/// Of sqlx and refinery; diesel counts by the time of day.
const NUMBERS: [i64; 3] = [1, 2, 3];
const TIMES: [i64; 3] = [0, 20_260_102_030_405, 20_260_102_030_406];

fn list(numbers: [i64; 3]) -> Migrations<PostgresConnector> {
    let names = ["create users", "users by name", "cities"];
    let steps = numbers.into_iter().zip(names).zip(TEXTS);
    steps.fold(Migrations::new(), |list, ((number, name), text)| list.sql(number, name, text))
}

/// Where another tool has run the first two texts.
async fn migrated(server: &Server, name: &str, history: &str) -> Database {
    let main = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    main.execute(&format!("CREATE DATABASE {name}"), ()).await.unwrap();
    let db = AsyncDatabase::with_connector(server.connector().database(name)).open().await.unwrap();
    db.execute_script(&format!("{}{}{history}", TEXTS[0], TEXTS[1])).await.unwrap();
    db
}

#[tokio::test]
async fn what_another_tool_did_is_not_done_again() {
    let Some(server) = server() else { return };
    for (from, origin, history, numbers) in [
        (Adopt::Sqlx, "sqlx", SQLX, NUMBERS),
        (Adopt::Refinery, "refinery", REFINERY, NUMBERS),
        (Adopt::Diesel, "diesel", DIESEL, TIMES),
    ] {
        let db = migrated(&server, origin, history).await;
        let (list, options) = (list(numbers), MigrateOptions::new().adopt(from));
        let plan = db.migration_plan_with(&list, &options).await.unwrap();
        assert_eq!((plan.adopted, plan.version, plan.pending.len()), (2, Some(numbers[1]), 1), "{origin}");
        // Two programs that start at once take it over once.
        let (one, two) = tokio::join!(db.migrate_with(&list, options.clone()), db.migrate_with(&list, options.clone()));
        let reports = [one.unwrap(), two.unwrap()];
        let sum =
            |of: fn(&strongroom::database::migrations::MigrationReport) -> usize| reports.iter().map(of).sum::<usize>();
        assert_eq!((sum(|report| report.adopted), sum(|report| report.ran.len())), (2, 1), "{origin}");
        let sql = "SELECT version, origin FROM strongroom_migrations ORDER BY version";
        let lines: Vec<(i64, Option<String>)> = db.fetch_all_as(sql, ()).await.unwrap();
        let of = |origin: Option<&str>| origin.map(str::to_owned);
        let expected = [(numbers[0], of(Some(origin))), (numbers[1], of(Some(origin))), (numbers[2], None)];
        assert_eq!(lines, expected);
        db.execute("INSERT INTO users VALUES (1, 'alice', 'Oslo')", ()).await.unwrap();
        let report = db.migrate(&list).await.unwrap();
        assert_eq!((report.adopted, report.ran.len()), (0, 0), "{origin}: ours counts from then on");
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_history_that_does_not_fit_is_refused_by_name_and_nothing_is_changed() {
    let Some(server) = server() else { return };
    let changed = "UPDATE _sqlx_migrations SET checksum = checksum || '\\x00' WHERE version = 2";
    let failed = "UPDATE _sqlx_migrations SET success = false WHERE version = 2";
    let other = "UPDATE refinery_schema_history SET checksum = '7' WHERE version = 1";
    let newer = "INSERT INTO __diesel_schema_migrations VALUES ('20270101000000')";
    let word = "INSERT INTO __diesel_schema_migrations VALUES ('first')";
    for (number, (from, history, change, reason, words)) in [
        (Adopt::Sqlx, SQLX, changed, Reason::MigrationChanged, "migration 2 (users by name)"),
        (Adopt::Sqlx, SQLX, failed, Reason::MigrationUnfinished, "migration 2 (users by name)"),
        (Adopt::Refinery, REFINERY, other, Reason::MigrationChanged, "migration 1 (create_users)"),
        (Adopt::Diesel, DIESEL, newer, Reason::NewerSchema, "20270101000000"),
        (Adopt::Diesel, DIESEL, word, Reason::MigrationMissing, "first, whose version is no number"),
    ]
    .into_iter()
    .enumerate()
    {
        let db = migrated(&server, &format!("unfit{number}"), history).await;
        db.execute(change, ()).await.unwrap();
        let numbers = if from == Adopt::Diesel { TIMES } else { NUMBERS };
        let error = db.migrate_with(&list(numbers), MigrateOptions::new().adopt(from)).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Migration, reason), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!db.table_exists("strongroom_migrations").await.unwrap(), "{error}");
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn where_another_tool_did_nothing_all_of_the_list_runs_and_what_is_not_there_is_refused() {
    let Some(server) = server() else { return };
    for (number, from) in [Adopt::Sqlx, Adopt::Refinery, Adopt::Diesel].into_iter().enumerate() {
        let main = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
        main.execute(&format!("CREATE DATABASE empty{number}"), ()).await.unwrap();
        let connector = server.connector().database(format!("empty{number}"));
        let db = AsyncDatabase::with_connector(connector).open().await.unwrap();
        let report = db.migrate_with(&list(NUMBERS), MigrateOptions::new().adopt(from)).await.unwrap();
        assert_eq!((report.adopted, report.ran.len()), (0, 3), "{from:?}");
    }
    let db = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    let error = db.migrate_with(&list(NUMBERS), MigrateOptions::new().adopt(Adopt::UserVersion)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}
