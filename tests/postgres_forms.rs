//! The forms of docs/values.md on PostgreSQL: times, UUIDs, JSON, lists, structs as parameters, decimals.
#![cfg(all(
    feature = "postgres",
    feature = "chrono",
    feature = "jiff",
    feature = "uuid",
    feature = "json",
    target_os = "linux"
))]

#[path = "common/postgres.rs"]
mod common;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use common::{run_sql, script, server};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strongroom::{Json, list, named};
use uuid::Uuid;

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Everything {
    id: i64,
    key: Uuid,
    at: DateTime<Utc>,
    stamp: Timestamp,
    local: NaiveDateTime,
    day: NaiveDate,
    clock: NaiveTime,
    tags: Json<Vec<String>>,
    note: Option<String>,
    bytes: Vec<u8>,
    not_there: bool,
}

fn everything() -> Everything {
    let at = DateTime::from_timestamp(1_767_323_045, 250_000_000).unwrap();
    Everything {
        id: 1,
        key: Uuid::from_u128(0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8),
        at,
        stamp: Timestamp::new(-1, 0).unwrap(),
        local: at.naive_utc(),
        day: at.date_naive(),
        clock: at.time(),
        tags: Json(vec!["a".into()]),
        note: None,
        bytes: vec![1, 2],
        not_there: true,
    }
}

#[tokio::test]
async fn every_form_goes_there_and_back() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(
        &mut connection,
        "SET TIME ZONE 'America/New_York'; CREATE TABLE t (id bigint, key uuid, at timestamptz, stamp timestamptz, \
         local timestamp, day date, clock time, tags jsonb, note text, bytes bytea)",
    )
    .await;
    let insert = "INSERT INTO t VALUES (:id, :key, :at, @stamp, :local, :day, :clock, :tags, :note, :bytes)";
    run_sql(&mut connection, insert, named(everything())).await.unwrap();
    let rows = run_sql(&mut connection, "SELECT *, true AS not_there FROM t", ()).await.unwrap();
    assert_eq!(rows.decode::<Everything>().unwrap(), [everything()]);
    let row = rows.first().unwrap();
    assert_eq!(row.get::<Uuid>("key").unwrap(), everything().key);
    assert_eq!(row.get::<DateTime<Utc>>("at").unwrap(), everything().at);
    assert_eq!(row.get::<Timestamp>("stamp").unwrap(), everything().stamp);
    assert_eq!(row.get::<NaiveDateTime>("local").unwrap(), everything().local);
    assert_eq!(row.get::<NaiveTime>("clock").unwrap(), everything().clock);
    assert_eq!(row.get::<serde_json::Value>("tags").unwrap(), serde_json::json!(["a"]));
    let sql = "SELECT count(*) FROM t WHERE at >= $1 AND at < $2";
    let (from, to) = (everything().at, everything().at + chrono::TimeDelta::milliseconds(1));
    assert_eq!(run_sql(&mut connection, sql, (from, to)).await.unwrap().first().unwrap().get::<i64>(0).unwrap(), 1);
}

#[tokio::test]
async fn a_list_binds_behind_in_whether_prepared_or_not() {
    let Some(server) = server() else { return };
    for cache in [0, 100] {
        let connector = server.connector().statement_cache(cache);
        let db = strongroom::AsyncDatabase::with_connector(connector).open().await.unwrap();
        let ids = async |clause: &str, value| {
            let sql = format!(
                "SELECT id FROM (VALUES (1, 'a'), (2, 'b,\"}}\n'), (3, NULL)) t (id, name) WHERE {clause} ORDER BY id"
            );
            db.fetch_all_as::<i64>(&sql, (value,)).await.unwrap()
        };
        assert_eq!(ids("id IN $1", list([1, 3, 9])).await, [1, 3]);
        assert_eq!(ids("id NOT IN $1", list([1, 3])).await, [2]);
        assert_eq!(ids("name IN ?1", list(["b,\"}\n", "NULL", "{a}"])).await, [2]);
        assert_eq!(ids("id IN $1", list(Vec::<i64>::new())).await, Vec::<i64>::new());
        assert_eq!(ids("id NOT IN $1", list(Vec::<i64>::new())).await, [1, 2, 3]);
        assert_eq!(ids("position('a' in $1) > 0 AND id = 1", Ok(strongroom::Value::Text("xa".into()))).await, [1]);
        if cache > 0 {
            db.execute_script("DROP TABLE IF EXISTS arrays; CREATE TABLE arrays (id bigint, tags text[])")
                .await
                .unwrap();
            let rows = [(1, list(["a", "b c"])), (2, list(Vec::<&str>::new()))];
            assert_eq!(db.execute_many("INSERT INTO arrays VALUES ($1, $2)", rows).await.unwrap().rows_affected, 2);
            let sets = [(5, list([1, 7])), (6, list([2]))];
            assert_eq!(
                db.execute_many("UPDATE arrays SET id = $1 WHERE id IN $2", sets).await.unwrap().rows_affected,
                2
            );
            let found: Vec<(i64, String)> =
                db.fetch_all_as("SELECT id, tags FROM arrays ORDER BY id", ()).await.unwrap();
            assert_eq!(found, [(5, "{a,\"b c\"}".into()), (6, "{}".into())]);
        }
        let error = db.fetch_all("SELECT 1 WHERE 1 IN $1", (1,)).await.unwrap_err();
        assert!(error.to_string().contains("strongroom::list"), "{error}");
        db.close().await.unwrap();
    }
}

#[cfg(feature = "rust_decimal")]
#[tokio::test]
async fn decimals_are_numeric() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    let amount: rust_decimal::Decimal = "1234567890123456789.10".parse().unwrap();
    let sql = "SELECT cast($1 as numeric), cast($1 as numeric) IN $2";
    let rows = run_sql(&mut connection, sql, (amount, list([amount]))).await.unwrap();
    let row = rows.first().unwrap();
    assert_eq!((row.get::<rust_decimal::Decimal>(0).unwrap(), row.get::<bool>(1).unwrap()), (amount, true));
}
