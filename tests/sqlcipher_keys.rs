//! Keys: which are taken, which are refused, and how often they are asked for.

#![cfg(feature = "sqlcipher")]

use std::path::Path;

use proptest::prelude::*;
use strongroom::engine::Phase;
use strongroom::pool::NoRetry;
use strongroom::{AsyncDatabase, ErrorKind, Reason, Secret, apply_cipher_key, is_sqlcipher_available, rusqlite};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;

use cipher::{Counted, create, files, keyed, read, refusal};

#[tokio::test]
async fn passphrases_of_every_shape_open_what_they_created() {
    let long = "long ".repeat(2000);
    let passphrases: [&[u8]; 12] = [
        b"it's",
        b"''; DROP TABLE t; --",
        b"\"double\"",
        br"back\slash\",
        "пароль 🔑 mot de passe".as_bytes(),
        b"\xff\xfe not UTF-8",
        b"a",
        b" ",
        b"a line\n",
        b"x'not hex'",
        b"x'2a",
        long.as_bytes(),
    ];
    // An old format needs fewer rounds; its way to the engine is the same.
    let fast = |path: &Path, passphrase: &[u8]| keyed(path, passphrase).cipher_compatibility(2);
    for passphrase in passphrases {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("a.db");
        create(fast(&path, passphrase)).await;
        assert_eq!(read(fast(&path, passphrase)).await.unwrap(), "row");
        let shorter = &passphrase[..passphrase.len() - 1];
        if !shorter.is_empty() {
            // Nothing was cut off or taken for an end.
            let own = rusqlite::Connection::open(&path).unwrap();
            apply_cipher_key(&own, &Secret::new(shorter)).unwrap();
            own.execute_batch("PRAGMA cipher_compatibility = 2").unwrap();
            assert!(own.execute_batch("SELECT a FROM t").is_err(), "cut off: {}", passphrase.escape_ascii());
        }
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    create(keyed(&path, long.as_str())).await;
    assert_eq!(read(keyed(&path, long.as_str())).await.unwrap(), "row");
}

fn unusable() -> Vec<(Vec<u8>, Reason)> {
    let mut all = vec![(Vec::new(), Reason::Empty)];
    all.extend([b"\0".as_slice(), b"a\0b", b"at the end\0"].map(|nul| (nul.to_vec(), Reason::Malformed)));
    for digits in [1, 2, 63, 64, 65, 96, 160, 200] {
        for (open, digit) in [("x'", "a"), ("X'", "a"), ("x'", "A"), ("x'", "0")] {
            all.push((format!("{open}{}'", digit.repeat(digits)).into_bytes(), Reason::Malformed));
        }
    }
    all
}

#[tokio::test]
async fn passphrases_that_would_not_protect_are_refused_by_name_and_create_nothing() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    for (passphrase, reason) in unusable() {
        let name = passphrase.escape_ascii().to_string();
        let on_file = refusal(keyed(&path, passphrase.as_slice())).await;
        let in_memory = refusal(keyed(Path::new(":memory:"), passphrase.as_slice())).await;
        let applied = apply_cipher_key(&connection, &Secret::new(passphrase.as_slice())).unwrap_err();
        for error in [on_file, in_memory, applied] {
            assert_eq!((error.kind(), error.reason(), error.phase()), (ErrorKind::Key, reason, Some(Phase::Key)));
            assert!(!error.is_transient());
            let sentence = error.to_string();
            assert!(sentence.contains("Secret::raw_key"), "{name}: {sentence}");
            assert!(passphrase.len() < 4 || !sentence.contains(&name), "{sentence}");
        }
        assert!(files(directory.path()).is_empty(), "{name} created a file");
    }
}

proptest! {
    #[test]
    fn any_passphrase_is_a_key_or_refused_unseen(
        passphrase in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "[xX]?'?[0-9a-fA-Fg]{0,70}'?".prop_map(String::into_bytes),
        ],
    ) {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let digits = passphrase.strip_prefix(b"x'").or(passphrase.strip_prefix(b"X'"));
        let digits = digits.and_then(|rest| rest.strip_suffix(b"'"));
        let raw = digits.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit));
        let usable = !passphrase.is_empty() && !passphrase.contains(&0) && !raw;
        match apply_cipher_key(&connection, &Secret::new(&passphrase[..])) {
            Ok(()) => prop_assert!(usable),
            Err(error) => {
                prop_assert!(!usable && error.kind() == ErrorKind::Key, "{}", error);
                let shown = passphrase.escape_ascii().to_string();
                prop_assert!(shown.len() < 6 || !format!("{error} {error:?}").contains(&shown), "{}", error);
            }
        }
    }
}

