//! From nothing to an encrypted database whose key stands in a SOPS file.
//!
//! `cargo run --features vendored-openssl --example quickstart`

use std::error::Error;
use std::fs;

use strongroom::keys::sops::{self, AgeIdentity, SopsFormat};
use strongroom::{AsyncDatabase, PassphraseKeySource, Secret, SopsKeySource};

#[derive(serde::Deserialize)]
struct Account {
    id: i64,
    owner: String,
    cents: i64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (secrets, file) = (directory.path().join("secrets.yml"), directory.path().join("bank.db"));

    // A project has its secrets.yml already (`sops secrets.yml`), and an age identity where `sops` looks for it.
    let identity = AgeIdentity::generate();
    let passphrase = Secret::new("a passphrase that nobody types");
    fs::write(&secrets, sops::encrypt(SopsFormat::Yaml, &[("database_key", &passphrase)], &[identity.recipient()])?)?;
    println!("secrets.yml holds no passphrase: {}", !fs::read_to_string(&secrets)?.contains("nobody types"));

    let key = SopsKeySource::new(&secrets, "database_key").identity(identity.secret().clone());
    let db = AsyncDatabase::builder(&file).key(key).open().await?;
    println!("opened, encrypted: {}", db.is_encrypted());

    db.execute_script(
        "CREATE TABLE accounts (
            id INTEGER PRIMARY KEY, owner TEXT NOT NULL UNIQUE, cents INTEGER NOT NULL CHECK (cents >= 0)
        )",
    )
    .await?;
    db.execute_many("INSERT INTO accounts (owner, cents) VALUES ($1, $2)", [("alice", 10_000), ("bob", 500)]).await?;

    // Commits when the closure answers Ok; an error, a panic or a dropped future rolls back.
    let (from, to, amount) = ("alice", "bob", 2_500);
    db.transaction(async |tx| {
        tx.execute("UPDATE accounts SET cents = cents - $1 WHERE owner = $2", (amount, from)).await?;
        tx.execute("UPDATE accounts SET cents = cents + $1 WHERE owner = $2", (amount, to)).await?;
        Ok(())
    })
    .await?;
    let overdrawn = db.execute("UPDATE accounts SET cents = cents - 99999 WHERE owner = $1", (from,)).await;
    println!("overdrawing: {:?}", overdrawn.unwrap_err().kind());

    let accounts: Vec<Account> = db.fetch_all_as("SELECT id, owner, cents FROM accounts ORDER BY id", ()).await?;
    for Account { id, owner, cents } in accounts {
        println!("account {id}: {owner} has {cents} cents");
    }
    let total: Option<i64> = db.fetch_value("SELECT sum(cents) FROM accounts", ()).await?;
    println!("together: {} cents", total.unwrap_or_default());
    db.close().await?;

    // The proof: no name and not even SQLite's header can be read, and nothing but the key opens the file.
    let bytes = fs::read(&file)?;
    let readable = ["SQLite format 3", "accounts", "alice"].iter().any(|text| contains(&bytes, text.as_bytes()));
    println!("readable on disk: {readable}");
    let without = AsyncDatabase::builder(&file).open().await.unwrap_err();
    println!("without a key: {:?}, {:?}", without.kind(), without.reason());
    let wrong = AsyncDatabase::builder(&file).key(PassphraseKeySource::new("a guess")).open().await.unwrap_err();
    println!("with a wrong key: {:?}, {:?}", wrong.kind(), wrong.reason());
    Ok(())
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}
