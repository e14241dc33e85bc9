//! A list of tasks that a screen shows: the screen watches it, a log follows every commit, and another program writes to
//! the same file.
//!
//! `cargo run --features vendored-openssl --example watch`

use std::time::Duration;

use strongroom::database::{ChangeOptions, ChangeStream};
use strongroom::{AsyncDatabase, PassphraseKeySource, Result, Secret};

async fn open(path: &std::path::Path) -> Result<AsyncDatabase> {
    AsyncDatabase::builder(path).key(PassphraseKeySource::new(Secret::raw_key([7; 32]))).open().await
}

/// What is written into the log of each commit.
async fn follow(mut changes: ChangeStream) {
    while let Some(change) = changes.next().await {
        for table in &change.tables {
            let (inserted, updated, deleted) = (table.inserted, table.updated, table.deleted);
            println!("commit {}: {} +{inserted} ~{updated} -{deleted}", change.sequence, table.table);
        }
        if change.unattributed {
            println!("commit {}: another program", change.sequence);
        }
    }
    println!("the log ends with the database");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("strongroom-watch-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory for the example");
    let path = directory.join("tasks.db");
    let db = open(&path).await?;
    db.execute_script("CREATE TABLE tasks (title TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0)").await?;

    let changes = db.changes_with(ChangeOptions::new().look_every(Duration::from_millis(5))).await?;
    let log = tokio::spawn(follow(changes));
    let mut screen = db
        .watch_as::<String>("SELECT title FROM tasks WHERE NOT done ORDER BY title", ())
        .look_every(Duration::from_millis(5));
    println!("screen: {:?}", screen.next().await.expect("the database is open")?);

    db.transaction(async |tx| {
        tx.execute("INSERT INTO tasks (title) VALUES ('sweep'), ('cook')", ()).await?;
        tx.execute("UPDATE tasks SET done = 1 WHERE title = 'sweep'", ()).await
    })
    .await?;
    println!("screen: {:?}", screen.next().await.expect("the database is open")?);

    // What is rolled back is seen by nobody.
    let mut undone = db.begin().await?;
    undone.execute("DELETE FROM tasks", ()).await?;
    undone.rollback().await?;

    // Another program would open the file just like this.
    let other = open(&path).await?;
    other.execute("INSERT INTO tasks (title) VALUES ('wash')", ()).await?;
    println!("screen: {:?}", screen.next().await.expect("the database is open")?);

    other.close().await?;
    db.close().await?;
    log.await.expect("the log ends");
    std::fs::remove_dir_all(&directory).ok();
    Ok(())
}
