//! Lists and UUIDs as parameters of PostgreSQL.
#![cfg(all(feature = "postgres", target_os = "linux"))]
#![allow(clippy::large_futures, reason = "a test may have a large stack")]

#[path = "common/postgres.rs"]
mod common;

use common::{Server, server};
use futures_util::TryStreamExt;
use strongroom::postgres::PostgresConnector;
use strongroom::{AsyncDatabase, ErrorKind, Reason, list};

async fn open(server: &Server, cached: usize) -> AsyncDatabase<PostgresConnector> {
    let connector = server.connector().statement_cache(cached);
    let db = AsyncDatabase::with_connector(connector).pool_max(1).open().await.unwrap();
    db.execute_script(
        "DROP TABLE IF EXISTS t; CREATE TABLE t (id bigint, name text);
         INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, '[1]')",
    )
    .await
    .unwrap();
    db
}

#[tokio::test]
async fn lists_bind_in_every_call_with_and_without_a_statement_cache() {
    let Some(server) = server() else { return };
    for cached in [256, 0] {
        let db = open(&server, cached).await;
        let sql = "SELECT id FROM t WHERE id IN $1 ORDER BY id";
        assert_eq!(db.fetch_all_as::<i64>(sql, (list([1, 3]),)).await.unwrap(), [1, 3]);
        assert_eq!(db.fetch_value::<i64>(sql, (list([2, 3]),)).await.unwrap(), Some(2));
        let streamed: Vec<i64> =
            db.fetch_stream(sql, (list([2, 3]),)).and_then(async |row| row.get::<i64>(0)).try_collect().await.unwrap();
        assert_eq!(streamed, [2, 3]);
        let sets = [("x", list([1, 2])), ("y", list([2, 3]))];
        let update = "UPDATE t SET name = $1 WHERE id IN $2";
        assert_eq!(db.execute_many(update, sets).await.unwrap().rows_affected, 4);
        let mut tx = db.begin().await.unwrap();
        assert_eq!(tx.execute(update, ("z", list([1, 9]))).await.unwrap().rows_affected, 1);
        let sets = [("x", list([1, 2])), ("y", list(Vec::<i64>::new()))];
        assert_eq!(tx.execute_many(update, sets).await.unwrap().rows_affected, 2);
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_list_between_parentheses_is_refused_with_the_way_out() {
    let Some(server) = server() else { return };
    for cached in [256, 0] {
        let db = open(&server, cached).await;
        for clause in ["name IN ($1)", "id NOT IN ($1)", "name IN ('b', $1)", "name IN (VALUES ($1))"] {
            let error =
                db.fetch_all(&format!("SELECT id FROM t WHERE {clause}"), (list([1]),)).await.expect_err(clause);
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Query, Reason::Parameters), "{clause}");
            assert!(error.to_string().contains("write IN $1, without parentheses"), "{error}");
        }
        let ids: Vec<i64> = db.fetch_all_as("SELECT id FROM t WHERE name IN ($1)", ("[1]",)).await.unwrap();
        assert_eq!(ids, [3], "a text is a text");
        let at: i64 = db.fetch_value("SELECT position(('b') IN $1)", ("ab",)).await.unwrap().unwrap();
        assert_eq!(at, 2);
    }
    let db = open(&server, 256).await;
    let error = db.fetch_all("SELECT id FROM t WHERE id = $1", (list([1]),)).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Query, Reason::Type));
    assert!(error.to_string().contains("write IN $1 or = ANY($1)"), "{error}");
}

#[tokio::test]
async fn a_list_is_no_reason_to_prepare_a_statement_anew() {
    let Some(server) = server() else { return };
    let db = open(&server, 256).await;
    let (names, numbers) = ("SELECT id FROM t WHERE name IN $1", "SELECT id FROM t WHERE id IN $1");
    let prepared = async || {
        let sql =
            "SELECT string_agg(name, ',' ORDER BY name) FROM pg_prepared_statements WHERE statement LIKE '%ANY(%'";
        db.fetch_value::<String>(sql, ()).await.unwrap()
    };
    let mut before = None;
    for _ in 0..3 {
        assert_eq!(db.fetch_all_as::<i64>(names, (list(["a", "é\"}"]),)).await.unwrap(), [1]);
        assert_eq!(db.fetch_all_as::<i64>(numbers, (list([-1, 3]),)).await.unwrap(), [3]);
        let now = prepared().await;
        assert!(now.as_ref().is_some_and(|names| names.split(',').count() >= 2), "{now:?}");
        assert_eq!(before.get_or_insert_with(|| now.clone()), &now);
    }
}

#[tokio::test]
async fn a_uuid_column_takes_sixteen_bytes() {
    let Some(server) = server() else { return };
    let db = open(&server, 256).await;
    db.execute_script("CREATE TABLE ids (id uuid, n bigint)").await.unwrap();
    let id = |number: u8| [[0x55; 15].as_slice(), &[number]].concat();
    assert_eq!(db.execute("INSERT INTO ids VALUES ($1, $2)", (id(0), 0)).await.unwrap().rows_affected, 1);
    let sets = (1..=50).map(|number| (id(number), i64::from(number)));
    assert_eq!(db.execute_many("INSERT INTO ids VALUES ($1, $2)", sets).await.unwrap().rows_affected, 50);
    let found: Option<i64> = db.fetch_value("SELECT n FROM ids WHERE id = $1", (id(7),)).await.unwrap();
    assert_eq!(found, Some(7));
    let text: Option<String> = db.fetch_value("SELECT id FROM ids WHERE n = 10", ()).await.unwrap();
    assert_eq!(text.as_deref(), Some("55555555-5555-5555-5555-55555555550a"));
    for wrong in [vec![1; 15], vec![1; 17], Vec::new()] {
        let error = db.execute("INSERT INTO ids VALUES ($1, 0)", (wrong,)).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Query, Reason::Type), "{error}");
    }
}
