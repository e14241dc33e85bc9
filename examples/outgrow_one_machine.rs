//! A trading bot outgrows its file: from SQLCipher to a PostgreSQL cluster, by changing the line that builds the database.
//!
//! ```sh
//! scripts/postgres-cluster start cluster
//! cargo run --example outgrow_one_machine --features postgres
//! ```
//!
//! `STRONGROOM_PORT` names the first node's port if it is not 55431.

use strongroom::database::CopyRows;
use strongroom::pool::ExponentialBackoff;
use strongroom::postgres::PostgresConnector;
use strongroom::postgres::Tls;
use strongroom::{AsyncDatabase, Connection, Connector, PassphraseKeySource, Result};

const TRADES: i64 = 50_000;

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
    let what = CopyRows::of(["positions", "trades"])
        .on_progress(|now| println!("{}: {} of {} rows", now.table, now.done, now.total));
    let report = file.copy_rows(&cluster, what).await?;
    for (table, rows) in &report.tables {
        println!("{rows} rows of {table} are the same on both sides");
    }

    for id in TRADES + 100..TRADES + 200 {
        trade(&cluster, id).await?;
    }
    let count: Option<i64> = cluster.fetch_value("SELECT count(*) FROM trades", ()).await?;
    println!("the bot goes on: {} trades", count.unwrap_or(0));
    file.close().await?;
    cluster.close().await?;
    Ok(())
}
