//! What the operating system refuses: access, file descriptors, space. Each in a process of its own, without privileges,
//! and each is over once its cause is: the same handle works again.

#![cfg(all(feature = "sqlcipher", target_os = "linux"))]

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use strongroom::pool::Ping;
use strongroom::{AsyncDatabase, ErrorKind, Reason, Secret};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;
#[path = "common/unprivileged.rs"]
mod unprivileged;

use cipher::{create, keyed, refusal};
use unprivileged::{allow, here, is_child, parent};

const PUT: &str = "INSERT INTO t VALUES ('row')";

fn key() -> Secret {
    Secret::raw_key([7; 32])
}

#[tokio::test]
async fn a_file_that_may_not_be_read_or_written_says_which() {
    let directory = TempDir::new().unwrap();
    if !is_child() {
        create(keyed(&directory.path().join("hidden.db"), key())).await;
        create(keyed(&directory.path().join("read_only.db"), key())).await;
        allow(&directory.path().join("hidden.db"), 0o000);
        allow(&directory.path().join("read_only.db"), 0o444);
        allow(directory.path(), 0o555);
    }
    if parent("a_file_that_may_not_be_read_or_written_says_which", directory.path()) {
        return;
    }
    let hidden = refusal(keyed(&here().join("hidden.db"), key())).await;
    assert_eq!((hidden.kind(), hidden.reason()), (ErrorKind::Connection, Reason::NotPermitted), "{hidden}");
    assert!(hidden.to_string().contains("the system refused access; the process needs to read and write"), "{hidden}");
    let read_only = refusal(keyed(&here().join("read_only.db"), key())).await;
    assert_eq!(read_only.kind(), ErrorKind::Connection, "{read_only}");
    assert!(matches!(read_only.reason(), Reason::NotWritable | Reason::NotPermitted), "{read_only}");
    let new = refusal(keyed(&here().join("new.db"), key())).await;
    assert_eq!(new.kind(), ErrorKind::Connection, "{new}");
    assert!(new.to_string().contains("may write to the directory"), "{new}");
}

#[tokio::test]
async fn access_that_is_taken_away_and_given_back_heals_the_same_handle() {
    let directory = TempDir::new().unwrap();
    if !is_child() {
        allow(directory.path(), 0o777);
    }
    if parent("access_that_is_taken_away_and_given_back_heals_the_same_handle", directory.path()) {
        return;
    }
    // The owner here, and therefore able to take rights from itself.
    let inside = here().join("inside");
    std::fs::create_dir(&inside).unwrap();
    let path = inside.join("a.db");
    create(keyed(&path, key())).await;
    let handle = || keyed(&path, key()).health(Ping).pool_max(3);

    for (mode, reason) in [(0o000, Reason::NotPermitted), (0o400, Reason::NotWritable)] {
        let db = handle().build();
        allow(&path, mode);
        let read = db.fetch_all("SELECT a FROM t", ()).await;
        assert_eq!(read.is_ok(), mode == 0o400, "{mode:o}: {read:?}");
        for error in [read.err(), db.execute(PUT, ()).await.err()].into_iter().flatten() {
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, reason), "{mode:o}: {error}");
            assert!(error.to_string().contains("the process needs to"), "{mode:o}: no way out: {error}");
        }
        // The log and its index were created with the rights of the file.
        for end in ["a.db", "a.db-wal", "a.db-shm"] {
            std::fs::set_permissions(inside.join(end), Permissions::from_mode(0o600)).ok();
        }
        db.execute(PUT, ()).await.unwrap();
        db.fetch_all("SELECT a FROM t", ()).await.unwrap();
        db.close().await.unwrap();
    }

    // A directory in which nothing can be created: no log, and without the log no database.
    let db = handle().build();
    allow(&inside, 0o500);
    let error = db.execute(PUT, ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert!(matches!(error.reason(), Reason::NotPermitted | Reason::NotWritable), "{error:?}");
    assert!(error.to_string().contains("create files beside it"), "{error}");
    allow(&inside, 0o000);
    let error = db.execute(PUT, ()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, Reason::NotPermitted), "{error}");
    allow(&inside, 0o700);
    db.execute(PUT, ()).await.unwrap();

    // Who has the file open goes on, and nobody is told nonsense meanwhile.
    let _reader = db.read_connection().await.unwrap();
    allow(&path, 0o000);
    db.execute(PUT, ()).await.expect("an open file stays open");
    let error = db.read_connection().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, Reason::NotPermitted), "{error}");
    allow(&path, 0o600);
    db.read_connection().await.unwrap();
}

/// The size beyond which no file of this process may grow; `None` for any.
fn limit_files(bytes: Option<u64>) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

