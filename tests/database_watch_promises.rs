//! What observers of values promise elsewhere, and what users of those have met: GRDB.swift's `ValueObservation`, by the numbers of
//! its issues. The first result, the last one, none that is torn; who writes, closes, sleeps or alters the schema meanwhile.
#![cfg(feature = "sqlcipher")]

mod common;
#[path = "common/other.rs"]
mod other;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::{Home, Kind, millis, poll_once, secs};
use futures_util::future::join_all;
use other::Other;
use strongroom::database::{Event, Observer, WatchStream};
use strongroom::pool::SuspendOptions;
use strongroom::{AsyncDatabase, ErrorKind, Result};
use tokio::time::timeout;

const SCHEMA: &str = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
     CREATE TABLE logs (id INTEGER PRIMARY KEY, line TEXT)";
const COUNT: &str = "SELECT count(*) FROM users";
const INSERT: &str = "INSERT INTO users (name) VALUES ('x')";
/// Adds up both tables, to which each transaction adds one row.
const BOTH: &str = "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM logs)";

async fn next<T>(watched: &mut WatchStream<T>) -> T {
    timeout(secs(10), watched.next()).await.expect("a result comes").expect("the stream goes on").unwrap()
}

async fn comes_to<T: PartialEq + Debug>(watched: &mut WatchStream<Vec<T>>, last: &[T]) {
    while next(watched).await != last {}
}

async fn assert_silent<T: Debug>(watched: &mut WatchStream<T>) {
    let more = timeout(millis(60), watched.next()).await;
    assert!(more.is_err(), "nothing has changed: {more:?}");
}

async fn with_schema(home: &Home) -> AsyncDatabase {
    let db = home.open().await;
    db.execute_script(SCHEMA).await.unwrap();
    db
}

#[test]
fn the_other_process() {
    other::be_the_other_process();
}

/// #601: an observation did not begin as long as a transaction of seconds was open.
#[tokio::test]
async fn the_first_result_does_not_wait_for_a_transaction_that_is_open_and_its_commit_is_shown_after_it() -> Result<()>
{
    for kind in Kind::FILES {
        for commits in [true, false] {
            let home = Home::new(kind);
            let db = with_schema(&home).await;
            let mut open = db.begin().await?;
            open.execute(INSERT, ()).await?;
            // The first watch of all, for which the engine has to be told to tell, and one more.
            let mut watched = [db.watch_as::<i64>(COUNT, ()), db.watch_as::<i64>(COUNT, ())];
            for count in &mut watched {
                assert_eq!(next(count).await, [0], "{kind:?}: what is committed, at once");
                assert_silent(count).await;
            }
            if commits {
                open.commit().await?;
            } else {
                open.rollback().await?;
            }
            for count in &mut watched {
                if commits {
                    assert_eq!(next(count).await, [1], "{kind:?}");
                }
                assert_silent(count).await;
            }
            db.execute(INSERT, ()).await?;
            for count in &mut watched {
                assert_eq!(next(count).await, [1 + i64::from(commits)], "{kind:?}");
            }
        }
    }
    Ok(())
}

/// The first result came without the writer; when that cannot be had either, later, the stream says so and is over.
#[tokio::test]
async fn a_watch_whose_writer_never_comes_back_ends_with_an_error_after_its_first_result() -> Result<()> {
    let home = Home::new(Kind::PlainFile);
    let db = home.builder().pool_timeout(millis(100)).open().await?;
    db.execute_script(SCHEMA).await?;
    let kept = db.begin().await?;
    let mut count = db.watch_as::<i64>(COUNT, ());
    assert_eq!(next(&mut count).await, [0]);
    let error = timeout(secs(10), count.next()).await.expect("it is told").unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PoolExhausted, "{error}");
    assert!(count.next().await.is_none());
    kept.rollback().await
}

/// #1362: many observations that began while somebody wrote held all readers and waited for the writer, which waited for a reader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_watches_that_begin_while_somebody_writes_do_not_wait_for_each_other() -> Result<()> {
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().pool_max(3).open().await?;
    db.execute_script(SCHEMA).await?;
    let writer = tokio::spawn({
        let db = db.clone();
        async move {
            for _ in 0..200 {
                db.transaction(async |tx| {
                    tx.execute(INSERT, ()).await?;
                    tx.execute("INSERT INTO logs DEFAULT VALUES", ()).await
                })
                .await
                .unwrap();
            }
        }
    });
    let watchers = (0..40).map(|number| {
        let db = db.clone();
        tokio::spawn(async move {
            tokio::time::sleep(millis(number % 7)).await;
            let mut watched = db.watch_as::<(i64, i64)>(BOTH, ()).settle(Duration::ZERO);
            let mut last = -1;
            while last < 200 {
                let [(users, logs)] = next(&mut watched).await[..] else { panic!("one row") };
                assert_eq!(users, logs, "a state that never was");
                assert!(users > last, "{users} after {last}");
                last = users;
            }
        })
    });
    let watchers: Vec<_> = watchers.collect();
    timeout(secs(60), async {
        writer.await.unwrap();
        join_all(watchers).await.into_iter().for_each(|watcher| watcher.unwrap());
    })
    .await
    .expect("nobody waits for ever");
    Ok(())
}

