//! `fetch_one` and its like: a statement that reads stops after its first row.
#![cfg(all(feature = "postgres", target_os = "linux"))]
#![allow(clippy::large_futures, reason = "a test may have a large stack")]

#[path = "common/postgres.rs"]
mod common;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::server;
use strongroom::postgres::PostgresConnector;
use strongroom::{AsyncDatabase, ErrorKind, list};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ENDLESS: &str = "WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n % 1000000 + 1 FROM t)";

async fn soon<T>(what: impl Future<Output = strongroom::Result<T>>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what).await.expect("it ends").expect("it succeeds")
}

async fn open(connector: PostgresConnector) -> AsyncDatabase<PostgresConnector> {
    AsyncDatabase::with_connector(connector).pool_max(1).open().await.expect("a database")
}

#[tokio::test]
async fn a_read_without_end_stops_after_its_first_row() {
    let Some(server) = server() else { return };
    for cached in [256, 0] {
        let db = open(server.connector().statement_cache(cached)).await;
        for sql in [
            "SELECT generate_series(1, 1000000000)".to_owned(),
            format!("{ENDLESS} SELECT n FROM t"),
            // Its rows would not fill the buffer in which the server gathers them.
            format!("{ENDLESS} SELECT n FROM t WHERE n < 2"),
            format!("{ENDLESS} TABLE t"),
            "VALUES (1), (2), (3)".to_owned(),
        ] {
            assert_eq!(soon(db.fetch_one(&sql, ())).await.unwrap().get::<i64>(0).unwrap(), 1, "{sql}");
            assert_eq!(soon(db.fetch_value::<i64>(&sql, ())).await, Some(1), "{sql}");
            assert_eq!(soon(db.fetch_one_as::<(i64,)>(&sql, ())).await, Some((1,)), "{sql}");
            let mut tx = db.begin().await.unwrap();
            assert_eq!(soon(tx.fetch_value::<i64>(&sql, ())).await, Some(1), "{sql}");
            assert_eq!(soon(tx.fetch_value::<i64>("SELECT 2", ())).await, Some(2));
            tx.commit().await.unwrap();
            let mut connection = db.connection().await.unwrap();
            assert_eq!(soon(connection.fetch_value::<i64>(&sql, ())).await, Some(1), "{sql}");
        }
        assert!(db.fetch_one("SELECT 1 WHERE false", ()).await.unwrap().is_none());
        assert_eq!(db.stats().total_connections, 1, "no connection was given up");
    }
}

#[tokio::test]
async fn a_statement_that_writes_runs_to_its_end() {
    let Some(server) = server() else { return };
    for cached in [256, 0] {
        let db = open(server.connector().statement_cache(cached)).await;
        db.execute_script("DROP TABLE IF EXISTS t; CREATE TABLE t (a bigint)").await.unwrap();
        for (number, sql) in [
            "INSERT INTO t SELECT generate_series(1, 10) RETURNING a",
            "WITH made AS (INSERT INTO t SELECT generate_series(1, 10) RETURNING a) SELECT a FROM made",
            "INSERT INTO t SELECT generate_series(1, 10) RETURNING a -- SELECT",
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(db.fetch_value::<i64>(sql, ()).await.unwrap(), Some(1));
            let count = 10 * (i64::try_from(number).unwrap() + 1);
            assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(count), "{sql}");
        }
    }
}

