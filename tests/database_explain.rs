//! How a statement runs, and which ones look at every row.

#![cfg(all(feature = "sqlcipher", feature = "testing"))]

mod common;

use common::memory;
use strongroom::testing::assert_no_full_scan;
use strongroom::{AsyncDatabase, ErrorKind};

async fn with_schema() -> AsyncDatabase {
    let db = memory().await;
    db.execute_script(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, mail TEXT UNIQUE);
         CREATE TABLE posts (id INTEGER PRIMARY KEY, user INTEGER);
         CREATE TABLE words (word TEXT PRIMARY KEY) WITHOUT ROWID;
         CREATE VIRTUAL TABLE notes USING fts5 (body)",
    )
    .await
    .unwrap();
    db
}

#[tokio::test]
async fn what_looks_at_every_row_is_told_from_what_uses_an_index() {
    let db = with_schema().await;
    let scans = [
        ("SELECT * FROM users", 1),
        ("SELECT * FROM users WHERE name = 'x'", 1),
        ("SELECT mail FROM users ORDER BY mail", 1),
        ("SELECT * FROM users WHERE mail = 'x'", 0),
        ("SELECT * FROM users WHERE id = 1", 0),
        ("SELECT 1", 0),
        ("SELECT * FROM words WHERE word = 'x'", 0),
        ("SELECT count(*) FROM posts JOIN users ON users.id = posts.user", 1),
        ("SELECT * FROM notes WHERE body MATCH 'x'", 0),
        ("SELECT * FROM notes", 1),
        ("UPDATE users SET name = 'x' WHERE mail = 'y'", 0),
        ("DELETE FROM posts WHERE user = 1", 1),
        ("SELECT * FROM users WHERE id IN (SELECT user FROM posts)", 1),
    ];
    for (sql, count) in scans {
        let plan = db.explain(sql, ()).await.unwrap();
        assert_eq!(plan.full_scans().count(), count, "{sql}:\n{plan}");
    }
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM posts", ()).await.unwrap(), Some(0));
}

#[tokio::test]
async fn a_plan_is_printed_as_a_tree() {
    let db = with_schema().await;
    let sql = "SELECT * FROM users WHERE id IN (SELECT user FROM posts WHERE id > $1) ORDER BY name";
    let plan = db.explain(sql, (1,)).await.unwrap().to_string();
    let lines: Vec<_> = plan.lines().collect();
    assert_eq!(lines[0], "SEARCH users USING INTEGER PRIMARY KEY (rowid=?)", "{plan}");
    assert!(lines.iter().any(|line| line.starts_with("  SEARCH posts")), "{plan}");
    assert!(lines.contains(&"USE TEMP B-TREE FOR ORDER BY"), "{plan}");
}

#[tokio::test]
async fn what_stands_in_the_statement_itself_is_no_table() {
    let db = with_schema().await;
    for (sql, params) in [
        ("SELECT * FROM users WHERE id IN $1", strongroom::params![strongroom::list([1, 2])]),
        ("SELECT u.* FROM json_each($1) e JOIN users u ON u.id = e.value", strongroom::params!["[1]"]),
        ("SELECT * FROM json_tree($1)", strongroom::params!["[1]"]),
        ("INSERT INTO posts (user) VALUES (1), (2), (3)", Ok(strongroom::values::Params::default())),
        ("SELECT * FROM (VALUES (1), (2))", Ok(strongroom::values::Params::default())),
        ("SELECT 1", Ok(strongroom::values::Params::default())),
    ] {
        assert_no_full_scan(&db.explain(sql, params).await.unwrap());
    }
    db.execute_script("CREATE TABLE \"2 CONSTANTS\" (a); CREATE TABLE json_eaches (a)").await.unwrap();
    for table in ["\"2 CONSTANTS\"", "json_eaches"] {
        let plan = db.explain(&format!("SELECT * FROM {table}"), ()).await.unwrap();
        assert_eq!(plan.full_scans().count(), 1, "{plan}");
    }
}

#[tokio::test]
#[should_panic(expected = "looks at every row: SCAN users")]
async fn the_assertion_shows_the_scan() {
    assert_no_full_scan(&with_schema().await.explain("SELECT name FROM users", ()).await.unwrap());
}

#[tokio::test]
async fn what_cannot_be_explained_says_why() {
    let db = with_schema().await;
    assert_eq!(db.explain("SELECT * FROM missing", ()).await.unwrap_err().kind(), ErrorKind::Query);
    assert_eq!(db.explain("SELECT $1", ()).await.unwrap_err().kind(), ErrorKind::Query);
    assert_no_full_scan(&db.explain("SELECT name FROM users WHERE id = $1", (1,)).await.unwrap());
}
