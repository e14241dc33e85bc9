//! What every result code of SQLite is called.
#![cfg(feature = "sqlite")]

use ErrorKind::{
    Busy, Cancelled, Connection, Constraint, Encryption, Query, Serialization, Storage, Transaction, Unsupported,
};
use Reason::{
    Broken, Check, Control, Damaged, DiskFull, Doomed, ForeignKey, Io, Moved, NotADatabase, NotAFile, NotFound,
    NotNull, NotPermitted, NotWritable, Parameters, Syntax, TooLarge, Type, Unique, Unspecified, WrongKey,
};
use rusqlite::ffi;
use strongroom::{AsyncDatabase, Error, ErrorKind, Reason, rusqlite};

const NO: bool = false;
const MAY_PASS: bool = true;

type Named = (ErrorKind, Reason, bool);

/// Every code that the bindings have a constant for.
#[rustfmt::skip]
const CODES: &[(i32, Named)] = &[
    (ffi::SQLITE_ERROR, (Query, Syntax, NO)),
    (ffi::SQLITE_ERROR_MISSING_COLLSEQ, (Query, Syntax, NO)),
    (ffi::SQLITE_ERROR_RETRY, (Query, Syntax, NO)),
    (ffi::SQLITE_ERROR_SNAPSHOT, (Serialization, Unspecified, MAY_PASS)),
    (ffi::SQLITE_ERROR_RESERVESIZE, (Query, Syntax, NO)),
    (ffi::SQLITE_ERROR_KEY, (Encryption, WrongKey, NO)),
    (ffi::SQLITE_ERROR_UNABLE, (Query, Syntax, NO)),
    (ffi::SQLITE_INTERNAL, (Connection, Broken, NO)),
    (ffi::SQLITE_PERM, (Connection, NotPermitted, NO)),
    (ffi::SQLITE_ABORT, (Cancelled, Unspecified, NO)),
    (ffi::SQLITE_ABORT_ROLLBACK, (Transaction, Doomed, NO)),
    (ffi::SQLITE_BUSY, (Busy, Unspecified, MAY_PASS)),
    (ffi::SQLITE_BUSY_RECOVERY, (Busy, Unspecified, MAY_PASS)),
    (ffi::SQLITE_BUSY_SNAPSHOT, (Serialization, Unspecified, MAY_PASS)),
    (ffi::SQLITE_BUSY_TIMEOUT, (Busy, Unspecified, MAY_PASS)),
    (ffi::SQLITE_LOCKED, (Busy, Unspecified, MAY_PASS)),
    (ffi::SQLITE_LOCKED_SHAREDCACHE, (Busy, Unspecified, MAY_PASS)),
    (ffi::SQLITE_LOCKED_VTAB, (Busy, Unspecified, MAY_PASS)),
    (ffi::SQLITE_NOMEM, (Storage, TooLarge, NO)),
    (ffi::SQLITE_READONLY, (Connection, NotWritable, NO)),
    (ffi::SQLITE_READONLY_RECOVERY, (Connection, NotWritable, NO)),
    (ffi::SQLITE_READONLY_CANTLOCK, (Connection, NotWritable, NO)),
    (ffi::SQLITE_READONLY_ROLLBACK, (Connection, NotWritable, NO)),
    (ffi::SQLITE_READONLY_DBMOVED, (Storage, Moved, NO)),
    (ffi::SQLITE_READONLY_CANTINIT, (Connection, NotWritable, NO)),
    (ffi::SQLITE_READONLY_DIRECTORY, (Connection, NotWritable, NO)),
    (ffi::SQLITE_INTERRUPT, (Cancelled, Unspecified, NO)),
    (ffi::SQLITE_IOERR, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_READ, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_SHORT_READ, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_WRITE, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_FSYNC, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_DIR_FSYNC, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_TRUNCATE, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_FSTAT, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_UNLOCK, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_RDLOCK, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_DELETE, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_BLOCKED, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_NOMEM, (Storage, TooLarge, NO)),
    (ffi::SQLITE_IOERR_ACCESS, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_CHECKRESERVEDLOCK, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_LOCK, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_CLOSE, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_DIR_CLOSE, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_SHMOPEN, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_SHMSIZE, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_SHMLOCK, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_SHMMAP, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_SEEK, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_DELETE_NOENT, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_MMAP, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_GETTEMPPATH, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_CONVPATH, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_VNODE, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_AUTH, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_BEGIN_ATOMIC, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_COMMIT_ATOMIC, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_ROLLBACK_ATOMIC, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_DATA, (Storage, Damaged, NO)),
    (ffi::SQLITE_IOERR_CORRUPTFS, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_IN_PAGE, (Storage, Io, NO)),
    (ffi::SQLITE_IOERR_BADKEY, (Encryption, WrongKey, NO)),
    (ffi::SQLITE_IOERR_CODEC, (Storage, Io, NO)),
    (ffi::SQLITE_CORRUPT, (Storage, Damaged, NO)),
    (ffi::SQLITE_CORRUPT_VTAB, (Storage, Damaged, NO)),
    (ffi::SQLITE_CORRUPT_SEQUENCE, (Storage, Damaged, NO)),
    (ffi::SQLITE_CORRUPT_INDEX, (Storage, Damaged, NO)),
    (ffi::SQLITE_NOTFOUND, (Unsupported, Unspecified, NO)),
    (ffi::SQLITE_FULL, (Storage, DiskFull, NO)),
    (ffi::SQLITE_CANTOPEN, (Connection, NotFound, NO)),
    (ffi::SQLITE_CANTOPEN_NOTEMPDIR, (Connection, NotFound, NO)),
    (ffi::SQLITE_CANTOPEN_ISDIR, (Connection, NotAFile, NO)),
    (ffi::SQLITE_CANTOPEN_FULLPATH, (Connection, NotFound, NO)),
    (ffi::SQLITE_CANTOPEN_CONVPATH, (Connection, NotFound, NO)),
    (ffi::SQLITE_CANTOPEN_DIRTYWAL, (Connection, NotFound, NO)),
    (ffi::SQLITE_CANTOPEN_SYMLINK, (Connection, NotAFile, NO)),
    (ffi::SQLITE_PROTOCOL, (Busy, Unspecified, MAY_PASS)),
    (ffi::SQLITE_EMPTY, (Storage, NotADatabase, NO)),
    (ffi::SQLITE_SCHEMA, (Serialization, Unspecified, MAY_PASS)),
    (ffi::SQLITE_TOOBIG, (Query, TooLarge, NO)),
    (ffi::SQLITE_CONSTRAINT, (Constraint, Unspecified, NO)),
    (ffi::SQLITE_CONSTRAINT_CHECK, (Constraint, Check, NO)),
    (ffi::SQLITE_CONSTRAINT_COMMITHOOK, (Constraint, Unspecified, NO)),
    (ffi::SQLITE_CONSTRAINT_FOREIGNKEY, (Constraint, ForeignKey, NO)),
    (ffi::SQLITE_CONSTRAINT_FUNCTION, (Constraint, Unspecified, NO)),
    (ffi::SQLITE_CONSTRAINT_NOTNULL, (Constraint, NotNull, NO)),
    (ffi::SQLITE_CONSTRAINT_PRIMARYKEY, (Constraint, Unique, NO)),
    (ffi::SQLITE_CONSTRAINT_TRIGGER, (Constraint, Unspecified, NO)),
    (ffi::SQLITE_CONSTRAINT_UNIQUE, (Constraint, Unique, NO)),
    (ffi::SQLITE_CONSTRAINT_VTAB, (Constraint, Unspecified, NO)),
    (ffi::SQLITE_CONSTRAINT_ROWID, (Constraint, Unique, NO)),
    (ffi::SQLITE_CONSTRAINT_PINNED, (Constraint, Unspecified, NO)),
    (ffi::SQLITE_CONSTRAINT_DATATYPE, (Constraint, Type, NO)),
    (ffi::SQLITE_MISMATCH, (Query, Type, NO)),
    (ffi::SQLITE_MISUSE, (Query, Unspecified, NO)),
    (ffi::SQLITE_NOLFS, (Storage, TooLarge, NO)),
    (ffi::SQLITE_AUTH, (Unsupported, Control, NO)),
    (ffi::SQLITE_AUTH_USER, (Unsupported, Control, NO)),
    (ffi::SQLITE_FORMAT, (Storage, NotADatabase, NO)),
    (ffi::SQLITE_RANGE, (Query, Parameters, NO)),
    (ffi::SQLITE_NOTADB, (Encryption, WrongKey, NO)),
    (ffi::SQLITE_NOTICE, (Query, Unspecified, NO)),
    (ffi::SQLITE_NOTICE_RECOVER_WAL, (Query, Unspecified, NO)),
    (ffi::SQLITE_NOTICE_RECOVER_ROLLBACK, (Query, Unspecified, NO)),
    (ffi::SQLITE_NOTICE_RBU, (Query, Unspecified, NO)),
    (ffi::SQLITE_WARNING, (Query, Unspecified, NO)),
    (ffi::SQLITE_WARNING_AUTOINDEX, (Query, Unspecified, NO)),
    (ffi::SQLITE_ROW, (Query, Unspecified, NO)),
    (ffi::SQLITE_DONE, (Query, Unspecified, NO)),
];