#[tokio::test]
async fn the_limit_holds_for_that_statement_and_for_no_other() {
    let Some(server) = server() else { return };
    for cached in [256, 0] {
        let db = open(server.connector().statement_cache(cached)).await;
        db.execute_script("DROP TABLE IF EXISTS t; CREATE TABLE t (a bigint, b text)").await.unwrap();
        db.execute("INSERT INTO t SELECT generate_series(1, 1000), 'x'", ()).await.unwrap();
        let all = "SELECT a FROM t WHERE a > $1";
        for _ in 0..2 {
            assert_eq!(soon(db.fetch_value::<i64>(all, (0,))).await, Some(1));
            assert_eq!(db.fetch_all(all, (0,)).await.unwrap().len(), 1000);
        }
        // Refused before it is sent, refused by the server, failed half-way, and dropped.
        assert!(db.fetch_one(all, (list(["a"]),)).await.is_err());
        assert_eq!(db.fetch_all(all, (0,)).await.unwrap().len(), 1000);
        assert_eq!(db.fetch_one("SELECT 1 / 0", ()).await.unwrap_err().kind(), ErrorKind::Query);
        assert_eq!(db.fetch_all(all, (0,)).await.unwrap().len(), 1000);
        let slow = db.fetch_one("SELECT pg_sleep(60)", ());
        assert!(tokio::time::timeout(Duration::from_millis(50), slow).await.is_err());
        assert_eq!(db.fetch_all(all, (0,)).await.unwrap().len(), 1000);

        // What stopped half-way holds nothing that the transaction needs.
        let mut tx = db.begin().await.unwrap();
        assert_eq!(soon(tx.fetch_value::<i64>(all, (0,))).await, Some(1));
        tx.execute("ALTER TABLE t ADD COLUMN c int", ()).await.unwrap();
        assert_eq!(soon(tx.fetch_value::<i64>("SELECT a FROM t", ())).await, Some(1));
        tx.execute_script("ALTER TABLE t DROP COLUMN c").await.unwrap();
        assert_eq!(soon(tx.fetch_value::<i64>("SELECT a FROM t", ())).await, Some(1));
        let sets = (1..100).map(|a| (a, "y"));
        tx.execute_many("INSERT INTO t VALUES ($1, $2)", sets).await.unwrap();
        assert_eq!(soon(tx.fetch_value::<i64>("SELECT a FROM t", ())).await, Some(1));
        tx.execute("DROP TABLE t", ()).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// Passes everything on to the server at `port`, and keeps what it was sent.
async fn listening_in(port: u16) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (own, heard) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<u8>>>::default());
    let keeps = Arc::clone(&heard);
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (mut from, mut back) = client.into_split();
        let (mut answers, mut to) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
        tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            keeps.lock().unwrap().extend_from_slice(&piece[..length]);
            to.write_all(&piece[..length]).await.unwrap();
        }
    });
    (own, heard)
}

#[tokio::test]
async fn the_first_row_costs_one_round_trip_and_no_message_more_than_all_rows() {
    let Some(server) = server() else { return };
    let (port, heard) = listening_in(server.port).await;
    let connector = PostgresConnector::new("127.0.0.1", port)
        .user("app")
        .database("postgres")
        .key(strongroom::PassphraseKeySource::new(common::PASSWORD))
        .tls(strongroom::postgres::Tls::off());
    let db = open(connector).await;
    let sql = "SELECT n FROM generate_series(1, $1) AS s (n)";
    db.fetch_value::<i64>(sql, (5,)).await.unwrap();
    // Each message: its letter, its length, and the rest; of Execute, that ends with the number of rows.
    let messages = |bytes: Vec<u8>| {
        let (mut rest, mut found) = (bytes.as_slice(), Vec::new());
        while let [letter, a, b, c, d, tail @ ..] = rest {
            let (body, next) = tail.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4);
            found.push((char::from(*letter), body.last().copied()));
            rest = next;
        }
        found
    };
    for (first, rows) in [(true, 1), (false, 0)] {
        heard.lock().unwrap().clear();
        if first {
            db.fetch_value::<i64>(sql, (5,)).await.unwrap();
        } else {
            db.fetch_all(sql, (5,)).await.unwrap();
        }
        let sent = messages(std::mem::take(&mut *heard.lock().unwrap()));
        let letters: String = sent.iter().map(|(letter, _)| *letter).collect();
        assert_eq!((letters.as_str(), sent[1].1), ("BES", Some(rows)), "{sent:?}");
    }
}
