//! Copies where the system refuses what only a part of all systems has, and files that are to be replaced when it fails
//! half way.
//!
//! This program has its own `flock`, `rename` and `chown`, which Rust's library finds before the system's.

#![cfg(all(feature = "sqlcipher", target_os = "linux"))]
#![allow(unsafe_code, reason = "functions of the C library are replaced and called")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::time::Duration;

use strongroom::sqlcipher::ReplaceOptions;
use strongroom::{AsyncDatabase, DatabaseBuilder, ErrorKind, Reason, Secret, SqlCipherConnector};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;

use cipher::{create, keyed, plain, read};

/// One test at a time: the faults are the process's.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The error of every lock; 0 for none.
static FLOCK: AtomicI32 = AtomicI32::new(0);
/// Whether nobody may give a file to another user.
static OWN: AtomicBool = AtomicBool::new(false);
/// Whether nobody may give it to another group either.
static GROUP: AtomicBool = AtomicBool::new(false);
/// To which name nothing can be renamed.
static RENAME: Mutex<Option<PathBuf>> = Mutex::new(None);

fn refuse(error: c_int) -> c_int {
    // SAFETY: the place is this thread's.
    unsafe { *libc::__errno_location() = error };
    -1
}

#[unsafe(no_mangle)]
extern "C" fn flock(fd: c_int, operation: c_int) -> c_int {
    match FLOCK.load(SeqCst) {
        // SAFETY: no memory is concerned.
        0 => c_int::try_from(unsafe { libc::syscall(libc::SYS_flock, fd, operation) }).unwrap(),
        error => refuse(error),
    }
}

#[unsafe(no_mangle)]
extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's own argument, a string.
    let name = unsafe { CStr::from_ptr(to) }.to_str().unwrap_or_default();
    if RENAME.lock().unwrap().as_deref() == Some(Path::new(name)) {
        return refuse(libc::EIO);
    }
    // SAFETY: the caller's own arguments.
    c_int::try_from(unsafe { libc::syscall(libc::SYS_renameat, libc::AT_FDCWD, from, libc::AT_FDCWD, to) }).unwrap()
}

#[unsafe(no_mangle)]
extern "C" fn chown(path: *const c_char, owner: libc::uid_t, group: libc::gid_t) -> c_int {
    if OWN.load(SeqCst) && owner != libc::uid_t::MAX || GROUP.load(SeqCst) {
        return refuse(libc::EPERM);
    }
    // SAFETY: the caller's own arguments.
    c_int::try_from(unsafe { libc::syscall(libc::SYS_fchownat, libc::AT_FDCWD, path, owner, group, 0) }).unwrap()
}

fn ours(path: &Path) -> DatabaseBuilder<SqlCipherConnector> {
    keyed(path, Secret::raw_key([7; 32]))
}

/// What lies there, but for the index of a log, which holds nothing of its own.
fn found(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = cipher::files(directory);
    found.retain(|name, _| !name.ends_with("-shm"));
    found
}

fn names(directory: &Path) -> Vec<String> {
    found(directory).into_keys().collect()
}

#[tokio::test]
async fn a_copy_is_made_where_files_cannot_be_locked() {
    let _turn = TURN.lock().await;
    for error in [libc::ENOLCK, libc::ENOSYS, libc::EOPNOTSUPP] {
        let home = TempDir::new().unwrap();
        let [path, copy] = ["a.db", "copy.db"].map(|name| home.path().join(name));
        create(ours(&path)).await;
        let db = ours(&path).open().await.unwrap();
        FLOCK.store(error, SeqCst);
        let copied = tokio::time::timeout(Duration::from_secs(20), db.backup_to(&copy)).await;
        FLOCK.store(0, SeqCst);
        copied.expect("it makes one file after the other").unwrap();
        db.close().await.unwrap();
        assert_eq!(names(home.path()), ["a.db", "copy.db"]);
        assert_eq!(read(ours(&copy)).await.unwrap(), "row");
    }
}

