//! Settings from a file: bounded, checked to the letter, and free of secrets.

use std::error::Error;
use std::fs;

use strongroom::{AsyncDatabase, DatabaseConfig, PassphraseKeySource};

const SETTINGS: &str = "
db:
  pool:   { min_size: 2, max_size: 5000, acquire_timeout: 12.5 }
  retry:  { max_attempts: 5, delay: 0.2 }
  cipher: { enabled: true, key_source: passphrase }
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let settings = directory.path().join("strongroom.yml");
    fs::write(&settings, SETTINGS)?;

    // Environment variables such as STRONGROOM_DB__POOL__MAX_SIZE=20 win over the file.
    let config = DatabaseConfig::from_file(&settings)?;
    println!("read: at least {} connections, waiting {:?}", config.pool.min_size, config.pool.acquire_timeout);

    // Everything may still be set here, and wins. 5000 is more than any pool gets; it is moved to the bound, 100.
    let file = directory.path().join("app.db");
    let db = AsyncDatabase::from_config(&file, &config).key(PassphraseKeySource::new("typed in")).open().await?;
    println!("open: {} connections, encrypted: {}", db.pool_size(), db.is_encrypted());
    db.execute_script("CREATE TABLE visits (page TEXT NOT NULL)").await?;
    db.execute_many("INSERT INTO visits VALUES ($1)", [("/",), ("/about",), ("/",)]).await?;
    let pages: Vec<(String, i64)> =
        db.fetch_all_as("SELECT page, count(*) FROM visits GROUP BY page ORDER BY page", ()).await?;
    for (page, visits) in pages {
        println!("{page}: {visits}");
    }
    db.close().await?;

    // Encryption that is asked for and cannot be had is an error, never a plaintext file.
    let no_key = AsyncDatabase::from_config(directory.path().join("other.db"), &config).open().await.unwrap_err();
    println!("without the passphrase: {:?}", no_key.kind());
    println!("nothing was created: {}", !directory.path().join("other.db").exists());

    for (name, wrong) in [
        ("misspelt", "db: { pool: { max_sise: 20 } }"),
        ("secret", "db: { cipher: { enabled: true, passphrase: hunter2 } }"),
    ] {
        fs::write(&settings, wrong)?;
        let error = DatabaseConfig::from_file(&settings).unwrap_err().to_string();
        let told = error.split_once("strongroom.yml: ").map_or("", |(_, told)| told);
        println!("{name}: {told}");
    }
    Ok(())
}
