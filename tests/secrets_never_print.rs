//! Nothing that a program prints or logs holds a secret. A child process lives through good and bad days with logging
//! at TRACE and prints every error and every `Debug` it can reach; the parent searches all of it, SQLCipher's own words
//! on standard error included.

#![cfg(feature = "sqlcipher")]

use std::error::Error as _;
use std::fmt::Debug;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use strongroom::engine::Statement;
use strongroom::keys::SecretBytes;
use strongroom::{
    AsyncDatabase, CachedKeySource, ChainKeySource, CommandKeySource, Connector, DatabaseConfig, EnvKeySource, Error,
    FileKeySource, KeySource, PassphraseKeySource, Pool, Secret, SqlCipherConnector, apply_cipher_key, rusqlite,
};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;

use cipher::holds;

const CHILD: &str = "STRONGROOM_TEST_PRINTS";

/// What must not be seen. Unlikely words, so that every hit is a leak.
const PASSPHRASE: &str = "Zq9-passphrase-vX7";
const WRONG: &str = "Zq9-wrong-guess-vX7";
const KEY: [u8; 32] = *b"Zq9-this-is-a-raw-key-of-32-byte";

/// What may be seen and is, so that an empty search proves something.
const HARMLESS: &str = "Zq9-harmless-vX7";

fn show(value: &impl Debug) {
    println!("{value:?}\n{value:#?}");
}

fn confess(error: &Error) {
    println!("{error}");
    show(error);
    let mut source = error.source();
    while let Some(inner) = source {
        println!("{inner} {inner:?}");
        source = inner.source();
    }
}

#[tokio::test]
async fn neither_logs_nor_errors_nor_debug_hold_a_secret() {
    if let Some(directory) = std::env::var_os(CHILD) {
        return child(Path::new(&directory)).await;
    }
    let directory = TempDir::new().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "neither_logs_nor_errors_nor_debug_hold_a_secret", "--nocapture"])
        .env(CHILD, directory.path())
        .env("ZQ9_PASSPHRASE", PASSPHRASE)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{text}");

    assert!(text.matches(HARMLESS).count() >= 2, "the search sees neither output nor logs: {text}");
    assert!(text.contains("TRACE") || text.contains("DEBUG"), "nothing was logged: {text}");
    assert!(text.contains("the key does not open it") && text.contains("[REDACTED]"));
    for (name, forms) in
        [("passphrase", forms(PASSPHRASE.as_bytes())), ("wrong", forms(WRONG.as_bytes())), ("key", forms(&KEY))]
    {
        for form in forms {
            assert!(!holds(&said, &form), "the {name} was printed as {}: {text}", form.escape_ascii());
        }
    }
    assert!(!text.contains("sqlcipher_") && !text.contains("ERROR CORE"), "SQLCipher spoke: {text}");
}

/// The ways bytes appear in texts: as they are, in hex, and as lists of numbers; also their halves.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = hex(&secret[..12]);
    let list = secret[..4].iter().map(ToString::to_string).collect::<Vec<_>>();
    [
        secret[..12].to_vec(),
        secret[secret.len() - 10..].to_vec(),
        hex.clone().into_bytes(),
        hex.to_uppercase().into_bytes(),
        list.join(", ").into_bytes(),
        list.join(",\n").into_bytes(),
    ]
    .into()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from_digit(digit.into(), 16).unwrap())
        .collect()
}

async fn child(directory: &Path) {
    tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::TRACE).init();
    tracing::trace!("{HARMLESS}");
    println!("{HARMLESS}");
    values(directory).await;
    good_day(&directory.join("good.db")).await;
    bad_day(&directory.join("good.db")).await;
    raw_keys(&directory.join("raw.db")).await;
}

