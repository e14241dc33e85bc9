//! How large a database on a server is, and its tables.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use common::server;
use strongroom::{AsyncDatabase, ErrorKind};

#[tokio::test]
async fn the_server_tells_sizes_and_does_the_rest_by_itself() {
    let Some(server) = server() else { return };
    let db = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    let before = db.sizes().await.unwrap();
    // Some small files of the server are no pages.
    assert_eq!((before.page_size, before.pages), (8192, before.file_bytes / 8192));
    db.execute_script(
        "CREATE SCHEMA shop; CREATE TABLE shop.\"Odd name\" (id int PRIMARY KEY, text text);
         INSERT INTO shop.\"Odd name\" SELECT n, repeat('x', 500) FROM generate_series(1, 5000) AS n;
         CREATE TABLE little (n int); CREATE MATERIALIZED VIEW kept AS SELECT n FROM generate_series(1, 5000) AS n;
         CREATE TABLE parts (n int) PARTITION BY RANGE (n); CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (9);
         CREATE VIEW seen AS SELECT 1",
    )
    .await
    .unwrap();
    let after = db.sizes().await.unwrap();
    let tables = db.table_sizes().await.unwrap();
    let names: Vec<_> = tables.iter().map(|table| &*table.name).collect();
    assert_eq!(names, ["shop.Odd name", "kept", "little", "low"], "the largest first, then by name");
    let large = &tables[0];
    assert!(large.bytes > 2_500_000 && large.index_bytes > 0 && large.index_bytes < large.bytes / 4, "{large:?}");
    assert!(after.file_bytes - before.file_bytes >= large.bytes, "{before:?}, {after:?}");
    assert_eq!((tables[2].bytes, tables[3].bytes), (0, 0));
    for error in [db.checkpoint().await.unwrap_err(), db.vacuum().await.unwrap_err(), db.optimize().await.unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("its server does that by itself"), "{error}");
    }
}
