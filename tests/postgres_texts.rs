//! What stands in a text of SQL and is no part of a statement, or looks like something else, on PostgreSQL.
#![cfg(all(feature = "postgres", target_os = "linux"))]

mod common;
#[path = "common/postgres.rs"]
mod servers;

use futures_util::TryStreamExt as _;
use servers::server;
use strongroom::{AsyncDatabase, named};

/// As Windows' editors put it in front of a file, which `include_str!` then has.
#[tokio::test]
async fn a_byte_order_mark_in_front_of_a_text_is_no_part_of_it() {
    let Some(server) = server() else { return };
    for cache in [32, 0] {
        let connector = server.connector().statement_cache(cache);
        let db = AsyncDatabase::with_connector(connector).open().await.unwrap();
        db.execute_script("\u{feff}DROP TABLE IF EXISTS marked; CREATE TABLE marked (id BIGINT, name TEXT)")
            .await
            .unwrap();
        db.execute("\u{feff}INSERT INTO marked VALUES ($1, $2)", (1, "a")).await.unwrap();
        db.execute_many("\u{feff}INSERT INTO marked (id, name) VALUES ($1, $2)", [(2, "b"), (3, "c")]).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        tx.execute_script("\u{feff}INSERT INTO marked VALUES (4, 'd')").await.unwrap();
        tx.commit().await.unwrap();
        let rows: Vec<_> = db.fetch_stream("\u{feff}SELECT id FROM marked", ()).try_collect().await.unwrap();
        assert_eq!(rows.len(), 4, "cache of {cache}");
        let mut reader = db.read_connection().await.unwrap();
        let count =
            reader.fetch_value::<i64>("\u{feff}SELECT count(*) FROM marked WHERE id > :id", named![id: 1]).await;
        assert_eq!(count.unwrap(), Some(3), "cache of {cache}");
    }
}

#[tokio::test]
async fn the_bounds_of_a_slice_may_be_names_and_placeholders() {
    let Some(server) = server() else { return };
    let db = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    let from = "FROM (VALUES (ARRAY[1, 2, 3, 4], 2, 3)) AS t (a, i, j)";
    for bounds in ["i:j", "i: j", "\"i\":j", "(i):j", "i : j::int", "2:j", "t.i:t.j"] {
        let sql = format!("SELECT CAST(a[{bounds}] AS text) {from}");
        assert_eq!(db.fetch_value::<String>(&sql, ()).await.unwrap().as_deref(), Some("{2,3}"), "{sql}");
    }
    let sql = format!("SELECT CAST(a[:low : :high] AS text) {from}");
    assert_eq!(db.fetch_value::<String>(&sql, named![low: 1, high: 2]).await.unwrap().as_deref(), Some("{1,2}"));
    let sql = "SELECT CAST(ARRAY[:one+0,:two+0] AS text) || CAST(:one AS int)";
    assert_eq!(db.fetch_value::<String>(sql, named![one: 1, two: 2]).await.unwrap().as_deref(), Some("{1,2}1"));
}
