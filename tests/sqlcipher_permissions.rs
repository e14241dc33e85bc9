//! What the operating system refuses: access, and file descriptors. Each in a process of its own, without privileges.

#![cfg(all(feature = "sqlcipher", target_os = "linux"))]

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use strongroom::{ErrorKind, Reason, Secret};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;

use cipher::{create, keyed, refusal};

const CHILD: &str = "STRONGROOM_TEST_PERMISSIONS";
const NOBODY: u32 = 65534;

/// Runs the test `name` again in a process that is not root and has `CHILD` set to `path`. False: this is that process.
fn parent(name: &str, path: &Path) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return false;
    }
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", name, "--nocapture"]).env(CHILD, path).current_dir("/");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "the child ran nothing: {said}");
    true
}

fn is_root() -> bool {
    // Who owns what this process creates.
    let probe = TempDir::new().unwrap();
    std::os::unix::fs::MetadataExt::uid(&probe.path().metadata().unwrap()) == 0
}

fn here() -> std::path::PathBuf {
    std::env::var_os(CHILD).unwrap().into()
}

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn key() -> Secret {
    Secret::raw_key([7; 32])
}

#[tokio::test]
async fn a_file_that_may_not_be_read_or_written_says_which() {
    let directory = TempDir::new().unwrap();
    if std::env::var_os(CHILD).is_none() {
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
async fn a_process_without_file_descriptors_says_so_and_heals() {
    let directory = TempDir::new().unwrap();
    if std::env::var_os(CHILD).is_none() {
        allow(directory.path(), 0o777);
    }
    if parent("a_process_without_file_descriptors_says_so_and_heals", directory.path()) {
        return;
    }
    let path = here().join("a.db");
    let db = keyed(&path, key()).pool_max(20).open().await.unwrap();
    let mut hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).take(100_000).collect();
    // From no descriptor at all to one too few for the second file of a connection.
    for left in 0..2 {
        hoard.truncate(hoard.len() - left);
        let error = db.read_connection().await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, Reason::TooManyOpenFiles), "{error}");
        assert!(error.to_string().contains("ulimit -n"), "{error}");
    }
    drop(hoard);
    db.read_connection().await.unwrap();
}