#[tokio::test]
async fn a_file_that_may_not_grow_costs_the_statement_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    if !is_child() {
        allow(directory.path(), 0o777);
    }
    if parent("a_file_that_may_not_grow_costs_the_statement_and_nothing_else", directory.path()) {
        return;
    }
    let db = keyed(&here().join("a.db"), key()).pool_max(3).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES ('before')").await.unwrap();
    limit_files(Some(1 << 20));
    let tall = "INSERT INTO t VALUES (zeroblob(3000000))";
    let group = futures_util::future::join_all((0..4).map(|_| db.execute(tall, ()))).await;
    let mut errors: Vec<_> = group.into_iter().map(Result::unwrap_err).collect();
    errors.push(db.transaction(async |tx| tx.execute(tall, ()).await).await.unwrap_err());
    errors.push(db.execute_many("INSERT INTO t VALUES ($1)", [(vec![0_u8; 3_000_000],)]).await.unwrap_err());
    for error in errors {
        let named = matches!(
            (error.kind(), error.reason()),
            (ErrorKind::Storage, Reason::Io | Reason::DiskFull) | (ErrorKind::OutcomeUnknown, Reason::Io)
        );
        assert!(named && error.to_string().contains(';'), "{error:?}");
    }
    let count = "SELECT count(*) FROM t";
    assert_eq!(db.fetch_value::<i64>(count, ()).await.unwrap(), Some(1), "nothing of it is there");
    db.execute(PUT, ()).await.expect("there is room for a small one");
    limit_files(None);
    db.execute(tall, ()).await.unwrap();
    assert_eq!(db.fetch_value::<i64>(count, ()).await.unwrap(), Some(3));
    whole(&db).await;
    db.close().await.unwrap();
}

/// A small file system of its own. Needs the right to mount one.
#[tokio::test]
async fn a_full_disk_costs_the_statement_and_heals_when_there_is_space_again() {
    let directory = TempDir::new().unwrap();
    let mount = |arguments: &[&str]| {
        let done =
            Command::new("mount").args(arguments).arg(directory.path()).stderr(std::process::Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=3m", "strongroom"]) {
        return println!("skipped: this process may not mount a file system");
    }
    let path = directory.path().join("a.db");
    let outcome = tokio::spawn(async move {
        let db = keyed(&path, key()).pool_max(3).open().await.unwrap();
        db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES ('before')").await.unwrap();
        let ballast = path.with_file_name("ballast");
        std::fs::write(&ballast, vec![1; 2_000_000]).unwrap();
        let tall = "INSERT INTO t VALUES (zeroblob(1500000))";
        for error in [
            db.execute(tall, ()).await.unwrap_err(),
            db.transaction(async |tx| tx.execute(tall, ()).await).await.unwrap_err(),
            db.execute_script(tall).await.unwrap_err(),
        ] {
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Storage, Reason::DiskFull), "{error}");
            assert!(error.to_string().contains("free space"), "{error}");
        }
        // Not a byte is left, for the log of anybody.
        let mut rest = File::create(path.with_file_name("rest")).unwrap();
        while std::io::Write::write(&mut rest, &[1; 512]).is_ok() {}
        let error = loop {
            match db.execute("INSERT INTO t VALUES (zeroblob(5000))", ()).await {
                Ok(_) => db.execute("DELETE FROM t WHERE a != 'before'", ()).await.map(drop).unwrap_or_default(),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Storage, Reason::DiskFull), "{error}");
        let new = refusal(keyed(&path.with_file_name("new.db"), key())).await;
        assert_eq!((new.kind(), new.reason()), (ErrorKind::Storage, Reason::DiskFull), "{new}");
        std::fs::remove_file(path.with_file_name("rest")).unwrap();
        std::fs::remove_file(&ballast).unwrap();
        db.execute("DELETE FROM t WHERE a != 'before'", ()).await.unwrap();
        db.execute(PUT, ()).await.unwrap();
        assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(2));
        whole(&db).await;
        db.close().await.unwrap();
    });
    let outcome = outcome.await;
    assert!(Command::new("umount").arg(directory.path()).status().unwrap().success());
    outcome.unwrap();
}

async fn whole(db: &AsyncDatabase) {
    let health: Option<String> = db.fetch_value("PRAGMA integrity_check", ()).await.unwrap();
    assert_eq!(health.as_deref(), Some("ok"));
    assert!(db.fetch_all("PRAGMA cipher_integrity_check", ()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_process_without_file_descriptors_says_so_and_heals() {
    let directory = TempDir::new().unwrap();
    if !is_child() {
        allow(directory.path(), 0o777);
    }
    if parent("a_process_without_file_descriptors_says_so_and_heals", directory.path()) {
        return;
    }
    let path = here().join("a.db");
    let first = keyed(&here().join("first.db"), key()).build();
    let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).take(100_000).collect();
    let error = first.connect().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, Reason::TooManyOpenFiles), "{error}");
    drop(hoard);
    first.connect().await.expect("the same handle creates it now");

    let db = keyed(&path, key()).pool_max(20).open().await.unwrap();
    let mut hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).take(100_000).collect();
    // From no descriptor at all to one too few for the second file of a connection.
    for left in 0..2 {
        hoard.truncate(hoard.len() - left);
        let error = db.read_connection().await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, Reason::TooManyOpenFiles), "{error}");
        assert!(error.to_string().contains("ulimit -n"), "{error}");
    }
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.expect("who is open goes on");
    drop(hoard);
    db.read_connection().await.unwrap();
}
