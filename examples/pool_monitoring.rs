//! What a pool tells: its numbers while it works, and who holds the connections when it has none left.

use std::error::Error;
use std::time::Duration;

use strongroom::{AsyncDatabase, Error as DbError, PassphraseKeySource, Secret};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let db = AsyncDatabase::builder(directory.path().join("shop.db"))
        // The timeout includes opening. A raw key needs no derivation, which takes a second on a busy machine.
        .key(PassphraseKeySource::new(Secret::raw_key([0x5a; 32])))
        .pool_max(3)
        .pool_timeout(Duration::from_secs(1))
        .open()
        .await?;
    db.execute_script("CREATE TABLE stock (item TEXT PRIMARY KEY, pieces INTEGER NOT NULL)").await?;
    show("opened", &db);

    let workers: Vec<_> = (0..20).map(|n| tokio::spawn(work(db.clone(), n))).collect();
    for worker in workers {
        worker.await??;
    }
    show("after 20 workers", &db);

    // Someone keeps the writer. The next one to need it gets no connection, and an explanation instead.
    let mut careless = db.connection().await?;
    careless.label("nightly report");
    show("while the report runs", &db);
    let other = db.clone();
    let refused = tokio::spawn(async move { other.execute("DELETE FROM stock", ()).await });
    let error = refused.await?.unwrap_err();
    println!("refused, {:?}: {error}", error.kind());
    // Readers of a file go on all the while.
    let items: Option<i64> = db.fetch_value("SELECT count(*) FROM stock", ()).await?;
    println!("items: {}", items.unwrap_or_default());
    drop(careless);

    let report = db.close().await?;
    println!("closed cleanly: {}", report.is_clean());
    println!("a call after that: {:?}", db.execute("DELETE FROM stock", ()).await.unwrap_err().kind());
    Ok(())
}

async fn work(db: AsyncDatabase, n: i64) -> Result<(), DbError> {
    let item = format!("item {}", n % 5);
    db.execute(
        "INSERT INTO stock VALUES ($1, $2) ON CONFLICT (item) DO UPDATE SET pieces = pieces + $2",
        (item.as_str(), n),
    )
    .await?;
    db.fetch_value::<i64>("SELECT pieces FROM stock WHERE item = $1", (item,)).await?;
    Ok(())
}

fn show(when: &str, db: &AsyncDatabase) {
    let stats = db.stats();
    let balanced = stats.total_acquired - stats.total_released == u64::from(stats.active_connections)
        && stats.active_connections + stats.idle_connections == stats.total_connections;
    println!(
        "{when}: {} active, at most 3 open: {}, timeouts {}, errors {}, the books balance: {balanced}",
        stats.active_connections,
        stats.total_connections <= 3,
        stats.total_timeouts,
        stats.total_errors
    );
}