/// Every public type that may hold a secret.
async fn values(directory: &Path) {
    for secret in [Secret::new(PASSPHRASE), Secret::raw_key(KEY), Secret::raw_key_with_salt(KEY, [1; 16])] {
        show(&secret);
        let builder = AsyncDatabase::builder("a.db").key(PassphraseKeySource::new(secret.clone()));
        show(&builder);
        show(&SqlCipherConnector::new("a.db").key(PassphraseKeySource::new(secret.clone())));
        show(&Statement::new("SELECT $1", (1,)).unwrap());
    }
    show(&SecretBytes::from(PASSPHRASE));
    show(&SecretBytes::from(PASSPHRASE.as_bytes().to_vec()));
    let file = directory.join("passphrase");
    std::fs::write(&file, PASSPHRASE).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let sources: Vec<Box<dyn KeySource>> = vec![
        Box::new(PassphraseKeySource::new(PASSPHRASE)),
        Box::new(EnvKeySource::new("ZQ9_PASSPHRASE")),
        Box::new(FileKeySource::new(&file)),
        Box::new(CommandKeySource::new("cat").args([file.to_str().unwrap()])),
        Box::new(CachedKeySource::new(PassphraseKeySource::new(PASSPHRASE), Duration::from_secs(9))),
        Box::new(ChainKeySource::new(EnvKeySource::new("ZQ9_UNSET")).or(PassphraseKeySource::new(PASSPHRASE))),
    ];
    for source in sources {
        println!("{}", source.describe());
        match source.resolve().await {
            Ok(secret) => show(&secret),
            Err(error) => confess(&error),
        }
    }
    show(&PassphraseKeySource::new(PASSPHRASE));
    show(&CachedKeySource::new(PassphraseKeySource::new(PASSPHRASE), Duration::from_secs(9)));
    let config = DatabaseConfig::default();
    show(&config);
    confess(&config.key_source(Some(Secret::new(PASSPHRASE))).err().unwrap());
}

async fn good_day(path: &Path) {
    let db = AsyncDatabase::builder(path).key(PassphraseKeySource::new(PASSPHRASE)).open().await.unwrap();
    show(&db);
    db.execute_script("CREATE TABLE t (a UNIQUE)").await.unwrap();
    db.execute("INSERT INTO t VALUES ($1)", (1,)).await.unwrap();
    for sql in [
        "INSERT INTO t VALUES (1)".to_owned(),
        "SELECT nonsense".to_owned(),
        format!("PRAGMA key = '{PASSPHRASE}'"),
        format!("PRAGMA rekey = '{PASSPHRASE}'"),
        format!("ATTACH 'other' AS other KEY '{PASSPHRASE}'"),
        format!("ATTACH 'file:other.db?key={PASSPHRASE}' AS other"),
        format!("VACUUM INTO 'file:other.db?key={PASSPHRASE}'"),
        format!("SELECT '{PASSPHRASE}' FROM"),
    ] {
        confess(&db.execute(&sql, ()).await.unwrap_err());
        confess(&db.execute_script(&sql).await.unwrap_err());
        let sql = sql.clone();
        confess(&db.interact(move |c| c.execute_batch(&sql)).await.unwrap_err());
    }
    let conn = db.connection().await.unwrap();
    show(&conn);
    drop(conn);
    show(&db.close().await.unwrap());
    confess(&db.execute("SELECT 1", ()).await.unwrap_err());
}

async fn bad_day(path: &Path) {
    let open = async |secret: Secret| AsyncDatabase::builder(path).key(PassphraseKeySource::new(secret)).open().await;
    confess(&open(Secret::new(WRONG)).await.unwrap_err());
    confess(&open(Secret::raw_key(KEY)).await.unwrap_err());
    confess(&open(Secret::new(format!("{PASSPHRASE}\0"))).await.unwrap_err());
    confess(&AsyncDatabase::builder(path).open().await.unwrap_err());
    let uri = format!("file:a.db?key={PASSPHRASE}");
    confess(&AsyncDatabase::builder(&uri).open().await.unwrap_err());
    confess(&open(Secret::new(format!("x'{}'", hex(&KEY)))).await.unwrap_err());
    let own = rusqlite::Connection::open(path).unwrap();
    apply_cipher_key(&own, &Secret::new(WRONG)).unwrap();
    println!("{:?}", own.query_row("SELECT count(*) FROM t", (), |_| Ok(())));
    // A second process would see the file change; here it is replaced under an open pool.
    let pool = Pool::builder(SqlCipherConnector::new(path).key(PassphraseKeySource::new(PASSPHRASE))).build();
    let held = pool.get().await.unwrap();
    show(&held);
    std::fs::write(path, [0xAB; 8192]).unwrap();
    confess(&pool.get().await.unwrap_err());
    drop(held);
    show(&pool);
    show(&pool.close(Duration::from_secs(1)).await);
    confess(&SqlCipherConnector::new(path).connect(strongroom::engine::Access::Read).await.unwrap_err());
}

async fn raw_keys(path: &Path) {
    let db = AsyncDatabase::builder(path).key(PassphraseKeySource::new(Secret::raw_key(KEY))).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a)").await.unwrap();
    show(&db);
    show(&db.read_connection().await.unwrap());
    db.close().await.unwrap();
}
