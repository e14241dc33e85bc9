//! Plans of PostgreSQL: asked for without running the statement, and read as a tree.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use common::{Server, server};
use strongroom::database::QueryPlan;
use strongroom::postgres::PostgresConnector;
use strongroom::{AsyncDatabase, ErrorKind};

async fn with_schema(server: &Server) -> AsyncDatabase<PostgresConnector> {
    let db = AsyncDatabase::with_connector(server.connector()).pool_max(2).open().await.unwrap();
    db.execute_script(
        "CREATE TABLE users (id bigint PRIMARY KEY, name text);
         CREATE TABLE posts (id bigint PRIMARY KEY, author bigint, body text);
         INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 5000) n;
         INSERT INTO posts SELECT n, n, 'post' FROM generate_series(1, 500) n;
         ANALYZE users, posts",
    )
    .await
    .unwrap();
    db
}

/// The depth of the one step that begins so.
fn depth(plan: &QueryPlan, begins: &str) -> usize {
    let found: Vec<_> = plan.steps.iter().filter(|step| step.detail.starts_with(begins)).collect();
    assert_eq!(found.len(), 1, "{begins}:\n{plan}");
    found[0].depth
}

#[tokio::test]
async fn a_plan_tells_scans_from_indexes_and_runs_nothing() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    let scans = [
        ("SELECT * FROM users WHERE name = 'x'", 1),
        ("SELECT name FROM users WHERE id = 7", 0),
        ("SELECT count(*) FROM users JOIN posts ON posts.body = users.name", 2),
        ("DELETE FROM posts WHERE author = 1", 1),
        ("UPDATE users SET name = 'x' WHERE id = 7", 0),
        ("SELECT 1", 0),
    ];
    for (sql, count) in scans {
        let plan = db.explain(sql, ()).await.unwrap();
        assert_eq!(plan.full_scans().count(), count, "{sql}:\n{plan}");
    }
    // The value decides, and has to fit.
    let sql = "SELECT name FROM users WHERE id > $1";
    assert_eq!(db.explain(sql, (0,)).await.unwrap().full_scans().count(), 1);
    assert_eq!(db.explain(sql, (4999,)).await.unwrap().full_scans().count(), 0);
    assert_eq!(db.explain(sql, ()).await.unwrap_err().kind(), ErrorKind::Query);
    assert_eq!(db.explain("SELECT * FROM nowhere", ()).await.unwrap_err().kind(), ErrorKind::Query);
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM posts", ()).await.unwrap(), Some(500), "nothing ran");
    db.close().await.unwrap();
}

#[tokio::test]
async fn each_step_of_a_plan_stands_below_the_one_that_it_is_a_part_of() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    let sql = "SELECT id, (SELECT max(posts.id) FROM posts WHERE posts.author = users.id)
               FROM users WHERE name <> $1 ORDER BY name LIMIT 5";
    let plan = db.explain(sql, ("x",)).await.unwrap();
    let (limit, result, sort) = (depth(&plan, "Limit"), depth(&plan, "Result"), depth(&plan, "Sort  "));
    assert!(limit == 0 && result == 1 && sort > result, "{plan}");
    assert!(depth(&plan, "Seq Scan on users") > sort, "{plan}");
    let subplan = depth(&plan, "SubPlan 1");
    assert!(subplan > result, "{plan}");
    let (aggregate, posts) = (depth(&plan, "Aggregate"), depth(&plan, "Seq Scan on posts"));
    assert!(aggregate > subplan && posts > aggregate, "{plan}");
    assert_eq!(plan.full_scans().count(), 2);
    let printed = plan.to_string();
    assert!(printed.starts_with("Limit ") && printed.contains("\n  Result "), "{printed}");
    assert!(!printed.contains("->"), "{printed}");
    db.close().await.unwrap();
}
