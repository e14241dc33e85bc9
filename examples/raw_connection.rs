//! A connection of one's own: maintenance, and all of rusqlite, off the async threads.

use std::error::Error;

use strongroom::rusqlite::functions::FunctionFlags;
use strongroom::{AsyncDatabase, PassphraseKeySource, rusqlite};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let copy = directory.path().join("copy.db");
    let db = AsyncDatabase::builder(directory.path().join("notes.db"))
        .key(PassphraseKeySource::new("correct horse"))
        // Functions and collations belong to a connection, so every one of the pool gets them.
        .on_connect(|connection| Box::pin(connection.interact(add_word_count)))
        .open()
        .await?;
    db.execute_script("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL)").await?;
    let notes = ["buy milk", "call the bank about the mortgage", "water the plants"];
    db.execute_many("INSERT INTO notes (body) VALUES ($1)", notes.map(|body| (body,))).await?;
    let words: Option<i64> = db.fetch_value("SELECT sum(word_count(body)) FROM notes", ()).await?;
    println!("words, counted in Rust: {}", words.unwrap_or_default());

    // What alters a session is refused elsewhere, and done here.
    let refused = db.execute("PRAGMA foreign_keys = OFF", ()).await.unwrap_err();
    println!("through the pool: {:?}", refused.reason());
    let mut conn = db.connection().await?;
    conn.label("maintenance");
    conn.execute_script("PRAGMA foreign_keys = OFF; DELETE FROM notes WHERE id = 3; VACUUM").await?;
    println!(
        "notes after maintenance: {}",
        conn.fetch_value::<i64>("SELECT count(*) FROM notes", ()).await?.unwrap_or(0)
    );

    // rusqlite's own API, with its own types: an online backup, readable with the same passphrase.
    let target = copy.clone();
    conn.interact(move |source| {
        let mut copy = rusqlite::Connection::open(target)?;
        strongroom::apply_cipher_key(&copy, &"correct horse".into())
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        rusqlite::backup::Backup::new(source, &mut copy)?.run_to_completion(64, std::time::Duration::ZERO, None)
    })
    .await?;
    drop(conn);

    // The altered session was closed, not lent to the next one.
    let foreign_keys: Option<i64> = db.fetch_value("PRAGMA foreign_keys", ()).await?;
    println!("foreign keys of the next connection: {}", foreign_keys.unwrap_or_default());
    db.close().await?;

    let copy = AsyncDatabase::builder(copy).key(PassphraseKeySource::new("correct horse")).open().await?;
    let bodies: Vec<String> = copy.fetch_all_as("SELECT body FROM notes ORDER BY id", ()).await?;
    println!("in the copy: {}", bodies.join(", "));
    copy.close().await?;
    Ok(())
}

fn add_word_count(connection: &mut rusqlite::Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("word_count", 1, flags, |context| {
        Ok(i64::try_from(context.get::<String>(0)?.split_whitespace().count()).unwrap_or(i64::MAX))
    })
}