fn named(error: &Error) -> Named {
    (error.kind(), error.reason(), error.is_transient())
}

async fn told(db: &AsyncDatabase, code: i32) -> Error {
    let fail = move |_: &mut rusqlite::Connection| -> rusqlite::Result<()> {
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
    };
    db.interact(fail).await.unwrap_err()
}

#[tokio::test]
async fn every_code_has_a_kind_and_a_reason() {
    let db = AsyncDatabase::builder(":memory:").open().await.unwrap();
    for (code, expected) in CODES {
        assert_eq!(named(&told(&db, *code).await), *expected, "code {code}: {}", ffi::code_to_str(*code));
    }
    // One that a later SQLite may have means what its primary code means.
    assert_eq!(named(&told(&db, ffi::SQLITE_BUSY | 200 << 8).await), (Busy, Unspecified, MAY_PASS));
    assert_eq!(named(&told(&db, 99).await), (Connection, Unspecified, NO));
}

#[tokio::test]
async fn a_lock_inside_the_process_is_not_laid_at_another_ones_door() {
    let db = AsyncDatabase::builder(":memory:").open().await.unwrap();
    let locked = db
        .interact(|c| {
            c.execute_batch("CREATE TABLE t (n); INSERT INTO t VALUES (1), (2)")?;
            let mut reading = c.prepare("SELECT n FROM t")?;
            let mut rows = reading.query(())?;
            rows.next()?;
            c.execute_batch("DROP TABLE t")
        })
        .await
        .unwrap_err();
    assert_eq!(named(&locked), (Busy, Unspecified, MAY_PASS), "{locked}");
    assert!(!locked.to_string().contains("another process"), "{locked}");
}

#[tokio::test]
async fn a_file_that_a_statement_cannot_open_is_not_a_broken_connection() {
    let directory = tempfile::tempdir().unwrap();
    let db = AsyncDatabase::builder(directory.path().join("a.db")).open().await.unwrap();
    db.execute_script("CREATE TABLE t (n)").await.unwrap();
    // Only SQLite's code for Windows looks whether it is a directory.
    let directory_reason = if cfg!(windows) { NotAFile } else { NotFound };
    for (target, reason) in [("missing/copy.db", NotFound), ("", directory_reason)] {
        let sql = format!("VACUUM INTO '{}'", directory.path().join(target).display());
        let error = db.execute_script(&sql).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (Connection, reason), "{sql}: {error}");
    }
    assert_eq!(db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap().rows_affected, 1);
}
