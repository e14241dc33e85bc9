//! The check of all migrations finds what a single run does not.
#![cfg(all(feature = "sqlcipher", feature = "migrations", feature = "testing"))]

use strongroom::database::migrations::{MigrationCheck, Migrations, schema_of};
use strongroom::{AsyncDatabase, ErrorKind, Result, SqlCipherConnector};

async fn empty() -> Result<AsyncDatabase> {
    AsyncDatabase::builder(":memory:").open().await
}

fn list() -> Migrations<SqlCipherConnector> {
    Migrations::new().sql(1, "users", "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)").sql(
        2,
        "index",
        "CREATE UNIQUE INDEX by_name ON users (name)",
    )
}

#[tokio::test]
async fn rows_of_the_time_show_a_migration_that_only_applies_to_an_empty_table() {
    MigrationCheck::new(&list()).run(async || empty().await).await.unwrap();
    let twice = "INSERT INTO users (name) VALUES ('alice'), ('alice')";
    let error = MigrationCheck::new(&list()).rows_after(1, twice).run(async || empty().await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Constraint, "{error}");
    assert!(error.to_string().contains("migration 2 (index)"), "{error}");
    let nowhere = MigrationCheck::new(&list()).rows_after(5, twice).run(async || empty().await).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Config, "{nowhere}");
}

#[tokio::test]
async fn a_schema_that_is_not_the_recorded_one_is_told_with_the_place() {
    let recorded = MigrationCheck::new(&list()).run(async || empty().await).await.unwrap();
    assert!(recorded.contains("CREATE TABLE users") && !recorded.contains("strongroom_migrations"), "{recorded}");
    MigrationCheck::new(&list()).schema(&*recorded).run(async || empty().await).await.unwrap();
    let more = list().sql(3, "city", "ALTER TABLE users ADD COLUMN city TEXT");
    let error = MigrationCheck::new(&more).schema(recorded).run(async || empty().await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Migration, "{error}");
    assert!(error.to_string().contains("city"), "{error}");
}

#[tokio::test]
async fn a_schema_that_depends_on_rows_is_told() {
    let depends = list().code(3, "depends", async |tx| {
        let rows: Option<i64> = tx.fetch_value("SELECT count(*) FROM users", ()).await?;
        tx.execute_script(if rows == Some(0) { "CREATE TABLE none (a)" } else { "CREATE TABLE some (a)" }).await
    });
    let rows = "INSERT INTO users (name) VALUES ('alice')";
    let error = MigrationCheck::new(&depends).rows_after(1, rows).run(async || empty().await).await.unwrap_err();
    assert!(error.to_string().contains("the schema depends on the rows"), "{error}");
    let db = empty().await.unwrap();
    assert_eq!(schema_of(&db).await.unwrap(), "");
}
