//! 100,000 rows in one transaction, drawn from an iterator as the work proceeds.

use std::error::Error;
use std::time::Instant;

use futures_util::TryStreamExt;
use strongroom::{AsyncDatabase, PassphraseKeySource};

const ROWS: u32 = 100_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("measurements.db");
    let db = AsyncDatabase::builder(file).key(PassphraseKeySource::new("correct horse")).open().await?;
    db.execute_script("CREATE TABLE measurements (id INTEGER PRIMARY KEY, sensor TEXT NOT NULL, value REAL NOT NULL)")
        .await?;

    // The iterator is asked for rows as they are needed, so it may read a file of any size, and can tell how far it is.
    let rows = (1..=ROWS).map(|id| (id, format!("sensor {}", id % 16), f64::from(id) * 0.5)).inspect(|(id, ..)| {
        if id % 20_000 == 0 {
            println!("{:>3} % handed over", id * 100 / ROWS);
        }
    });
    let began = Instant::now();
    let changes = db.execute_many("INSERT INTO measurements VALUES ($1, $2, $3)", rows).await?;
    println!("{} rows inserted in {} ms", changes.rows_affected, began.elapsed().as_millis());

    // All or nothing: the last row repeats an id, so none of these stays.
    let doomed = (ROWS + 1..=ROWS + 5_000).chain([1]).map(|id| (id, "late", 0.0));
    let error = db.execute_many("INSERT INTO measurements VALUES ($1, $2, $3)", doomed).await.unwrap_err();
    println!("refused: {:?}", error.kind());
    let count: Option<i64> = db.fetch_value("SELECT count(*) FROM measurements", ()).await?;
    println!("rows: {}", count.unwrap_or_default());

    // Back the same way: in chunks, no faster than they are read.
    let mut rows = db.fetch_stream("SELECT value FROM measurements WHERE sensor = $1", ("sensor 7",));
    let (mut read, mut sum) = (0, 0.0);
    while let Some(row) = rows.try_next().await? {
        read += 1;
        sum += row.get::<f64>("value")?;
    }
    drop(rows);
    println!("sensor 7: {read} values, {sum} together");
    db.close().await?;
    Ok(())
}
