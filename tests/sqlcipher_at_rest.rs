//! What lies on the disk: whichever way data takes, no file holds it readably. Every scenario runs on a plain database
//! too, where the same search must find it.

#![cfg(feature = "sqlcipher")]

use std::path::Path;
use std::time::Duration;

use strongroom::pool::NoRetry;
use strongroom::{
    AsyncDatabase, DatabaseBuilder, ErrorKind, Reason, Secret, SqlCipherConnector, apply_cipher_key, rusqlite,
};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;

use cipher::{files, holds, keyed};

/// Stands in rows, in names of the schema and in indexes.
const MARKER: &str = "Th1sIsThePlaintext";
const MAGIC: &[u8] = b"SQLite format 3\0";

type Builder = DatabaseBuilder<SqlCipherConnector>;

fn encrypted(path: &Path) -> Builder {
    keyed(path, Secret::raw_key([7; 32])).pool_max(1)
}

fn plain(path: &Path) -> Builder {
    AsyncDatabase::builder(path).retry(NoRetry).pool_max(1)
}

/// Which files of `directory` are readable. The files may be open: nobody else uses them, so no lock is missed when
/// this process drops its own by closing them.
fn readable(directory: &Path) -> Vec<String> {
    let readable = |bytes: &[u8]| holds(bytes, MARKER.as_bytes()) || holds(bytes, MAGIC);
    files(directory).into_iter().filter(|(_, bytes)| readable(bytes)).map(|(name, _)| name).collect()
}

async fn fill(db: &AsyncDatabase) {
    db.execute_script(&format!(
        "CREATE TABLE {MARKER} (id INTEGER PRIMARY KEY, text); CREATE INDEX i ON {MARKER} (text)"
    ))
    .await
    .unwrap();
    let rows = (0..500).map(|n| (format!("{MARKER} {n} {}", "-".repeat(200)),));
    db.execute_many(&format!("INSERT INTO {MARKER} (text) VALUES ($1)"), rows).await.unwrap();
}

/// Takes data through every file that SQLite writes and tells, at each station, which file was meant and which were
/// readable.
async fn stations(builder: fn(&Path) -> Builder) -> Vec<(&'static str, Vec<String>)> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    let mut seen = Vec::new();
    let mut look = |file: &'static str| {
        assert!(files(directory.path())[file].len() > 10_000, "the scenario wrote too little to {file}");
        seen.push((file, readable(directory.path())));
    };

    let db = builder(&path).open().await.unwrap();
    fill(&db).await;
    look("a.db-wal");
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)", ()).await.unwrap();
    look("a.db");
    db.execute("VACUUM", ()).await.unwrap();
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)", ()).await.unwrap();
    look("a.db");
    let copy = directory.path().join("copy.db");
    db.execute("VACUUM INTO $1", (copy.to_str().unwrap(),)).await.unwrap();
    look("copy.db");
    let mut conn = db.connection().await.unwrap();
    conn.execute_script("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 10; BEGIN").await.unwrap();
    conn.execute(&format!("UPDATE {MARKER} SET text = text || 'x'"), ()).await.unwrap();
    look("a.db-journal");
    conn.execute("COMMIT", ()).await.unwrap();
    drop(conn);
    db.close().await.unwrap();
    look("a.db");

    let copied = builder(&copy).open().await.unwrap();
    let rows: Option<i64> = copied.fetch_value(&format!("SELECT count(*) FROM {MARKER}"), ()).await.unwrap();
    assert_eq!(rows, Some(500));
    seen
}

#[tokio::test]
async fn no_file_that_an_encrypted_database_writes_is_readable() {
    for (file, readable) in stations(encrypted).await {
        assert!(readable.is_empty(), "after writing {file}: {readable:?}");
    }
}

#[tokio::test]
async fn the_same_search_finds_everything_in_a_plain_database() {
    for (file, readable) in stations(plain).await {
        assert!(readable.iter().any(|name| name == file), "not found in {file}, but in {readable:?}");
    }
}

#[tokio::test]
async fn a_database_in_memory_writes_no_file_and_its_copy_is_encrypted() {
    for (builder, expected) in [(encrypted as fn(&Path) -> Builder, 0), (plain, 1)] {
        let directory = TempDir::new().unwrap();
        let db = builder(Path::new(":memory:")).open().await.unwrap();
        fill(&db).await;
        assert!(files(directory.path()).is_empty());
        // SQLite would copy into another database in memory and call that a success.
        let copy = directory.path().join("copy.db");
        let error = db.execute("VACUUM INTO $1", (copy.to_str().unwrap(),)).await.unwrap_err();
        assert!(error.to_string().contains("rusqlite's backup, in interact()"), "{error}");

        let (target, key) = (copy.clone(), db.is_encrypted().then(|| Secret::raw_key([7; 32])));
        db.interact(move |memory| {
            let mut file = rusqlite::Connection::open(target)?;
            if let Some(key) = key {
                apply_cipher_key(&file, &key).unwrap();
            }
            rusqlite::backup::Backup::new(memory, &mut file)?.run_to_completion(1000, Duration::ZERO, None)
        })
        .await
        .unwrap();
        assert_eq!(readable(directory.path()).len(), expected);
        db.close().await.unwrap();
        assert!(builder(&copy).open().await.unwrap().table_exists(MARKER).await.unwrap());
    }
}

