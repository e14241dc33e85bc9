//! A write whose rows cannot be read: it has taken effect all the same, and its error says so.
#![cfg(feature = "sqlite")]

mod common;

use common::{Home, Kind, assert_whole, count, eventually, kinds, with_table};
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use strongroom::engine::Phase;
use strongroom::sqlcipher::Tuning;
use strongroom::{AsyncDatabase, Error, ErrorKind, Reason};

const WRITE: &str = "INSERT INTO t (n) VALUES (1) RETURNING CAST(x'ff' AS TEXT)";
const READ: &str = "SELECT CAST(x'ff' AS TEXT) FROM t";
const MISFIT: (ErrorKind, Reason) = (ErrorKind::Query, Reason::Type);

/// Each kind of database, with short statements on the caller's task, and with everything on threads.
async fn homes() -> Vec<(Home, AsyncDatabase)> {
    let mut homes = Vec::new();
    for kind in Kind::ALL {
        for inline in [true, false] {
            let home = Home::new(kind);
            let tuning = Tuning::default().inline_reads(inline).inline_writes(inline);
            let db = home.builder().tuning(tuning).open().await.unwrap();
            with_table(&db).await;
            homes.push((home, db));
        }
    }
    homes
}

fn assert_says_so(error: &Error, what: &str) {
    assert_eq!((kinds(error), error.phase()), (MISFIT, Some(Phase::Answer)), "{what}: {error}");
    assert!(
        error.to_string().starts_with("the statement has taken effect, but its answer cannot be read: "),
        "{error}"
    );
    assert!(!error.is_transient(), "{what}: somebody might do it again");
}

/// Calls `$call` of whatever has the one-liners, and says what failed and how.
macro_rules! all_calls {
    ($on:ident, $sql:expr, $number:expr) => {
        [
            ("execute", $on.execute($sql, ()).await.map(drop)),
            ("fetch_one", $on.fetch_one($sql, ()).await.map(drop)),
            ("fetch_all", $on.fetch_all($sql, ()).await.map(drop)),
            ("fetch_value", $on.fetch_value::<i64>($number, ()).await.map(drop)),
            ("fetch_one_as", $on.fetch_one_as::<i64>($number, ()).await.map(drop)),
            ("fetch_all_as", $on.fetch_all_as::<i64>($number, ()).await.map(drop)),
            ("fetch_stream", $on.fetch_stream($sql, ()).try_collect::<Vec<_>>().await.map(drop)),
        ]
    };
}

#[tokio::test]
async fn every_call_says_that_a_write_has_taken_effect_whose_rows_cannot_be_read() {
    for (_home, db) in homes().await {
        // Prepared and known to be short, and then anew.
        for _ in 0..2 {
            let before = count(&db).await;
            let calls = all_calls!(db, WRITE, "INSERT INTO t (n) VALUES (1) RETURNING 'no number'");
            for (call, outcome) in &calls {
                assert_says_so(outcome.as_ref().unwrap_err(), call);
            }
            assert_eq!(count(&db).await, before + 7, "one of them was undone, or done twice");
        }
        let mut raw = db.connection().await.unwrap();
        raw.execute("BEGIN", ()).await.unwrap();
        for (call, outcome) in all_calls!(raw, WRITE, WRITE) {
            assert_says_so(&outcome.unwrap_err(), call);
        }
        raw.execute("COMMIT", ()).await.unwrap();
        drop(raw);
        assert_eq!(count(&db).await, 21);
        assert_whole(&db, "after answers that nobody could read").await;
    }
}

#[tokio::test]
async fn a_read_whose_rows_cannot_be_read_says_nothing_of_an_effect() {
    for (_home, db) in homes().await {
        db.execute("INSERT INTO t VALUES (1, 1)", ()).await.unwrap();
        for sql in [READ, "SELECT 'no number'"] {
            let number = if sql == READ { "SELECT 'no number' FROM t" } else { sql };
            for (call, outcome) in all_calls!(db, sql, number) {
                let Err(error) = outcome else { continue };
                assert_eq!(kinds(&error), MISFIT, "{call}: {error}");
                assert!(
                    error.phase() != Some(Phase::Answer) && !error.to_string().contains("effect"),
                    "{call}: {error}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_transaction_in_which_an_answer_was_not_utf_8_is_rolled_back_as_after_any_error() {
    for (_home, db) in homes().await {
        let mut tx = db.begin().await.unwrap();
        assert_says_so(&tx.execute(WRITE, ()).await.unwrap_err(), "execute");
        assert_eq!(tx.commit().await.unwrap_err().reason(), Reason::Doomed);
        assert_eq!(count(&db).await, 0);
        let mut tx = db.begin().await.unwrap();
        let mut nested = tx.begin().await.unwrap();
        assert_says_so(&nested.execute(WRITE, ()).await.unwrap_err(), "execute");
        nested.rollback().await.unwrap();
        tx.execute("INSERT INTO t (n) VALUES (2)", ()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(count(&db).await, 1);
    }
}

#[tokio::test]
async fn what_the_end_of_a_write_refuses_is_told_instead_and_has_changed_nothing() {
    for (_home, db) in homes().await {
        db.execute_script("CREATE TABLE late (id REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)").await.unwrap();
        let sql = "INSERT INTO late VALUES (7) RETURNING CAST(x'ff' AS TEXT)";
        for (call, outcome) in all_calls!(db, sql, sql) {
            let error = outcome.unwrap_err();
            assert_eq!(kinds(&error), (ErrorKind::Constraint, Reason::ForeignKey), "{call}: {error}");
        }
        assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM late", ()).await.unwrap(), Some(0));
    }
}

#[tokio::test]
async fn in_a_group_it_disturbs_nobody_and_each_is_told_what_became_of_its_own() {
    for (_home, db) in homes().await {
        let held = db.connection().await.unwrap();
        let mut writes = Vec::new();
        for n in 0..40 {
            let db = db.clone();
            let sql = if n % 2 == 0 { WRITE } else { "INSERT INTO t (n) VALUES (2) RETURNING n" };
            writes.push(tokio::spawn(async move { db.fetch_one(sql, ()).await }));
        }
        eventually("all wait", || db.stats().waiting >= 40).await;
        drop(held);
        for (n, outcome) in join_all(writes).await.into_iter().enumerate() {
            match outcome.unwrap() {
                Ok(row) => assert_eq!(row.unwrap().get::<i64>(0).unwrap(), 2, "{n}"),
                Err(error) => {
                    assert_eq!(n % 2, 0, "{error}");
                    assert_says_so(&error, "in a group");
                }
            }
        }
        assert_eq!(count(&db).await, 40);
    }
}
