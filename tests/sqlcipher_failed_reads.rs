//! A disk that cannot be read or opened is called that: not damage, not a wrong key, not a missing permission.
#![cfg(all(feature = "sqlite", target_os = "linux", target_env = "gnu"))]

mod common;
#[path = "common/faults.rs"]
mod faults;

use std::path::PathBuf;

use common::{Home, Kind, count, kinds, with_table};
use faults::Call;
use strongroom::database::CheckDepth;
use strongroom::{AsyncDatabase, Error, ErrorKind, Reason};

const FAILED: (ErrorKind, Reason) = (ErrorKind::Storage, Reason::Io);

fn file_of(home: &Home, ending: &str) -> PathBuf {
    home.directory.path().canonicalize().unwrap().join(format!("app.db{ending}"))
}

/// A database whose pages no connection has read yet.
async fn unread(kind: Kind) -> (Home, AsyncDatabase) {
    let home = Home::new(kind);
    let db = home.open().await;
    with_table(&db).await;
    db.execute("CREATE TABLE big (bytes)", ()).await.unwrap();
    let fill = "INSERT INTO big WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
                SELECT randomblob(1000) FROM n";
    db.execute(fill, ()).await.unwrap();
    db.close().await.unwrap();
    let db = home.open().await;
    (home, db)
}

#[track_caller]
fn assert_failed(error: &Error, what: &str) {
    assert_eq!(kinds(error), FAILED, "{what}: {error}");
    assert!(error.to_string().contains("Input/output error"), "{what}: {error}");
    assert!(!error.to_string().contains("damaged"), "{what}: {error}");
}

const SUM: &str = "SELECT sum(length(bytes)) FROM big";

