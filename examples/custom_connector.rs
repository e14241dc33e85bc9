//! A connector of one's own around the default engine: it falls back to a backup, and counts what it opens.

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use strongroom::engine::Access;
use strongroom::{AsyncDatabase, Capabilities, Connector, ErrorKind, PassphraseKeySource, Result, SqlCipherConnector};
use tokio::sync::OnceCell;

/// Opens the first of two databases, or the second one if the first is damaged.
struct Standby<C> {
    databases: [C; 2],
    /// Decided once, so that a pool never mixes the two.
    chosen: OnceCell<usize>,
    opened: Arc<AtomicU32>,
}

impl<C: Connector> Connector for Standby<C> {
    type Connection = C::Connection;

    fn capabilities(&self) -> Capabilities {
        self.databases[0].capabilities()
    }

    async fn connect(&self, access: Access) -> Result<C::Connection> {
        let chosen = self.chosen.get_or_try_init(async || self.choose().await).await?;
        let connection = self.databases[*chosen].connect(access).await?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(connection)
    }

    async fn shut_down(&self) {
        for database in &self.databases {
            database.shut_down().await;
        }
    }
}

impl<C: Connector> Standby<C> {
    /// A permanent error of the file or the key; whatever may pass is the pool's to try again.
    async fn choose(&self) -> Result<usize> {
        match self.databases[0].connect(Access::Read).await {
            Ok(_) => Ok(0),
            Err(error) if matches!(error.kind(), ErrorKind::Storage | ErrorKind::Encryption) => {
                println!("not opened: {:?}", error.reason());
                Ok(1)
            }
            Err(error) => Err(error),
        }
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (file, backup) = (directory.path().join("app.db"), directory.path().join("backup.db"));
    let key = || PassphraseKeySource::new("correct horse");

    let db = AsyncDatabase::builder(&file).key(key()).open().await?;
    db.execute_script("CREATE TABLE songs (title TEXT); INSERT INTO songs VALUES ('Heroes')").await?;
    db.close().await?;
    fs::copy(&file, &backup)?;
    fs::write(&file, "a text editor was here")?;

    let opened = Arc::new(AtomicU32::new(0));
    let databases = [&file, &backup].map(|path| SqlCipherConnector::new(path).create_if_missing(false).key(key()));
    let standby = Standby { databases, chosen: OnceCell::new(), opened: Arc::clone(&opened) };
    let db = AsyncDatabase::with_connector(standby).pool_max(4).open().await?;
    let title: Option<String> = db.fetch_value("SELECT title FROM songs", ()).await?;
    println!("read from the backup: {}", title.unwrap_or_default());
    let counted = u64::from(opened.load(Ordering::Relaxed));
    println!("the pool has opened as many as were counted: {}", counted == db.stats().total_opened);
    db.close().await?;
    Ok(())
}