/// How often the statement ran.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicUsize>);

impl Observer for Runs {
    fn observe(&self, event: &Event<'_>) {
        if let Event::CallEnded(call, _) = event {
            self.0.fetch_add(usize::from(call.sql == Some(COUNT)), SeqCst);
        }
    }
}

/// #937: the first result came twice, and the statement ran twice for it.
#[tokio::test]
async fn the_first_result_comes_once_and_is_read_once() -> Result<()> {
    for kind in Kind::ALL {
        let (home, runs) = (Home::new(kind), Runs::default());
        let db = home.builder().observer(runs.clone()).open().await?;
        db.execute_script(SCHEMA).await?;
        let mut count = db.watch_as::<i64>(COUNT, ());
        assert_eq!(next(&mut count).await, [0]);
        assert_silent(&mut count).await;
        assert_eq!(runs.0.load(SeqCst), 1, "{kind:?}");
    }
    Ok(())
}

/// #1195: observations that were cancelled as soon as they began ended the program.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_are_dropped_as_soon_as_they_begin_leave_nothing() -> Result<()> {
    let home = Home::new(Kind::KeyedFile);
    let db = with_schema(&home).await;
    for turn in 0..200_u64 {
        let mut count = db.watch_as::<i64>(COUNT, ()).settle(Duration::ZERO);
        match turn % 4 {
            0 => {}
            1 => drop(poll_once(std::pin::pin!(count.next()))),
            2 => drop(timeout(Duration::from_micros(turn), count.next()).await),
            _ => drop(tokio::join!(timeout(Duration::from_micros(turn), count.next()), db.execute(INSERT, ()))),
        }
    }
    let mut count = db.watch_as::<i64>(COUNT, ());
    assert_eq!(next(&mut count).await, [50], "and others watch as before");
    drop(count);
    common::eventually("all connections are back", || db.stats().active_connections == 0).await;
    let report = db.close().await?;
    assert!(report.is_clean(), "{report:?}");
    Ok(())
}

/// #702: what an extension of the program wrote, in a process of its own, was not shown by the program.
#[tokio::test]
async fn what_another_process_commits_is_shown_and_what_it_was_killed_over_is_not() -> Result<()> {
    let home = Home::new(Kind::KeyedFile);
    let db = with_schema(&home).await;
    let mut both = db.watch_as::<(i64, i64)>(BOTH, ()).look_every(millis(5));
    assert_eq!(next(&mut both).await, [(0, 0)]);
    let mut extension = Other::open(&home.path());
    for done in 1..=3 {
        extension.run("BEGIN IMMEDIATE");
        extension.run(INSERT);
        assert_silent(&mut both).await;
        extension.run("INSERT INTO logs DEFAULT VALUES; COMMIT");
        assert_eq!(next(&mut both).await, [(done, done)], "never one table without the other");
    }
    extension.run("CREATE TABLE more (a); INSERT INTO logs DEFAULT VALUES");
    assert_eq!(next(&mut both).await, [(3, 4)], "its changes of the schema neither");
    extension.run("BEGIN IMMEDIATE; DELETE FROM users");
    extension.kill();
    assert_silent(&mut both).await;
    db.execute(INSERT, ()).await?;
    assert_eq!(next(&mut both).await, [(4, 4)]);
    Ok(())
}

/// #702 again: the program sleeps in the background while its extension writes.
#[tokio::test]
async fn what_another_process_commits_while_the_program_sleeps_is_shown_when_it_wakes() -> Result<()> {
    let home = Home::new(Kind::KeyedFile);
    let db = with_schema(&home).await;
    let mut before = db.watch_as::<i64>(COUNT, ()).look_every(millis(5));
    assert_eq!(next(&mut before).await, [0]);
    let mut extension = Other::open(&home.path());
    db.suspend_with(SuspendOptions::new().until_resumed()).await?;
    extension.run(INSERT);
    // One that begins now waits like any other call.
    let mut during = db.watch_as::<i64>(COUNT, ()).look_every(millis(5));
    assert_silent(&mut before).await;
    assert_silent(&mut during).await;
    assert!(db.is_suspended());
    extension.run(INSERT);
    db.resume();
    assert_eq!(next(&mut before).await, [2], "the last state, not each one");
    assert_eq!(next(&mut during).await, [2]);
    extension.run(INSERT);
    assert_eq!((next(&mut before).await, next(&mut during).await), (vec![3], vec![3]));
    Ok(())
}