#[tokio::test]
async fn a_page_that_the_disk_does_not_give_is_no_damage() {
    for kind in Kind::FILES {
        let (home, db) = unread(kind).await;
        let file = file_of(&home, "");
        faults::fail(&file, Call::Read, 0, usize::MAX, libc::EIO);
        assert_failed(&db.fetch_one(SUM, ()).await.unwrap_err(), "query");
        assert_failed(&db.execute("UPDATE big SET bytes = 1", ()).await.unwrap_err(), "write");
        assert_failed(&db.execute_script("DELETE FROM big WHERE length(bytes) = 2").await.unwrap_err(), "script");
        assert!(faults::heal(&file) > 0);
        assert_eq!(db.fetch_one(SUM, ()).await.unwrap().unwrap().get::<i64>(0).unwrap(), 300_000, "{kind:?}");
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn the_log_is_a_file_too() {
    let (home, db) = unread(Kind::KeyedFile).await;
    db.execute("UPDATE big SET bytes = randomblob(1000)", ()).await.unwrap();
    let log = file_of(&home, "-wal");
    faults::fail(&log, Call::Read, 0, usize::MAX, libc::EIO);
    assert_failed(&db.fetch_one(SUM, ()).await.unwrap_err(), "query");
    assert!(faults::heal(&log) > 0);
    assert_eq!(db.fetch_one(SUM, ()).await.unwrap().unwrap().get::<i64>(0).unwrap(), 300_000);
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_failed_read_that_an_error_of_the_callers_own_hides_costs_the_connection_all_the_same() {
    struct Mine;
    impl From<Error> for Mine {
        fn from(_: Error) -> Self {
            Self
        }
    }
    for hidden in [true, false] {
        let (home, db) = unread(Kind::KeyedFile).await;
        let (file, before) = (file_of(&home, ""), db.stats().total_opened);
        faults::fail(&file, Call::Read, 0, usize::MAX, libc::EIO);
        let read = db.try_interact(move |c| {
            let sum = c.query_row(SUM, (), |row| row.get::<_, i64>(0));
            // Other calls succeed in between.
            c.query_row("SELECT 1", (), |_| Ok(())).unwrap();
            if hidden { sum.map_err(|_| Mine) } else { Ok(sum.unwrap_or(0)) }
        });
        assert_eq!(read.await.is_err(), hidden);
        assert!(faults::heal(&file) > 0);
        db.execute("UPDATE big SET bytes = randomblob(1000)", ()).await.unwrap();
        assert!(db.stats().total_opened > before, "the connection that met the failure was lent again");
        assert_eq!(db.fetch_one(SUM, ()).await.unwrap().unwrap().get::<i64>(0).unwrap(), 300_000);
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_check_does_not_take_a_failed_read_for_damage() {
    for kind in Kind::FILES {
        for depth in [CheckDepth::Quick, CheckDepth::Full] {
            let (home, db) = unread(kind).await;
            let file = file_of(&home, "");
            faults::fail(&file, Call::Read, 0, usize::MAX, libc::EIO);
            assert_failed(&db.check(depth).await.unwrap_err(), "check");
            faults::heal(&file);
            assert!(db.check(depth).await.unwrap().is_ok());
            db.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_open_says_that_the_disk_failed_whichever_call_it_was() {
    for kind in Kind::FILES {
        let (home, db) = unread(kind).await;
        db.close().await.unwrap();
        for (ending, call) in
            [("", Call::Read), ("", Call::Open), ("-wal", Call::Open), ("-shm", Call::Open), ("-wal", Call::Read)]
        {
            let (file, mut failed) = (file_of(&home, ending), 0);
            for skip in 0..6 {
                faults::fail(&file, call, skip, usize::MAX, libc::EIO);
                let opened = home.builder().open().await;
                let met = faults::heal(&file);
                match opened {
                    Err(error) => {
                        assert_failed(&error, &format!("{kind:?} {ending} {call:?} {skip}"));
                        failed += 1;
                    }
                    Ok(db) => drop(db.close().await.unwrap()),
                }
                assert!(met > 0 || skip > 0 || ending == "-wal" && call == Call::Read, "{ending} {call:?} was not met");
            }
            assert!(failed > 0 || ending == "-wal" && call == Call::Read, "{ending} {call:?}");
        }
        let db = home.open().await;
        assert_eq!(count(&db).await, 0);
        db.close().await.unwrap();
    }
}

/// The log that a program left when it was killed is read by the next open.
#[tokio::test]
async fn an_open_that_cannot_read_the_log_of_a_killed_program_says_so_and_loses_nothing() {
    for kind in Kind::FILES {
        let (killed, left) = (Home::new(kind), Home::new(kind));
        let db = killed.open().await;
        with_table(&db).await;
        db.execute("INSERT INTO t (n) VALUES (7)", ()).await.unwrap();
        for ending in ["", "-wal"] {
            std::fs::copy(file_of(&killed, ending), left.directory.path().join(format!("app.db{ending}"))).unwrap();
        }
        db.close().await.unwrap();
        let log = file_of(&left, "-wal");
        let mut failed = 0;
        for skip in 0..8 {
            faults::fail(&log, Call::Read, skip, usize::MAX, libc::EIO);
            let opened = left.builder().open().await;
            let met = faults::heal(&log);
            assert_eq!(opened.is_err(), met > 0, "{kind:?} {skip}: {opened:?}");
            match opened {
                Err(error) => assert_failed(&error, &format!("{kind:?} {skip}")),
                Ok(db) => {
                    // Closed by itself, the database would fold the log into the file.
                    assert_eq!(count(&db).await, 1);
                    db.close().await.unwrap();
                    break;
                }
            }
            failed += 1;
        }
        assert!(failed > 0, "{kind:?}: the log was not read");
        assert_eq!(count(&left.open().await).await, 1);
    }
}

#[tokio::test]
async fn other_causes_of_a_failed_open_keep_their_names() {
    let (home, db) = unread(Kind::KeyedFile).await;
    db.close().await.unwrap();
    faults::fail(&file_of(&home, ""), Call::Open, 0, usize::MAX, libc::EACCES);
    let error = home.builder().open().await.unwrap_err();
    faults::heal(&file_of(&home, ""));
    assert_eq!(kinds(&error), (ErrorKind::Connection, Reason::NotPermitted), "{error}");
}

#[tokio::test]
async fn what_the_disk_does_not_give_while_a_statement_is_prepared_is_neither_damaged_nor_missing() {
    for kind in Kind::FILES {
        let (home, db) = unread(kind).await;
        let other = home.open().await;
        other.execute("CREATE VIRTUAL TABLE words USING fts5 (word)", ()).await.unwrap();
        // The next statements are prepared on this task, and by a connection that knows the schema.
        for _ in 0..3 {
            db.fetch_one(SUM, ()).await.unwrap();
        }
        // To prepare it reads a table; the other one is in nobody's memory.
        for (what, sql) in [("a virtual table", "SELECT word FROM words"), ("a new table", "SELECT a FROM new")] {
            if what == "a new table" {
                other.execute("CREATE TABLE new (a)", ()).await.unwrap();
            }
            let opened = db.stats().total_opened;
            let files = [file_of(&home, ""), file_of(&home, "-wal")];
            for file in &files {
                faults::fail(file, Call::Read, 0, usize::MAX, libc::EIO);
            }
            let error = db.fetch_all(sql, ()).await.unwrap_err();
            assert!(files.iter().map(|file| faults::heal(file)).sum::<usize>() > 0, "{kind:?}, {what}");
            assert_failed(&error, what);
            assert!(db.fetch_all(sql, ()).await.unwrap().is_empty(), "{kind:?}, {what}");
            assert_eq!(db.stats().total_opened, opened + 1, "{kind:?}, {what}: who met it is lent again");
        }
        other.close().await.unwrap();
        db.close().await.unwrap();
    }
}