/// What lies in files that were deleted while open, as temporary files of SQLite are.
#[cfg(target_os = "linux")]
fn readable_unlinked(directory: &Path) -> bool {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let unlinked = descriptors.filter(|fd| {
        let target = std::fs::read_link(fd).unwrap_or_default();
        target.starts_with(directory) && target.to_string_lossy().ends_with("(deleted)")
    });
    unlinked.filter_map(|fd| std::fs::read(fd).ok()).any(|bytes| holds(&bytes, MARKER.as_bytes()))
}

/// Makes a temporary table that is larger than the cache, and says whether a file holds its rows.
#[cfg(target_os = "linux")]
async fn spills(builder: fn(&Path) -> Builder, setting: &str) -> Result<bool, strongroom::Error> {
    let directory = TempDir::new().unwrap();
    let db = builder(&directory.path().join("a.db")).open().await.unwrap();
    fill(&db).await;
    let mut conn = db.connection().await.unwrap();
    // It is the setting of a process, so no connection of ours takes it.
    let own = rusqlite::Connection::open_in_memory().unwrap();
    own.execute_batch(&format!("PRAGMA temp_store_directory = '{}'", directory.path().display())).unwrap();
    conn.execute_script(setting).await?;
    conn.execute_script(&format!(
        "PRAGMA cache_size = 10;
         CREATE TEMP TABLE spilled AS SELECT a.text || b.id AS text FROM {MARKER} a, {MARKER} b LIMIT 20000"
    ))
    .await?;
    Ok(readable_unlinked(directory.path()))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn temporary_tables_never_spill_to_a_readable_file() {
    assert!(
        spills(plain, "PRAGMA temp_store = FILE").await.unwrap(),
        "the search finds nothing where there is something"
    );
    for setting in ["SELECT 1", "PRAGMA temp_store = FILE", "PRAGMA temp_store = 1", "PRAGMA main.temp_store = 'file'"]
    {
        match spills(encrypted, setting).await {
            Ok(spilled) => assert!(!spilled, "{setting}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{setting}: {error}"),
        }
    }
}

#[tokio::test]
async fn no_statement_copies_an_encrypted_database_into_a_readable_file() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("out.db");
    let out = path.to_str().unwrap();
    let db = encrypted(&directory.path().join("a.db")).open().await.unwrap();
    fill(&db).await;
    for first in [
        format!("ATTACH '{out}' AS out KEY ''"),
        format!("ATTACH '{out}' || '' AS out KEY ''"),
        format!("ATTACH (SELECT '{out}') AS out KEY ''"),
        format!("ATTACH 'file:{out}?key=' AS out"),
        format!("VACUUM INTO 'file:{out}?key='"),
        format!("VACUUM INTO 'file:{out}?hexkey='"),
        format!("VACUUM INTO 'file:{out}?key=other'"),
        format!("VACUUM INTO 'FI' || 'LE:{out}?key='"),
        "PRAGMA rekey = ''".to_owned(),
        "PRAGMA cipher_default_use_hmac = OFF".to_owned(),
    ] {
        let script = format!("{first}; CREATE TABLE out.t AS SELECT * FROM {MARKER}; SELECT sqlcipher_export('out')");
        let by_script = db.connection().await.unwrap().execute_script(&script).await.unwrap_err();
        let by_statement = db.execute(&first, ()).await.unwrap_err();
        let by_interact = db.interact(move |c| c.execute_batch(&script)).await.unwrap_err();
        for error in [by_script, by_statement, by_interact] {
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Unsupported, Reason::Control), "{first}: {error}");
        }
        assert_eq!(readable(directory.path()), [""; 0], "{first}");
        assert!(!path.exists(), "{first}");
    }
    // What is bound instead of written takes the same way.
    let mut conn = db.connection().await.unwrap();
    conn.execute("ATTACH $1 AS out KEY $2", (out, "")).await.unwrap_err();
    conn.execute("VACUUM INTO $1", (format!("file:{out}?key="),)).await.unwrap_err();
    assert!(!path.exists());
}
