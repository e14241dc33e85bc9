//! A trading bot outgrows its file: from SQLCipher to a PostgreSQL cluster, by changing the line that builds the database.
//!
//! ```sh
//! scripts/postgres-cluster start cluster
//! cargo run --example outgrow_one_machine --features postgres
//! ```
//!
//! `STRONGROOM_PORT` names the first node's port if it is not 55431.

use std::time::Instant;

use futures_util::TryStreamExt;
use strongroom::pool::ExponentialBackoff;
use strongroom::postgres::PostgresConnector;
use strongroom::postgres::Tls;
use strongroom::{AsyncDatabase, Connection, Connector, PassphraseKeySource, Result, Row, Value};

const TRADES: i64 = 50_000;
const COLUMNS: &str = "id, symbol, cents, buy, note";

/// The bot itself: it does not know which engine it runs on.
async fn trade<C>(db: &AsyncDatabase<C>, id: i64) -> Result<()>
where
    C: Connector<Connection: Connection>,
{
    db.transaction(async |tx| {
        let sql = "INSERT INTO trades (id, symbol, cents, buy, note) VALUES ($1, $2, $3, $4, $5)";
        let symbol = ["ACME", "INITECH", "GLOBEX"][usize::try_from(id % 3).unwrap_or(0)];
        tx.execute(sql, (id, symbol, id * 7 % 10_007, id % 2 == 0, (id % 5 == 0).then(|| format!("note {id}"))))
            .await?;
        let sql = "INSERT INTO positions (symbol, trades) VALUES ($1, 1) \
                   ON CONFLICT (symbol) DO UPDATE SET trades = positions.trades + 1";
        tx.execute(sql, (symbol,)).await.map(drop)
    })
    .await
}

async fn schema<C: Connector<Connection: Connection>>(db: &AsyncDatabase<C>) -> Result<()> {
    db.execute_script(
        "CREATE TABLE IF NOT EXISTS trades (id BIGINT PRIMARY KEY, symbol TEXT NOT NULL, cents BIGINT NOT NULL, \
         buy BOOLEAN NOT NULL, note TEXT); \
         CREATE TABLE IF NOT EXISTS positions (symbol TEXT PRIMARY KEY, trades BIGINT NOT NULL)",
    )
    .await
}

/// Copies a table, telling how far it is.
async fn copy<A, B>(from: &AsyncDatabase<A>, to: &AsyncDatabase<B>, table: &str, columns: &str, key: &str) -> Result<()>
where
    A: Connector<Connection: Connection>,
    B: Connector<Connection: Connection>,
{
    let total: i64 = from.fetch_value(&format!("SELECT count(*) FROM {table}"), ()).await?.unwrap_or(0);
    let places: Vec<String> = (1..=columns.split(", ").count()).map(|number| format!("${number}")).collect();
    let insert = format!("INSERT INTO {table} ({columns}) VALUES ({})", places.join(", "));
    let began = Instant::now();
    let mut done = 0;
    let rows = from.fetch_stream(&format!("SELECT {columns} FROM {table} ORDER BY {key}"), ());
    let mut batches = rows.try_chunks(5_000);
    while let Some(batch) = batches.try_next().await.map_err(|error| error.1)? {
        done += batch.len();
        to.execute_many(&insert, batch.iter().map(values)).await?;
        println!("{table}: {done} of {total} rows, {:?}", began.elapsed());
    }
    Ok(())
}

fn values(row: &Row) -> Vec<Value> {
    row.iter().map(|(_, value)| value.to_owned()).collect()
}

/// Compares a table row by row, while both sides stream.
async fn compare<A, B>(
    one: &AsyncDatabase<A>,
    other: &AsyncDatabase<B>,
    table: &str,
    columns: &str,
    key: &str,
) -> Result<u64>
where
    A: Connector<Connection: Connection>,
    B: Connector<Connection: Connection>,
{
    let sql = format!("SELECT {columns} FROM {table} ORDER BY {key}");
    let (mut left, mut right) = (one.fetch_stream(&sql, ()), other.fetch_stream(&sql, ()));
    let mut same = 0;
    loop {
        match (left.try_next().await?, right.try_next().await?) {
            (None, None) => return Ok(same),
            (Some(left), Some(right)) => {
                // SQLite keeps truth values as 0 and 1.
                let plain = |value| match value {
                    Value::Bool(truth) => Value::Integer(truth.into()),
                    other => other,
                };
                let left: Vec<Value> = values(&left).into_iter().map(plain).collect();
                let right: Vec<Value> = values(&right).into_iter().map(plain).collect();
                assert_eq!(left, right, "row {same} of {table} differs");
                same += 1;
            }
            _ => panic!("{table} has more rows on one side"),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = AsyncDatabase::builder(directory.path().join("bot.db"))
        .key(PassphraseKeySource::new("one machine, one file"))
        .open()
        .await?;
    schema(&file).await?;
    let insert = "INSERT INTO trades (id, symbol, cents, buy, note) VALUES ($1, $2, $3, $4, $5)";
    file.execute_many(insert, (0..TRADES).map(|id| (id, "ACME", id * 7 % 10_007, id % 2 == 0, None::<String>))).await?;
    for id in TRADES..TRADES + 100 {
        trade(&file, id).await?;
    }

    // The line that changes.
    let port = std::env::var("STRONGROOM_PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(55_431);
    let cluster = AsyncDatabase::with_connector(
        PostgresConnector::new("127.0.0.1", port)
            .host("127.0.0.1", port + 1)
            .host("127.0.0.1", port + 2)
            .database("postgres")
            .user("app")
            .key(PassphraseKeySource::new("cluster"))
            .tls(Tls::off()),
    )
    .retry(ExponentialBackoff::default())
    .open()
    .await?;

    cluster.execute_script("DROP TABLE IF EXISTS trades; DROP TABLE IF EXISTS positions").await?;
    schema(&cluster).await?;
    copy(&file, &cluster, "positions", "symbol, trades", "symbol").await?;
    copy(&file, &cluster, "trades", COLUMNS, "id").await?;
    let same = compare(&file, &cluster, "trades", COLUMNS, "id").await?;
    let positions = compare(&file, &cluster, "positions", "symbol, trades", "symbol").await?;
    println!("{same} trades and {positions} positions are the same on both sides");

    for id in TRADES + 100..TRADES + 200 {
        trade(&cluster, id).await?;
    }
    let count: Option<i64> = cluster.fetch_value("SELECT count(*) FROM trades", ()).await?;
    println!("the bot goes on: {} trades", count.unwrap_or(0));
    file.close().await?;
    cluster.close().await?;
    Ok(())
}
