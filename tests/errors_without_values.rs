//! What was bound does not stand in errors, whatever SQLite says.
#![cfg(feature = "sqlite")]

mod common;

use common::{Home, Kind, memory};
use strongroom::{AsyncDatabase, ErrorKind, Value};

const SECRET: &str = "s3cret-of-alice";

async fn with_words(db: &AsyncDatabase) {
    let schema = "CREATE VIRTUAL TABLE words USING fts5(w);
        CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT CHECK (name <> 'forbidden'), n INTEGER);
        CREATE TRIGGER speaking BEFORE INSERT ON t WHEN new.n = 4711 BEGIN
            SELECT RAISE(ABORT, 'no such number as 4711 here');
        END;
        CREATE TABLE strict (a INTEGER) STRICT";
    db.execute_script(schema).await.unwrap();
}

/// Statements that quote what is bound to them, and what is bound.
fn quoting() -> Vec<(&'static str, Vec<Value>)> {
    let text = |text: &str| vec![Value::Text(text.to_owned())];
    vec![
        ("SELECT json_extract('{}', $1)", text(SECRET)),
        ("SELECT json_extract('{}', $1)", text("$.a.s3cret-of-alice[")),
        ("SELECT json_extract('{}', $1)", text("it's s3cret-of-alice")),
        ("SELECT json_set('{}', $1, 1)", text("$[s3cret-of-alice")),
        ("SELECT '{}' -> ('$.' || $1)", text("[s3cret-of-alice")),
        ("SELECT json($1)", text(SECRET)),
        ("SELECT * FROM json_each('[]', $1)", text("s3cret-of-alice")),
        ("SELECT * FROM words WHERE words MATCH $1", text("s3cret-of-alice")),
        ("SELECT * FROM words WHERE words MATCH $1", text("alice:1")),
        ("SELECT * FROM words WHERE words MATCH $1", text("\"alice")),
        ("SELECT * FROM words WHERE words MATCH $1", text("w : (alice AND")),
        ("SELECT * FROM words WHERE words MATCH 'a' AND rank MATCH $1", text("alice(1)")),
        ("INSERT INTO words (words) VALUES ($1)", text(SECRET)),
        ("INSERT INTO words (words, rank) VALUES ('pgsz', $1)", text(SECRET)),
        ("INSERT INTO strict VALUES ($1)", text(SECRET)),
        ("INSERT INTO t (id) VALUES ($1)", text(SECRET)),
        ("INSERT INTO t (n) VALUES ($1)", vec![Value::Integer(4711)]),
        ("SELECT * FROM pragma_integrity_check($1)", text("alice")),
        ("SELECT json_extract('{}', $1)", vec![Value::Blob(SECRET.into())]),
    ]
}

#[tokio::test]
async fn no_function_puts_what_was_bound_into_an_error() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    with_words(&db).await;
    let mut failed = 0;
    for (sql, values) in quoting() {
        let alone = db.fetch_all(sql, values.clone()).await.err();
        let mut conn = db.connection().await.unwrap();
        let errors = [
            alone,
            conn.execute(sql, values.clone()).await.err(),
            conn.execute_many(sql, [values.clone()]).await.err(),
        ];
        for error in errors.into_iter().flatten() {
            failed += 1;
            for said in [error.to_string(), format!("{error:?}"), format!("{error:#}")] {
                for secret in ["s3cret", "alice", "4711"] {
                    assert!(!said.contains(secret), "{sql}: {said}");
                }
            }
        }
    }
    assert!(failed > 30, "only {failed} failed");
}

#[tokio::test]
async fn what_an_error_says_of_the_schema_stays() {
    let db = memory().await;
    with_words(&db).await;
    db.execute("INSERT INTO t (id, name) VALUES (1, 'name')", ()).await.unwrap();
    let check = db.execute("INSERT INTO t (name) VALUES ($1)", ("forbidden",)).await.unwrap_err();
    assert!(check.to_string().contains("CHECK constraint failed: name <> 'forbidden'"), "{check}");
    let unique = db.execute("INSERT INTO t (id, name) VALUES ($1, $2)", (1, "id")).await.unwrap_err();
    assert!(unique.to_string().contains("UNIQUE constraint failed: t.id"), "{unique}");
    let path = db.fetch_all("SELECT json_extract('{}', $1)", ("nowhere",)).await.unwrap_err();
    assert!(path.to_string().contains("bad JSON path: '$1'"), "{path}");
    let raised = db.execute("INSERT INTO t (id, n) VALUES ($1, $2)", (7, 4711)).await.unwrap_err();
    assert_eq!(raised.kind(), ErrorKind::Constraint);
    assert!(raised.to_string().contains("no such number as $2 here"), "{raised}");
    let tokens = db.fetch_all("SELECT * FROM words WHERE words MATCH $1", ("a AND",)).await.unwrap_err();
    assert!(tokens.to_string().contains("fts5: syntax error near \"\""), "{tokens}");
}