#[tokio::test]
async fn a_raw_key_opens_what_it_created_and_every_file_has_its_own_salt() {
    let directory = TempDir::new().unwrap();
    let (a, b) = (directory.path().join("a.db"), directory.path().join("b.db"));
    create(keyed(&a, Secret::raw_key([7; 32]))).await;
    create(keyed(&b, Secret::raw_key([7; 32]))).await;
    assert_eq!(read(keyed(&a, Secret::raw_key([7; 32]))).await.unwrap(), "row");
    assert_eq!(refusal(keyed(&a, Secret::raw_key([8; 32]))).await.reason(), Reason::WrongKey);
    let on_disk = files(directory.path());
    assert_ne!(on_disk["a.db"][..16], on_disk["b.db"][..16]);
    assert_ne!(on_disk["a.db"][16..64], on_disk["b.db"][16..64]);
}

#[tokio::test]
async fn a_raw_key_with_salt_settles_the_first_bytes_of_the_file() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    create(keyed(&path, Secret::raw_key_with_salt([7; 32], *b"sixteen letters."))).await;
    assert_eq!(files(directory.path())["a.db"][..16], *b"sixteen letters.");
    // The salt is in the file, so the key alone will do; another salt will not.
    assert_eq!(read(keyed(&path, Secret::raw_key([7; 32]))).await.unwrap(), "row");
    let other = refusal(keyed(&path, Secret::raw_key_with_salt([7; 32], [10; 16]))).await;
    assert_eq!(other.reason(), Reason::WrongKey);
}

#[tokio::test]
async fn the_source_is_asked_once_however_many_connections_open() {
    let directory = TempDir::new().unwrap();
    let source = Counted::new("passphrase");
    let db = AsyncDatabase::builder(directory.path().join("a.db"))
        .key(source.clone())
        .pool_min(5)
        .pool_max(10)
        .open()
        .await
        .unwrap();
    assert_eq!(db.pool_size(), 5);
    let mut held = Vec::new();
    for _ in 0..9 {
        held.push(db.read_connection().await.unwrap());
    }
    assert_eq!((db.pool_size(), source.asked()), (10, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_that_come_at_the_same_moment_to_a_lazy_database_share_one_answer() {
    let directory = TempDir::new().unwrap();
    let source = Counted::new("passphrase");
    let db = AsyncDatabase::builder(directory.path().join("a.db")).key(source.clone()).build();
    let tasks = (0..16).map(|n| {
        let db = db.clone();
        tokio::spawn(async move { db.fetch_value::<i64>("SELECT $1", (n,)).await.unwrap() })
    });
    for (n, task) in (0..16).zip(tasks.collect::<Vec<_>>()) {
        assert_eq!(task.await.unwrap(), Some(n));
    }
    assert_eq!(source.asked(), 1);
}

#[tokio::test]
async fn a_connection_of_your_own_takes_the_same_keys() {
    assert!(is_sqlcipher_available());
    let directory = TempDir::new().unwrap();
    for (n, secret) in
        [Secret::new("it's"), Secret::raw_key([3; 32]), Secret::raw_key_with_salt([4; 32], [5; 16])].iter().enumerate()
    {
        let path = directory.path().join(format!("{n}.db"));
        create(keyed(&path, secret.clone())).await;
        let own = rusqlite::Connection::open(&path).unwrap();
        apply_cipher_key(&own, secret).unwrap();
        let row: String = own.query_row("SELECT a FROM t", (), |row| row.get(0)).unwrap();
        assert_eq!(row, "row");
    }
}

#[tokio::test]
async fn a_database_in_memory_is_encrypted_too_and_takes_any_key() {
    for secret in [Secret::new("it's"), Secret::raw_key([3; 32])] {
        let db = keyed(Path::new(":memory:"), secret).open().await.unwrap();
        assert!(db.is_encrypted());
        let status: Option<String> = db.fetch_value("PRAGMA cipher_status", ()).await.unwrap();
        assert_eq!(status.as_deref(), Some("1"));
    }
    let plain = AsyncDatabase::builder(":memory:").retry(NoRetry).open().await.unwrap();
    assert!(!plain.is_encrypted());
}