#[tokio::test]
async fn closing_the_database_ends_each_watch_wherever_it_stands() -> Result<()> {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = with_schema(&home).await;
        let mut waiting = db.watch_as::<i64>(COUNT, ());
        assert_eq!(next(&mut waiting).await, [0]);
        let mut unread = db.watch_as::<i64>(COUNT, ());
        assert_eq!(next(&mut unread).await, [0]);
        let mut not_begun = db.watch_as::<i64>(COUNT, ());
        let ended = tokio::spawn(async move { waiting.next().await.is_none() });
        tokio::task::yield_now().await;
        db.execute(INSERT, ()).await?;
        let report = timeout(secs(10), db.close()).await.expect("a watch does not hold it up")?;
        assert!(report.is_clean(), "{kind:?}: {report:?}");
        // What was committed before may still have been shown.
        let _shown_or_ended = timeout(secs(10), ended).await.expect("it is woken").unwrap();
        assert!(timeout(secs(10), unread.next()).await.expect("it is over").is_none(), "{kind:?}");
        let error = not_begun.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{kind:?}");
        assert!(not_begun.next().await.is_none());
    }
    Ok(())
}

#[tokio::test]
async fn closing_while_a_watch_still_waits_for_the_writer_ends_it() -> Result<()> {
    let home = Home::new(Kind::PlainFile);
    let db = with_schema(&home).await;
    let open = db.begin().await?;
    let mut count = db.watch_as::<i64>(COUNT, ());
    assert_eq!(next(&mut count).await, [0]);
    let ended = tokio::spawn(async move { count.next().await.is_none() });
    tokio::task::yield_now().await;
    let (closed, ()) = tokio::join!(db.close(), async {
        tokio::time::sleep(millis(20)).await;
        drop(open);
    });
    closed?;
    assert!(timeout(secs(10), ended).await.expect("it is woken").unwrap(), "it ends as others do");
    Ok(())
}

/// #1500: the schema that a reader had seen before was taken for that of now.
#[tokio::test]
async fn a_watched_table_that_is_altered_dropped_or_made_again_is_followed_or_its_watch_says_that_it_is_gone()
-> Result<()> {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = with_schema(&home).await;
        // Every reader has seen the schema of before.
        join_all((0..8).map(|_| db.fetch_value::<i64>(COUNT, ()))).await;
        let mut count = db.watch_as::<i64>(COUNT, ());
        let mut names = db.watch_as::<String>("SELECT name FROM users", ());
        assert_eq!((next(&mut count).await, next(&mut names).await.len()), (vec![0], 0));
        // Made again in one transaction: the new one is watched, and nobody sees that there was none.
        db.execute_script(
            "BEGIN; ALTER TABLE users RENAME TO old; CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, mail TEXT);
             INSERT INTO users (name) SELECT name FROM old; DROP TABLE old; INSERT INTO users (name) VALUES ('alice'); COMMIT",
        )
        .await?;
        assert_eq!((next(&mut count).await, next(&mut names).await), (vec![1], vec!["alice".to_owned()]), "{kind:?}");
        db.execute(INSERT, ()).await?;
        assert_eq!((next(&mut count).await, next(&mut names).await.len()), (vec![2], 2), "{kind:?}");
        // An index changes no result.
        db.execute("CREATE INDEX by_name ON users (name)", ()).await?;
        assert_silent(&mut count).await;
        // A column that it reads is gone; whoever does not read it watches on.
        db.execute("ALTER TABLE users RENAME COLUMN name TO called", ()).await?;
        let gone = timeout(secs(10), names.next()).await.unwrap().unwrap().unwrap_err();
        assert!(gone.kind() == ErrorKind::Query && gone.to_string().contains("name"), "{kind:?}: {gone}");
        assert!(names.next().await.is_none(), "nothing comes after an error");
        db.execute("INSERT INTO users (called) VALUES ('x')", ()).await?;
        assert_eq!(next(&mut count).await, [3], "{kind:?}");
        // Dropped for good, and made again later: that is another watch.
        db.execute("DROP TABLE users", ()).await?;
        let gone = timeout(secs(10), count.next()).await.unwrap().unwrap().unwrap_err();
        assert!(gone.kind() == ErrorKind::Query && gone.to_string().contains("users"), "{kind:?}: {gone}");
        db.execute_script(SCHEMA.split(';').next().unwrap()).await?;
        assert!(count.next().await.is_none());
        let mut again = db.watch_as::<i64>(COUNT, ());
        assert_eq!(next(&mut again).await, [0]);
        db.execute(INSERT, ()).await?;
        comes_to(&mut again, &[1]).await;
    }
    Ok(())
}
