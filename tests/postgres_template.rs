//! PostgreSQL databases for tests: set up once, copied for each.

#![cfg(all(feature = "testing", feature = "postgres", target_os = "linux"))]
#![allow(clippy::large_futures, reason = "a test may have a large stack")]

#[path = "common/postgres.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Server, server};
use futures_util::future::try_join_all;
use strongroom::postgres::{PostgresConnector, PostgresTemplate};
use strongroom::{AsyncDatabase, Error, ErrorKind, Result};

const SCHEMA: &str = "CREATE TABLE t (n BIGINT); INSERT INTO t VALUES (1), (2)";

async fn template(server: &Server) -> Result<PostgresTemplate> {
    PostgresTemplate::new(server.connector(), async |db| db.execute_script(SCHEMA).await).await
}

async fn count(db: &AsyncDatabase<PostgresConnector>) -> Result<Option<i64>> {
    db.fetch_value("SELECT count(*) FROM t", ()).await
}

/// The databases for tests that the server has.
async fn made(server: &Server) -> Result<Vec<(String,)>> {
    let db = AsyncDatabase::with_connector(server.connector()).open().await?;
    let made = db
        .fetch_all_as("SELECT datname::text FROM pg_database WHERE datname LIKE 'strongroom%' ORDER BY 1", ())
        .await?;
    db.close().await?;
    Ok(made)
}

#[tokio::test]
async fn each_copy_has_what_was_set_up_and_nothing_of_the_others() -> Result<()> {
    let Some(server) = server() else { return Ok(()) };
    let template = template(&server).await?;
    let copies = try_join_all((0..2).map(|_| template.copy())).await?;
    for (at, copy) in (0..).zip(&copies) {
        copy.execute_many("INSERT INTO t VALUES ($1)", (0..at).map(|n| (n,))).await?;
    }
    for (at, copy) in (0..).zip(&copies) {
        assert_eq!(count(copy).await?, Some(2 + at));
    }
    assert_eq!(count(&*template.copy().await?).await?, Some(2), "the template is as it was");
    Ok(())
}

/// Until the server has so many databases for tests.
async fn becomes(server: &Server, count: usize) -> Result<()> {
    let patience = Instant::now() + Duration::from_secs(60);
    while made(server).await?.len() != count {
        assert!(Instant::now() < patience, "{:?}", made(server).await?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn what_was_made_is_removed_with_the_value_also_while_it_is_used() -> Result<()> {
    let Some(server) = server() else { return Ok(()) };
    let template = template(&server).await?;
    let (first, copy) = (template.copy().await?, template.copy().await?);
    first.remove().await?;
    assert_eq!(made(&server).await?.len(), 2, "the template and the second copy");
    let clone = AsyncDatabase::clone(&copy);
    let open = clone.begin().await?;
    drop(copy);
    becomes(&server, 1).await?;
    drop(open);
    assert!(count(&clone).await.is_err());
    drop(template);
    becomes(&server, 0).await
}

#[test]
fn a_template_outlives_the_runtime_that_made_it() -> Result<()> {
    let Some(server) = server() else { return Ok(()) };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let template = runtime().block_on(template(&server))?;
    let counted = runtime().block_on(async { count(&*template.copy().await?).await });
    assert_eq!(counted?, Some(2));
    drop(template);
    runtime().block_on(becomes(&server, 0))
}

#[tokio::test]
async fn what_a_process_left_is_removed_by_the_next_one_and_what_lives_is_not() -> Result<()> {
    let Some(server) = server() else { return Ok(()) };
    let living = template(&server).await?;
    let copy = living.copy().await?;
    let db = AsyncDatabase::with_connector(server.connector()).open().await?;
    let home: Option<i32> = db.fetch_value("SELECT hashtext(current_database())", ()).await?;
    let left = format!("strongroom_test_{:08x}_00000000000000aa", home.unwrap());
    // Another database's, whose locks are not seen from here.
    let foreign = "strongroom_test_00000001_00000000000000aa";
    for name in [&left, &format!("{left}_7"), foreign] {
        db.execute(&format!("CREATE DATABASE {name}"), ()).await?;
    }
    let second = template(&server).await?;
    let mut names: Vec<String> = made(&server).await?.into_iter().map(|(name,)| name).collect();
    names.retain(|name| !name.starts_with(copy.name().trim_end_matches("_0")));
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&foreign.to_owned()), "{names:?}");
    assert_eq!(count(&copy).await?, Some(2));
    db.close().await?;
    drop(second);
    Ok(())
}

#[tokio::test]
async fn a_set_up_that_fails_and_a_user_who_may_not_are_told_and_leave_nothing() -> Result<()> {
    let Some(server) = server() else { return Ok(()) };
    let failed =
        PostgresTemplate::new(server.connector(), async |_db| Err(Error::new(ErrorKind::Unsupported, "no such luck")));
    assert!(failed.await.unwrap_err().to_string().contains("no such luck"));
    let db = AsyncDatabase::with_connector(server.connector()).open().await?;
    db.execute("CREATE ROLE small LOGIN PASSWORD 'correct horse battery'", ()).await?;
    db.close().await?;
    let refused = PostgresTemplate::new(server.connector().user("small"), async |_db| Ok(())).await.unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("a database for a test") && said.contains("permission denied to create database"), "{said}");
    becomes(&server, 0).await
}
