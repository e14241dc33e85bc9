//! One encrypted file per tenant, each with its own key, pool and life.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use strongroom::{AsyncDatabase, PassphraseKeySource, Result};

/// The open databases, by tenant.
struct Tenants(BTreeMap<&'static str, AsyncDatabase>);

impl Tenants {
    async fn open(directory: &Path, names: &[&'static str]) -> Result<Self> {
        let mut databases = BTreeMap::new();
        for name in names {
            let db = AsyncDatabase::builder(directory.join(format!("{name}.db")))
                .key(PassphraseKeySource::new(format!("the passphrase of {name}")))
                .pool_max(4)
                .open()
                .await?;
            db.execute_script(
                "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT NOT NULL, cents INTEGER NOT NULL)",
            )
            .await?;
            databases.insert(*name, db);
        }
        Ok(Self(databases))
    }

    /// Runs `work` for all tenants at once; each has its own writer, so nobody waits for another one.
    async fn each<T: Send + 'static, F>(&self, work: impl Fn(&'static str, AsyncDatabase) -> F) -> Result<Vec<T>>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let tasks: Vec<_> = self.0.iter().map(|(name, db)| tokio::spawn(work(name, db.clone()))).collect();
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.expect("no task panics")?);
        }
        Ok(results)
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let tenants = Tenants::open(directory.path(), &["acme", "globex", "initech"]).await?;

    tenants
        .each(async |name, db| {
            let orders = (1_i64..).zip(name.chars()).map(|(n, letter)| (format!("{name} item {letter}"), n * 250));
            db.execute_many("INSERT INTO orders (item, cents) VALUES ($1, $2)", orders).await
        })
        .await?;
    let totals = tenants
        .each(async |name, db| {
            let row = db.fetch_one("SELECT count(*) AS n, sum(cents) AS cents FROM orders", ()).await?;
            let row = row.expect("an aggregate has one row");
            Ok(format!("{name}: {} orders, {} cents", row.get::<i64>("n")?, row.get::<i64>("cents")?))
        })
        .await?;
    println!("{}", totals.join("\n"));

    let pools: u32 = tenants.0.values().map(AsyncDatabase::pool_size).sum();
    println!("connections open: {}", if pools >= 3 { "at least one for each tenant" } else { "too few" });
    for db in tenants.0.values() {
        db.close().await?;
    }

    // A key opens its own file and no other one.
    let theirs = AsyncDatabase::builder(directory.path().join("globex.db"))
        .key(PassphraseKeySource::new("the passphrase of acme"))
        .open()
        .await;
    println!("globex with the key of acme: {:?}", theirs.unwrap_err().reason());
    Ok(())
}
