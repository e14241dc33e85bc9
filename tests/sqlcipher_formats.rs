//! Files of other programs: their rounds of key derivation, size of pages, and a header that is not encrypted.

#![cfg(feature = "sqlcipher")]

use std::path::Path;

use strongroom::{DatabaseBuilder, Error, ErrorKind, Reason, Secret, SqlCipherConnector, apply_cipher_key, rusqlite};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;

use cipher::{create, files, holds, keyed, plain, read, refusal};

type Builder = DatabaseBuilder<SqlCipherConnector>;
/// What the other program says, and what is said here.
type Setting = (&'static str, fn(Builder) -> Builder);

const SALT: [u8; 16] = *b"sixteen salt....";

/// As a program of its own would, with pragmas of its own.
fn written_elsewhere(path: &Path, secret: impl Into<Secret>, pragmas: &str) {
    let connection = rusqlite::Connection::open(path).unwrap();
    apply_cipher_key(&connection, &secret.into()).unwrap();
    connection.execute_batch(pragmas).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES ('row')").unwrap();
}

fn read_elsewhere(path: &Path, secret: impl Into<Secret>, pragmas: &str) -> String {
    let connection = rusqlite::Connection::open(path).unwrap();
    apply_cipher_key(&connection, &secret.into()).unwrap();
    connection.execute_batch(pragmas).unwrap();
    connection.query_row("SELECT a FROM t", (), |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn rounds_and_pages_of_other_programs_are_read_and_written() {
    let directory = TempDir::new().unwrap();
    let settings: [Setting; 4] = [
        ("PRAGMA kdf_iter = 4000", |builder| builder.cipher_kdf_iter(4000)),
        ("PRAGMA cipher_page_size = 1024", |builder| builder.cipher_page_size(1024)),
        ("PRAGMA cipher_page_size = 65536; PRAGMA kdf_iter = 1", |builder| {
            builder.cipher_page_size(65_536).cipher_kdf_iter(1)
        }),
        ("PRAGMA cipher_compatibility = 3; PRAGMA cipher_page_size = 2048", |builder| {
            builder.cipher_compatibility(3).cipher_page_size(2048)
        }),
    ];
    for (number, (pragmas, set)) in settings.into_iter().enumerate() {
        let path = directory.path().join(format!("{number}.db"));
        written_elsewhere(&path, "right", pragmas);
        assert_eq!(read(set(keyed(&path, "right"))).await.unwrap(), "row", "{pragmas}");
        assert_eq!(refusal(set(keyed(&path, "wrong"))).await.reason(), Reason::WrongKey, "{pragmas}");
        assert_eq!(read(set(keyed(&path, "right")).read_only()).await.unwrap(), "row", "{pragmas}");
        let ours = directory.path().join(format!("ours-{number}.db"));
        create(set(keyed(&ours, "right"))).await;
        assert_eq!(read_elsewhere(&ours, "right", pragmas), "row", "{pragmas}");
    }
}

fn with_salt() -> Secret {
    Secret::raw_key_with_salt([7; 32], SALT)
}

#[tokio::test]
async fn a_header_that_is_not_encrypted_goes_both_ways_with_its_salt() {
    const PRAGMA: &str = "PRAGMA cipher_plaintext_header_size = 32";
    let directory = TempDir::new().unwrap();
    let (ours, theirs) = (directory.path().join("ours.db"), directory.path().join("theirs.db"));
    create(keyed(&ours, with_salt()).plaintext_header()).await;
    let stored = files(directory.path())["ours.db"].clone();
    assert!(stored.starts_with(b"SQLite format 3\0"));
    assert!(!holds(&stored, b"CREATE TABLE"), "only the header is not encrypted");
    assert!(!holds(&stored, &SALT), "the salt stands elsewhere");
    assert_eq!(read_elsewhere(&ours, with_salt(), PRAGMA), "row");

    written_elsewhere(&theirs, with_salt(), PRAGMA);
    for builder in [
        keyed(&theirs, with_salt()).plaintext_header(),
        keyed(&theirs, Secret::raw_key([7; 32])).plaintext_header_with(SALT),
        keyed(&theirs, with_salt()).plaintext_header_with(SALT).read_only(),
        keyed(&theirs, with_salt()).plaintext_header().immutable(),
        keyed(&theirs, with_salt()).plaintext_header().exclusive().pool_max(3),
    ] {
        assert_eq!(read(builder).await.unwrap(), "row");
    }
}

#[tokio::test]
async fn a_passphrase_with_an_outer_salt_opens_again_and_in_many_connections() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(keyed(&path, "right").plaintext_header_with(SALT)).await;
    let db = keyed(&path, "right").plaintext_header_with(SALT).pool_max(4).open().await.unwrap();
    let reads = (0..8).map(|_| db.fetch_value::<String>("SELECT a FROM t", ()));
    assert_eq!(futures_util::future::try_join_all(reads).await.unwrap(), vec![Some("row".to_owned()); 8]);
    db.close().await.unwrap();
}

#[tokio::test]
async fn what_does_not_open_a_plain_header_is_told_apart() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(keyed(&path, with_salt()).plaintext_header()).await;
    let (usual, bare) = (directory.path().join("usual.db"), directory.path().join("bare.db"));
    create(keyed(&usual, with_salt())).await;
    create(plain(&bare)).await;
    let before = files(directory.path());
    let raw = |bytes| keyed(&path, Secret::raw_key([bytes; 32]));
    let cases: Vec<(&str, Builder, ErrorKind, Reason)> = vec![
        ("another key", raw(8).plaintext_header_with(SALT), ErrorKind::Encryption, Reason::WrongKey),
        ("another salt", raw(7).plaintext_header_with([9; 16]), ErrorKind::Encryption, Reason::WrongKey),
        ("no salt", raw(7).plaintext_header(), ErrorKind::Key, Reason::Missing),
        ("two salts", keyed(&path, with_salt()).plaintext_header_with([9; 16]), ErrorKind::Config, Reason::Unspecified),
        ("not announced", keyed(&path, with_salt()), ErrorKind::Encryption, Reason::OtherCipherSettings),
        ("no key", plain(&path), ErrorKind::Encryption, Reason::OtherCipherSettings),
        (
            "an encrypted header",
            keyed(&usual, with_salt()).plaintext_header(),
            ErrorKind::Encryption,
            Reason::OtherCipherSettings,
        ),
        ("a plaintext file", keyed(&bare, with_salt()).plaintext_header(), ErrorKind::Encryption, Reason::NotEncrypted),
        ("announced without a key", plain(&path).plaintext_header(), ErrorKind::Config, Reason::Unspecified),
    ];
    for (what, builder, kind, reason) in cases {
        let error: Error = refusal(builder).await;
        assert_eq!((error.kind(), error.reason()), (kind, reason), "{what}: {error}");
        assert!(error.advice().is_some(), "{what}: {error}");
    }
    assert!(files(directory.path()) == before);
}

#[tokio::test]
async fn numbers_that_no_file_has_are_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    let right = || keyed(&path, "right");
    let cases: [(Builder, &str); 7] = [
        (right().cipher_kdf_iter(0), "cipher_kdf_iter()"),
        (right().cipher_kdf_iter(u32::MAX), "cipher_kdf_iter()"),
        (right().cipher_page_size(0), "cipher_page_size()"),
        (right().cipher_page_size(1000), "cipher_page_size()"),
        (right().cipher_page_size(131_072), "cipher_page_size()"),
        (plain(&path).cipher_page_size(1024), "cipher_page_size()"),
        (plain(&path).cipher_kdf_iter(1024), "cipher_kdf_iter()"),
    ];
    for (builder, name) in cases {
        let error = refusal(builder).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(files(directory.path()).is_empty());
}

#[tokio::test]
async fn the_smallest_page_that_opens_again_works_in_each_version_and_a_smaller_one_is_refused() {
    for version in 1..=4 {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("app.db");
        let of = |page| keyed(&path, "right").cipher_compatibility(version).cipher_page_size(page);
        let error = refusal(of(512)).await;
        assert!(error.to_string().contains("between 1024 and 65536"), "{version}: {error}");
        for made in [true, false] {
            let db = of(1024).open().await.unwrap_or_else(|error| panic!("{version}, {made}: {error}"));
            db.execute("CREATE TABLE IF NOT EXISTS t (a)", ()).await.unwrap();
            db.execute("INSERT INTO t VALUES (zeroblob(5000))", ()).await.unwrap();
            db.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn closures_run_on_a_reader_beside_the_writer_and_cannot_write() {
    #[derive(Debug)]
    #[allow(dead_code, reason = "told by Debug")]
    enum Own {
        Sql(rusqlite::Error),
        Ours(Error),
        Mine,
    }
    impl From<rusqlite::Error> for Own {
        fn from(error: rusqlite::Error) -> Self {
            Self::Sql(error)
        }
    }
    impl From<Error> for Own {
        fn from(error: Error) -> Self {
            Self::Ours(error)
        }
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(keyed(&path, Secret::raw_key([7; 32]))).await;
    let db = keyed(&path, Secret::raw_key([7; 32])).pool_max(3).open().await.unwrap();
    let writer = db.connection().await.unwrap();
    let count = |c: &mut rusqlite::Connection| c.query_row("SELECT count(*) FROM t", (), |row| row.get::<_, i64>(0));
    assert_eq!(db.read_interact(count).await.unwrap(), 1);
    assert_eq!(db.try_read_interact(move |c| -> Result<i64, Own> { Ok(count(c)?) }).await.unwrap(), 1);
    let mine = db.try_read_interact(|_| -> Result<(), Own> { Err(Own::Mine) }).await;
    assert!(matches!(mine, Err(Own::Mine)));
    let refused = db.read_interact(|c| c.execute("DELETE FROM t", ())).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::NotWritable, "{refused}");
    let refused = db.try_read_interact(|c| -> Result<usize, Own> { Ok(c.execute("DELETE FROM t", ())?) }).await;
    assert!(matches!(refused, Err(Own::Sql(_))));
    drop(writer);
    db.close().await.unwrap();
    assert!(matches!(db.try_read_interact(|_| -> Result<(), Own> { Ok(()) }).await, Err(Own::Ours(_))));
}