/// A database that was cut off, so that nobody can open it, with the log of a process that was killed. Gives it as it was.
async fn leave_damaged(path: &Path) -> Vec<u8> {
    let made = TempDir::new().unwrap();
    let from = made.path().join("a.db");
    let db = ours(&from).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES ('old'), (zeroblob(20000))").await.unwrap();
    db.close().await.unwrap();
    let db = ours(&from).open().await.unwrap();
    db.execute_script("UPDATE t SET a = 'older' WHERE a = 'old'").await.unwrap();
    let whole = std::fs::read(&from).unwrap();
    std::fs::write(path, &whole[..whole.len() - 4096]).unwrap();
    std::fs::copy(from.with_extension("db-wal"), path.with_extension("db-wal")).unwrap();
    whole
}

#[tokio::test]
async fn what_could_not_be_replaced_stands_there_with_its_log_as_before() {
    let _turn = TURN.lock().await;
    for kept in [None, Some("old.db")] {
        let home = TempDir::new().unwrap();
        let [path, copy] = ["a.db", "copy.db"].map(|name| home.path().join(name));
        create(ours(&copy)).await;
        leave_damaged(&path).await;
        let options = || match kept {
            Some(name) => ReplaceOptions::new().keep(home.path().join(name)),
            None => ReplaceOptions::new(),
        };
        let before = found(home.path());
        *RENAME.lock().unwrap() = Some(path.clone());
        let error = ours(&path).restore_from(&copy, options()).await.unwrap_err();
        *RENAME.lock().unwrap() = None;
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Storage, Reason::Io), "{error}");
        assert!(found(home.path()) == before, "{kept:?}: {:?}", names(home.path()));
        ours(&path).restore_from(&copy, options()).await.unwrap();
        assert_eq!(read(ours(&path)).await.unwrap(), "row");
    }
}

#[tokio::test]
async fn a_name_to_keep_it_by_whose_log_is_taken_leaves_nothing_behind() {
    let _turn = TURN.lock().await;
    let home = TempDir::new().unwrap();
    let [path, copy, old] = ["a.db", "copy.db", "old.db"].map(|name| home.path().join(name));
    create(ours(&copy)).await;
    let whole = leave_damaged(&path).await;
    std::fs::write(old.with_extension("db-wal"), b"of another database").unwrap();
    let before = found(home.path());
    let restore = || ours(&path).restore_from(&copy, ReplaceOptions::new().keep(&old));
    let error = restore().await.unwrap_err();
    assert!(error.to_string().contains("could not be kept as"), "{error}");
    assert!(found(home.path()) == before, "{:?}", names(home.path()));
    std::fs::remove_file(old.with_extension("db-wal")).unwrap();
    restore().await.unwrap();
    std::fs::write(&old, whole).unwrap();
    assert_eq!(read(ours(&old)).await.unwrap(), "older", "it is kept with its log");
}

#[tokio::test]
async fn who_may_not_give_files_away_gives_them_to_the_group_or_keeps_all_groups_out() {
    let _turn = TURN.lock().await;
    let another = 54_321;
    let home = TempDir::new().unwrap();
    let path = home.path().join("a.db");
    create(plain(&path)).await;
    // Only root can give it to a group that it is not in; for everybody else there is nothing to see here.
    if std::os::unix::fs::chown(&path, None, Some(another)).is_err() {
        eprintln!("skipped: needs root");
        return;
    }
    let own = path.metadata().unwrap().uid();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
    let encrypt = || ours(&path).encrypt(ReplaceOptions::new());
    let decrypt = || ours(&path).decrypt(ReplaceOptions::new());
    let seen = || path.metadata().map(|found| (found.uid(), found.gid(), found.mode() & 0o777)).unwrap();

    OWN.store(true, SeqCst);
    encrypt().await.unwrap();
    assert_eq!(seen(), (own, another, 0o660));

    GROUP.store(true, SeqCst);
    decrypt().await.unwrap();
    OWN.store(false, SeqCst);
    GROUP.store(false, SeqCst);
    let (owner, group, mode) = seen();
    assert!(owner == own && group != another);
    assert_eq!(mode, 0o600, "what its group may do is for no other group");
    let db: AsyncDatabase = plain(&path).open().await.unwrap();
    assert_eq!(db.fetch_value::<String>("SELECT a FROM t", ()).await.unwrap().as_deref(), Some("row"));
}
