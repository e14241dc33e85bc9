//! A trading bot on paper: imports a CSV of prices, finds crossings of moving averages in SQL, trades in transactions,
//! and exports its trades. The prices are made up; see `data/make_prices.py`.

use std::error::Error;

use strongroom::{AsyncDatabase, ErrorKind, PassphraseKeySource, Result, Transaction};

const SCHEMA: &str = "
CREATE TABLE prices (minute TEXT PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents > 0), volume INTEGER NOT NULL);
CREATE TABLE account (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents >= 0), shares INTEGER NOT NULL CHECK (shares >= 0));
CREATE TABLE trades (minute TEXT NOT NULL REFERENCES prices, shares INTEGER NOT NULL, cents INTEGER NOT NULL);
INSERT INTO account VALUES (1, 10000000, 0)";

/// Where the short average crosses the long one: up is a signal to buy, down one to sell.
const SIGNALS: &str = "
WITH averages AS (
    SELECT minute, cents, row_number() OVER w AS n, avg(cents) OVER (w ROWS 29 PRECEDING) AS short,
        avg(cents) OVER (w ROWS 239 PRECEDING) AS long
    FROM prices WINDOW w AS (ORDER BY minute)
), sides AS (
    SELECT *, short > long AS up, lag(short > long) OVER (ORDER BY minute) AS was_up FROM averages WHERE n > 240
)
SELECT minute, cents, up FROM sides WHERE up <> was_up ORDER BY minute";

#[derive(serde::Deserialize, serde::Serialize)]
struct Trade {
    minute: String,
    shares: i64,
    cents: i64,
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let db = AsyncDatabase::builder(directory.path().join("bot.db"))
        .key(PassphraseKeySource::new("correct horse"))
        .open()
        .await?;
    db.execute_script(SCHEMA).await?;

    let mut input = csv::Reader::from_path(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/prices.csv"))?;
    let prices: Vec<(String, i64, i64)> = input.deserialize().collect::<std::result::Result<_, _>>()?;
    let imported = db.execute_many("INSERT INTO prices VALUES ($1, $2, $3)", prices).await?;
    println!("imported {} prices", imported.rows_affected);

    let signals: Vec<(String, i64, bool)> = db.fetch_all_as(SIGNALS, ()).await?;
    println!("{} signals", signals.len());
    let mut refused = 0;
    for (minute, cents, up) in signals {
        let shares = if up { 500 } else { -500 };
        // The account may not be overdrawn, nor more be sold than it has: the schema says so, and the trade is undone.
        match db.transaction(async |tx| trade(tx, &minute, shares, cents).await).await {
            Err(error) if error.kind() == ErrorKind::Constraint => refused += 1,
            outcome => outcome?,
        }
    }
    println!("{refused} refused");

    let sql = "SELECT a.cents, a.shares, p.cents FROM account a, prices p ORDER BY p.minute DESC LIMIT 1";
    let (cents, shares, last): (i64, i64, i64) = db.fetch_one_as(sql, ()).await?.ok_or("no account")?;
    let worth = cents + shares * last;
    println!("{shares} shares and {cents} cents: {worth} cents after starting with 10000000");

    let trades: Vec<Trade> = db.fetch_all_as("SELECT minute, shares, cents FROM trades ORDER BY minute", ()).await?;
    let mut output = csv::Writer::from_path(directory.path().join("trades.csv"))?;
    trades.iter().try_for_each(|trade| output.serialize(trade))?;
    output.flush()?;
    println!("exported {} trades, the first at {}", trades.len(), trades[0].minute);
    db.close().await?;
    Ok(())
}

async fn trade(tx: &mut Transaction, minute: &str, shares: i64, cents: i64) -> Result<()> {
    tx.execute("INSERT INTO trades VALUES ($1, $2, $3)", (minute, shares, cents)).await?;
    let sql = "UPDATE account SET cents = cents - $1 * $2, shares = shares + $1 WHERE id = 1";
    tx.execute(sql, (shares, cents)).await.map(drop)
}
