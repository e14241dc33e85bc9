//! A key source of one's own: two people each keep a share, and only both together open the database.

use std::error::Error;
use std::fs;

use strongroom::keys::async_trait;
use strongroom::{
    AsyncDatabase, ChainKeySource, EnvKeySource, Error as DbError, ErrorKind, FileKeySource, KeySource, Result, Secret,
};

/// The key is the exclusive or of two shares of 32 bytes, from wherever they come.
struct TwoShares<A, B>(A, B);

#[async_trait]
impl<A: KeySource, B: KeySource> KeySource for TwoShares<A, B> {
    async fn resolve(&self) -> Result<Secret> {
        let (first, second) = (self.0.resolve().await?, self.1.resolve().await?);
        let (Ok(mut key), Ok(other)) = (<[u8; 32]>::try_from(first.expose()), <&[u8; 32]>::try_from(second.expose()))
        else {
            // Errors name the source and the reason, never a value.
            return Err(DbError::new(ErrorKind::Key, format!("a share of {} has not 32 bytes", self.describe())));
        };
        for (byte, other) in key.iter_mut().zip(other) {
            *byte ^= other;
        }
        Ok(Secret::raw_key(key))
    }

    fn describe(&self) -> String {
        format!("two shares: {} and {}", self.0.describe(), self.1.describe())
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let share = |name: &str, bytes: [u8; 32]| -> std::io::Result<_> {
        let path = directory.path().join(name);
        fs::write(&path, bytes)?;
        private(&path)?;
        Ok(path)
    };
    // A real program takes random bytes; these are the same each time.
    let alice = share("alice.share", *b"0123456789abcdef0123456789abcdef")?;
    let bob = share("bob.share", *b"the quick brown fox jumps over a")?;
    let mallory = share("mallory.share", [0; 32])?;
    let file = directory.path().join("vault.db");

    let db = AsyncDatabase::builder(&file)
        .key(TwoShares(FileKeySource::new(&alice), FileKeySource::new(&bob)))
        .open()
        .await?;
    db.execute_script("CREATE TABLE papers (title TEXT); INSERT INTO papers VALUES ('the will')").await?;
    println!("encrypted: {}", db.is_encrypted());
    db.close().await?;

    // Sources compose: an environment variable first, the two shares if there is none.
    let emergency = EnvKeySource::new("STRONGROOM_EXAMPLE_EMERGENCY_KEY");
    let both = TwoShares(FileKeySource::new(&alice), FileKeySource::new(&bob));
    let db = AsyncDatabase::builder(&file).key(ChainKeySource::new(emergency).or(both)).open().await?;
    let title: Option<String> = db.fetch_value("SELECT title FROM papers", ()).await?;
    println!("read: {}", title.unwrap_or_default());
    db.close().await?;

    let wrong = TwoShares(FileKeySource::new(alice), FileKeySource::new(mallory));
    let error = AsyncDatabase::builder(&file).key(wrong).open().await.unwrap_err();
    println!("alice and mallory: {:?}", error.reason());
    Ok(())
}

/// `FileKeySource` refuses files that others can read.
fn private(path: &std::path::Path) -> std::io::Result<()> {
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    // On Windows the folder of the user says who may read it.
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
