//! What `watch()` promises: the result now, and again whenever it has changed; never an old one last.

#![cfg(feature = "sqlcipher")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::{Home, Kind, memory, millis, secs};
use strongroom::database::{ChangeOptions, Event, Observer, WatchStream};
use strongroom::sqlcipher::{Checkpoints, Tuning};
use strongroom::{AsyncDatabase, ErrorKind, Reason, Result, Rows};
use tokio::time::timeout;

const SCHEMA: &str = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
     CREATE TABLE logs (id INTEGER PRIMARY KEY, line TEXT);
     CREATE TABLE accounts (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL);
     INSERT INTO accounts VALUES (1, 500), (2, 500)";

async fn with_schema() -> AsyncDatabase {
    let db = memory().await;
    db.execute_script(SCHEMA).await.unwrap();
    db
}

async fn next<T>(watched: &mut WatchStream<T>) -> T {
    timeout(secs(10), watched.next()).await.expect("a result comes").expect("the stream goes on").unwrap()
}

/// Reads on until the result is this one.
async fn comes_to<T: PartialEq + std::fmt::Debug>(watched: &mut WatchStream<Vec<T>>, last: &[T]) {
    while next(watched).await != last {}
}

async fn assert_silent<T: std::fmt::Debug>(watched: &mut WatchStream<T>) {
    let more = timeout(millis(60), watched.next()).await;
    assert!(more.is_err(), "nothing has changed: {more:?}");
}

#[tokio::test]
async fn the_result_comes_at_once_and_whenever_it_has_changed() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(SCHEMA).await.unwrap();
        let mut names = db.watch_as::<String>("SELECT name FROM users WHERE id < $1 ORDER BY id", (100,));
        assert!(next(&mut names).await.is_empty(), "{kind:?}");
        db.execute("INSERT INTO users VALUES (1, 'alice')", ()).await.unwrap();
        assert_eq!(next(&mut names).await, ["alice"]);
        db.transaction(async |tx| {
            tx.execute("INSERT INTO users VALUES (2, 'bob')", ()).await?;
            tx.execute("UPDATE users SET name = 'alicia' WHERE id = 1", ()).await
        })
        .await
        .unwrap();
        assert_eq!(next(&mut names).await, ["alicia", "bob"]);
        db.execute("DELETE FROM users", ()).await.unwrap();
        assert!(next(&mut names).await.is_empty());
        db.close().await.unwrap();
        assert!(names.next().await.is_none(), "{kind:?}: it ends with the database");
    }
}

#[tokio::test]
async fn equal_results_are_not_repeated_and_other_tables_do_not_count() {
    let db = with_schema().await;
    let mut count = db.watch_as::<i64>("SELECT count(*) FROM users", ());
    assert_eq!(next(&mut count).await, [0]);
    let before = db.stats().total_acquired;
    for _ in 0..5 {
        db.execute("INSERT INTO logs (line) VALUES ('x')", ()).await.unwrap();
    }
    assert_silent(&mut count).await;
    assert!(db.stats().total_acquired <= before + 7, "it was not run for the sake of another table");
    db.execute("INSERT INTO users VALUES (1, 'a')", ()).await.unwrap();
    assert_eq!(next(&mut count).await, [1]);
    db.execute("UPDATE users SET name = 'b'", ()).await.unwrap();
    db.execute("UPDATE users SET name = 'a'", ()).await.unwrap();
    assert_silent(&mut count).await;
}

#[tokio::test]
async fn tables_are_found_behind_views_subqueries_and_names_in_disguise() {
    let db = with_schema().await;
    db.execute_script(
        "CREATE VIEW people AS SELECT id, name FROM users; CREATE VIEW named AS SELECT name FROM people;
         CREATE TABLE words (word TEXT PRIMARY KEY) WITHOUT ROWID; CREATE TABLE \"odd; name\" (a);
         CREATE VIRTUAL TABLE notes USING fts5 (body)",
    )
    .await
    .unwrap();
    let reads = [
        ("SELECT count(*) FROM named", "INSERT INTO users VALUES (1, 'x')"),
        ("SELECT EXISTS (SELECT 1 FROM logs)", "INSERT INTO logs (line) VALUES ('x')"),
        ("WITH t AS (SELECT sum(cents) AS s FROM accounts) SELECT s FROM t", "UPDATE accounts SET cents = 1"),
        ("SELECT count(*) FROM users AS logs JOIN words ON true", "INSERT INTO words VALUES ('x')"),
        ("SELECT count(*) FROM [ODD; name]", "INSERT INTO \"odd; name\" VALUES (1)"),
        ("SELECT count(*) FROM notes WHERE body MATCH 'found'", "INSERT INTO notes VALUES ('found')"),
        ("SELECT /* users */ 'logs', (SELECT count(*) FROM words)", "DELETE FROM words"),
        ("SELECT count(*) FROM sqlite_schema", "CREATE TABLE one_more (a)"),
    ];
    for (sql, write) in reads {
        let mut watched = db.watch(sql, ());
        let first = next(&mut watched).await;
        db.execute(write, ()).await.unwrap();
        let second = next(&mut watched).await;
        let value = |rows: &Rows| rows.first().unwrap().get::<i64>(rows.columns().len() - 1).unwrap();
        assert_ne!(value(&first), value(&second), "{sql}");
    }
}

#[tokio::test]
async fn the_schema_may_change_under_a_watched_statement() {
    let db = with_schema().await;
    db.execute_script("CREATE VIEW v AS SELECT count(*) AS n FROM users").await.unwrap();
    let mut watched = db.watch_as::<i64>("SELECT n FROM v", ());
    assert_eq!(next(&mut watched).await, [0]);
    db.execute_script("BEGIN; DROP VIEW v; CREATE VIEW v AS SELECT count(*) AS n FROM accounts; COMMIT").await.unwrap();
    assert_eq!(next(&mut watched).await, [2]);
    db.execute("INSERT INTO accounts VALUES (3, 0)", ()).await.unwrap();
    assert_eq!(next(&mut watched).await, [3], "the tables of the new view are watched");
    let mut all = db.watch("SELECT * FROM users", ());
    assert_eq!(next(&mut all).await.columns().len(), 2);
    db.execute("ALTER TABLE users ADD COLUMN mail TEXT", ()).await.unwrap();
    assert_eq!(next(&mut all).await.columns().len(), 3, "another header is another result");
    db.execute("DROP VIEW v", ()).await.unwrap();
    let gone = timeout(secs(10), watched.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Query);
    assert!(watched.next().await.is_none(), "nothing comes after an error");
}

#[tokio::test(start_paused = true)]
async fn commits_within_a_few_milliseconds_are_one_result() {
    let db = with_schema().await;
    let mut count = db.watch_as::<i64>("SELECT count(*) FROM users", ()).settle(millis(20));
    assert_eq!(next(&mut count).await, [0]);
    for id in 0..50 {
        db.execute("INSERT INTO users VALUES ($1, 'x')", (id,)).await.unwrap();
    }
    assert_eq!(next(&mut count).await, [50]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steady_writing_does_not_hold_results_back_and_the_last_state_comes() {
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    db.execute_script(SCHEMA).await.unwrap();
    let mut count = db.watch_as::<i64>("SELECT count(*) FROM logs", ()).settle(millis(1));
    next(&mut count).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (db, stop) = (db.clone(), Arc::clone(&stop));
        async move {
            let mut written = 0;
            while !stop.load(SeqCst) {
                db.execute("INSERT INTO logs (line) VALUES ('x')", ()).await.unwrap();
                written += 1;
            }
            written
        }
    });
    let mut seen = 0;
    for _ in 0..20 {
        let now = next(&mut count).await[0];
        assert!(now > seen, "{now} after {seen}");
        seen = now;
    }
    stop.store(true, SeqCst);
    let written = writer.await.unwrap();
    if seen != written {
        comes_to(&mut count, &[written]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_result_is_torn_across_tables_or_rows() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script(SCHEMA).await.unwrap();
    db.execute_script("CREATE TABLE others (id INTEGER PRIMARY KEY, cents INTEGER); INSERT INTO others VALUES (1, 0)")
        .await
        .unwrap();
    let sql = "SELECT (SELECT sum(cents) FROM accounts) + (SELECT sum(cents) FROM others), (SELECT cents FROM others)";
    let mut sums = db.watch_as::<(i64, i64)>(sql, ()).settle(Duration::ZERO);
    assert_eq!(next(&mut sums).await, [(1000, 0)]);
    let writer = tokio::spawn({
        let db = db.clone();
        async move {
            for _ in 0..200 {
                db.transaction(async |tx| {
                    tx.execute("UPDATE accounts SET cents = cents - 1 WHERE id = 1", ()).await?;
                    tx.execute("UPDATE others SET cents = cents + 1", ()).await
                })
                .await
                .unwrap();
            }
        }
    });
    let mut last = 0;
    while last < 200 {
        let (sum, moved) = next(&mut sums).await[0];
        assert!(sum == 1000 && moved > last, "{sum}, {moved} after {last}");
        last = moved;
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn what_is_rolled_back_is_never_seen() {
    let db = with_schema().await;
    let mut count = db.watch_as::<i64>("SELECT count(*) FROM users", ()).settle(Duration::ZERO);
    assert_eq!(next(&mut count).await, [0]);
    let mut undone = db.begin().await.unwrap();
    undone.execute("INSERT INTO users VALUES (1, 'a')", ()).await.unwrap();
    undone.rollback().await.unwrap();
    db.execute("INSERT INTO users VALUES (2, NULL)", ()).await.unwrap_err();
    assert_silent(&mut count).await;
}

#[tokio::test]
async fn a_statement_that_cannot_be_watched_says_why() {
    let db = with_schema().await;
    let error = async |sql: &str| db.watch(sql, ()).next().await.unwrap().unwrap_err();
    let writes = error("INSERT INTO users VALUES (1, 'a') RETURNING id").await;
    assert_eq!((writes.kind(), writes.reason()), (ErrorKind::Unsupported, Reason::Control));
    assert!(writes.to_string().contains("only read"), "{writes}");
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM users", ()).await.unwrap(), Some(0));
    assert_eq!(error("SELECT * FROM missing").await.kind(), ErrorKind::Query);
    assert_eq!(error("BEGIN").await.kind(), ErrorKind::Unsupported);
    assert_eq!(error("SELECT $1").await.kind(), ErrorKind::Query);
    assert_eq!(error("SELECT 1; SELECT 2").await.kind(), ErrorKind::Query);
    let mut wrong = db.watch_as::<i64>("SELECT 'text'", ());
    assert_eq!(wrong.next().await.unwrap().unwrap_err().reason(), Reason::Type);
}

#[tokio::test]
async fn a_dropped_stream_leaves_nothing_and_a_dropped_next_loses_nothing() -> Result<()> {
    let db = with_schema().await;
    let mut count = db.watch_as::<i64>("SELECT count(*) FROM users", ());
    assert_eq!(next(&mut count).await, [0]);
    for id in 1..=10_u32 {
        db.execute("INSERT INTO users VALUES ($1, 'x')", (id,)).await?;
        // Dropped while it settles, or reads.
        timeout(millis(u64::from(id) % 6), count.next()).await.ok();
    }
    db.execute("INSERT INTO users VALUES (11, 'x')", ()).await?;
    comes_to(&mut count, &[11]).await;
    drop(count);
    assert!(format!("{db:?}").contains("active_connections: 0"), "{db:?}");
    let (_, report) = (db.execute("DELETE FROM users", ()).await?, db.close().await?);
    assert!(report.is_clean(), "{report:?}");
    Ok(())
}

#[tokio::test]
async fn a_watch_that_is_kept_and_not_polled_keeps_no_connection() -> Result<()> {
    let db = with_schema().await;
    // Long enough for a thread; in memory there is one connection for all.
    let long = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 200000)
        SELECT count(*) + (SELECT count(*) FROM users) FROM n";
    let mut count = db.watch_as::<i64>(long, ());
    for id in 1..=5_u32 {
        timeout(millis(1), count.next()).await.ok();
        timeout(Duration::from_secs(10), db.execute("INSERT INTO users VALUES ($1, 'x')", (id,))).await.unwrap()?;
    }
    comes_to(&mut count, &[200_005]).await;
    Ok(())
}

/// Counts statements that name a table, and loans.
#[derive(Clone, Default)]
struct Counter(Arc<(AtomicUsize, AtomicUsize, AtomicUsize)>);

impl Observer for Counter {
    fn observe(&self, event: &Event<'_>) {
        let (users, logs, loans) = &*self.0;
        match event {
            Event::CallEnded(call, _) => {
                let names = |table| call.sql.is_some_and(|sql| sql.contains(table));
                users.fetch_add(usize::from(names("count(*) FROM users")), SeqCst);
                logs.fetch_add(usize::from(names("count(*) FROM logs")), SeqCst);
            }
            Event::ConnectionLent { .. } => drop(loans.fetch_add(1, SeqCst)),
            _ => {}
        }
    }
}

impl Counter {
    /// How often the statements ran that watch users, and those that watch logs.
    fn runs(&self) -> (usize, usize) {
        (self.0.0.load(SeqCst), self.0.1.load(SeqCst))
    }

    fn loans(&self) -> usize {
        self.0.2.load(SeqCst)
    }
}

#[tokio::test]
async fn many_watchers_each_see_the_end_and_those_of_other_tables_do_no_work() -> Result<()> {
    for kind in [Kind::PlainMemory, Kind::KeyedFile] {
        let (home, counter) = (Home::new(kind), Counter::default());
        let db = home.builder().observer(counter.clone()).open().await?;
        db.execute_script(SCHEMA).await?;
        let (mut users, mut logs) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            let mut watched = db.watch_as::<i64>("SELECT count(*) FROM users", ()).settle(Duration::ZERO);
            assert_eq!(next(&mut watched).await, [0]);
            users.push(watched);
            let mut watched = db.watch_as::<i64>("SELECT count(*) FROM logs", ()).settle(Duration::ZERO);
            assert_eq!(next(&mut watched).await, [0]);
            // All of them wait from now on.
            logs.push(tokio::spawn(async move { (watched.next().await, watched) }));
        }
        assert_eq!(counter.runs(), (200, 200));
        for id in 1..=5 {
            db.execute("INSERT INTO users VALUES ($1, 'x')", (id,)).await?;
            for watched in &mut users {
                assert_eq!(next(watched).await, [id]);
            }
        }
        assert!(logs.iter().all(|watcher| !watcher.is_finished()));
        assert_eq!(counter.runs(), (6 * 200, 200), "{kind:?}: nobody who watches logs has looked at them");
        db.execute("INSERT INTO logs VALUES (1, 'x')", ()).await?;
        for watcher in logs {
            let (rows, _watched) = timeout(secs(10), watcher).await.unwrap().unwrap();
            assert_eq!(rows.unwrap()?, [1]);
        }
        assert_eq!(counter.runs(), (6 * 200, 2 * 200));
    }
    Ok(())
}

/// What GRDB.swift does not notice by itself, as its pull request #1460 lists it: there a program has to tell of each.
#[tokio::test]
async fn what_other_libraries_have_to_be_told_of_is_noticed_here() -> Result<()> {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let (db, other) = (home.open().await, home.open().await);
        db.execute_script(
            "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
             CREATE TABLE posts (id INTEGER PRIMARY KEY, author INTEGER REFERENCES users ON DELETE CASCADE);
             CREATE TABLE names (name TEXT PRIMARY KEY) WITHOUT ROWID;
             INSERT INTO users VALUES (1, 'alice'); INSERT INTO posts VALUES (1, 1)",
        )
        .await?;
        let look = millis(5);
        let counts = "SELECT (SELECT count(*) FROM users) || ' ' || (SELECT count(*) FROM posts)";
        let mut rows = db.watch_as::<String>(counts, ()).look_every(look);
        assert_eq!(next(&mut rows).await, ["1 1"]);
        // Of another connection.
        other.execute("INSERT INTO users VALUES (2, 'bob')", ()).await?;
        assert_eq!(next(&mut rows).await, ["2 1"], "{kind:?}");
        // Of a statement that is neither prepared nor run by this library.
        db.interact(|raw| raw.execute_batch("INSERT INTO posts VALUES (2, 2)")).await?;
        assert_eq!(next(&mut rows).await, ["2 2"], "{kind:?}");
        // Rows that another one replaces, which SQLite's hook does not tell, and what goes with them.
        db.execute("INSERT OR REPLACE INTO users VALUES (3, 'bob')", ()).await?;
        assert_eq!(next(&mut rows).await, ["2 1"], "{kind:?}");
        // A table without rowids.
        let mut names = db.watch_as::<i64>("SELECT count(*) FROM names", ()).look_every(look);
        assert_eq!(next(&mut names).await, [0]);
        db.execute("INSERT INTO names VALUES ('x')", ()).await?;
        assert_eq!(next(&mut names).await, [1], "{kind:?}");
        // The schema, and the table that it stands in.
        let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
        let mut tables = db.watch_as::<i64>(tables, ()).look_every(look);
        assert_eq!(next(&mut tables).await, [3]);
        db.execute("CREATE TABLE more (a)", ()).await?;
        assert_eq!(next(&mut tables).await, [4], "{kind:?}");
        other.execute("DROP TABLE more", ()).await?;
        assert_eq!(next(&mut tables).await, [3], "{kind:?}");
    }
    Ok(())
}

/// A commit of others that comes between the first result and the moment from which it would be heard of, or while a result is
/// being read: the last state is shown in any case.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_nobody_hears_of_while_a_watch_begins_is_shown() -> Result<()> {
    let home = Home::new(Kind::KeyedFile);
    let (db, other) = (home.open().await, home.open().await);
    db.execute_script(SCHEMA).await?;
    for id in 1..=200 {
        let mut count =
            db.watch_as::<i64>("SELECT count(*) FROM users", ()).look_every(millis(2)).settle(Duration::ZERO);
        let write = async {
            // At another moment each time.
            for _ in 0..id % 7 {
                tokio::task::yield_now().await;
            }
            other.execute("INSERT INTO users VALUES ($1, 'x')", (id,)).await
        };
        let (first, written) = tokio::join!(next(&mut count), write);
        written?;
        if first != [id] {
            comes_to(&mut count, &[id]).await;
        }
    }
    Ok(())
}

/// From here on the clock stands still unless somebody waits for it.
#[tokio::test]
async fn others_are_looked_for_as_often_as_was_asked_for_and_no_more() -> Result<()> {
    let (home, counter) = (Home::new(Kind::PlainFile), Counter::default());
    let db = home.builder().observer(counter.clone()).open().await?;
    db.execute_script(SCHEMA).await?;
    let mut count = db.watch_as::<i64>("SELECT count(*) FROM users", ()).look_every(secs(10));
    assert_eq!(next(&mut count).await, [0]);
    tokio::time::pause();
    let looks = async |count: &mut WatchStream<Vec<i64>>, time| {
        let before = counter.loans();
        assert!(timeout(time, count.next()).await.is_err(), "nothing has changed");
        counter.loans() - before
    };
    let slow = looks(&mut count, secs(95)).await;
    assert!((8..=10).contains(&slow), "{slow} looks in 95 s, one each 10 s");
    // The most impatient one decides for all, as long as it listens.
    let mut changes = db.changes_with(ChangeOptions::new().look_every(secs(1))).await?;
    assert!(timeout(millis(1), changes.next()).await.is_err());
    let quick = looks(&mut count, secs(95)).await;
    assert!((80..=96).contains(&quick), "{quick} looks in 95 s, one each second");
    drop(changes);
    let slow = looks(&mut count, secs(95)).await;
    assert!((8..=11).contains(&slow), "{slow} looks in 95 s, one each 10 s");
    Ok(())
}

#[tokio::test]
async fn another_database_of_the_same_file_is_noticed_in_time() -> Result<()> {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let (db, other) = (home.open().await, home.open().await);
        db.execute_script(SCHEMA).await?;
        let mut count = db.watch_as::<i64>("SELECT count(*) FROM users", ()).look_every(millis(5));
        let mut changes = db.changes().await?;
        assert_eq!(next(&mut count).await, [0]);
        for id in 1..=5 {
            other.execute("INSERT INTO users VALUES ($1, 'x')", (id,)).await?;
            assert_eq!(next(&mut count).await, [id], "{kind:?}");
            let change = timeout(secs(10), changes.next()).await.unwrap().unwrap();
            assert!(change.unattributed && change.touches("users") && change.tables.is_empty(), "{change:?}");
        }
        // Its own commits are not taken for those of others.
        for id in 6..=30 {
            db.execute("INSERT INTO users VALUES ($1, 'x')", (id,)).await?;
            db.transaction(async |tx| tx.execute("DELETE FROM logs", ()).await).await?;
            db.checkpoint().await?;
            let change = timeout(secs(10), changes.next()).await.unwrap().unwrap();
            assert!(!change.unattributed && change.table("users").is_some(), "{change:?}");
        }
        db.execute("VACUUM", ()).await?;
        db.execute_script("PRAGMA user_version = 1").await?;
        let silent = timeout(millis(80), changes.next()).await;
        assert!(silent.is_err(), "{kind:?}: {silent:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_whose_commit_takes_long_is_not_taken_for_one_of_others() -> Result<()> {
    let home = Home::new(Kind::PlainFile);
    // The commit copies the log after it has marked its change, which takes long.
    let tuning = Tuning::default().checkpoints(Checkpoints::AtCommit);
    let db = home.builder().tuning(tuning).open().await?;
    db.execute_script(SCHEMA).await?;
    let mut changes = db.changes_with(ChangeOptions::default().look_every(millis(1))).await?;
    // Whoever waits looks for others from then on, by a reader that is idle.
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM users", ()).await?, Some(0));
    assert!(timeout(millis(20), changes.next()).await.is_err());
    for id in 1..=20 {
        db.transaction(async |tx| {
            let name = "x".repeat(5_000_000);
            tx.execute("INSERT INTO users VALUES ($1, $2)", (id, name)).await
        })
        .await?;
        db.execute("UPDATE users SET name = 'short'", ()).await?;
        for _ in 0..2 {
            let change = timeout(secs(10), changes.next()).await.unwrap().unwrap();
            assert!(!change.unattributed && change.table("users").is_some(), "{change:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_only_read_is_watched_too() -> Result<()> {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script(SCHEMA).await?;
    let reader = home.builder().read_only().open().await?;
    let mut count = reader.watch_as::<i64>("SELECT count(*) FROM users", ()).look_every(millis(5));
    assert_eq!(next(&mut count).await, [0]);
    for id in 1..=3 {
        db.execute("INSERT INTO users VALUES ($1, 'x')", (id,)).await?;
        assert_eq!(next(&mut count).await, [id]);
    }
    Ok(())
}

#[test]
fn watching_goes_on_on_another_runtime() {
    let home = Home::new(Kind::PlainFile);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (db, other, mut count) = first.block_on(async {
        let (db, other) = (home.open().await, home.open().await);
        db.execute_script(SCHEMA).await.unwrap();
        let mut count = db.watch_as::<i64>("SELECT count(*) FROM users", ()).look_every(millis(5));
        assert_eq!(next(&mut count).await, [0]);
        assert!(timeout(millis(10), count.next()).await.is_err());
        (db, other, count)
    });
    // The task that looked for others ends with its runtime.
    drop(first);
    runtime().block_on(async {
        other.execute("INSERT INTO users VALUES (1, 'x')", ()).await.unwrap();
        assert_eq!(next(&mut count).await, [1]);
        db.close().await.unwrap();
    });
}

#[test]
fn watching_goes_on_when_the_runtime_on_which_it_began_ends_or_is_not_driven_any_more() {
    for ends in [true, false] {
        let home = Home::new(Kind::PlainFile);
        let first = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (db, _began) = first.block_on(async {
            let db = home.open().await;
            db.execute_script(SCHEMA).await.unwrap();
            let mut began = db.watch_as::<i64>("SELECT count(*) FROM users", ()).look_every(millis(5));
            assert_eq!(next(&mut began).await, [0]);
            assert!(timeout(millis(10), began.next()).await.is_err());
            (db, began)
        });
        let second = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        second.block_on(async {
            let other = home.open().await;
            let watching = db.clone();
            let heard = tokio::spawn(async move {
                let mut count = watching.watch_as::<i64>("SELECT count(*) FROM users", ()).look_every(millis(5));
                comes_to(&mut count, &[1]).await;
            });
            tokio::time::sleep(millis(30)).await;
            let mut first = Some(first);
            if ends && let Some(first) = first.take() {
                first.shutdown_background();
            }
            other.execute("INSERT INTO users VALUES (1, 'x')", ()).await.unwrap();
            heard.await.unwrap();
            // One that is only not driven is there until now.
            if let Some(first) = first {
                first.shutdown_background();
            }
        });
    }
}

#[tokio::test]
async fn whoever_wants_to_look_sooner_is_not_kept_by_one_who_does_not_want_to_look() {
    let home = Home::new(Kind::PlainFile);
    let (db, other) = (home.open().await, home.open().await);
    db.execute_script(SCHEMA).await.unwrap();
    for pause in [Duration::MAX, secs(3600)] {
        let mut blind = db.changes_with(ChangeOptions::new().look_every(pause)).await.unwrap();
        assert!(timeout(millis(20), blind.next()).await.is_err());
        let mut changes = db.changes_with(ChangeOptions::new().look_every(millis(5))).await.unwrap();
        assert!(timeout(millis(20), changes.next()).await.is_err());
        other.execute("INSERT INTO logs DEFAULT VALUES", ()).await.unwrap();
        assert!(timeout(secs(10), changes.next()).await.expect("it is noticed").unwrap().unattributed);
    }
}

#[tokio::test]
async fn a_database_without_an_open_connection_is_watched_too() -> Result<()> {
    let home = Home::new(Kind::KeyedFile);
    let other = home.open().await;
    other.execute_script(SCHEMA).await?;
    let db = home.builder().pool_min(0).idle_timeout(millis(20)).build();
    let mut count = db.watch_as::<i64>("SELECT count(*) FROM users", ()).look_every(millis(5));
    assert_eq!(next(&mut count).await, [0]);
    for id in 1..=3 {
        tokio::time::sleep(millis(60)).await;
        other.execute("INSERT INTO users VALUES ($1, 'x')", (id,)).await?;
        assert_eq!(next(&mut count).await, [id]);
    }
    Ok(())
}

#[tokio::test]
async fn one_who_only_listens_notices_others_too() -> Result<()> {
    let home = Home::new(Kind::PlainFile);
    let other = home.open().await;
    other.execute_script(SCHEMA).await?;
    let db = home.builder().build();
    let mut changes = db.changes_with(ChangeOptions::new().look_every(millis(5))).await?;
    assert!(timeout(millis(30), changes.next()).await.is_err());
    other.execute("INSERT INTO users VALUES (1, 'x')", ()).await?;
    assert!(timeout(secs(10), changes.next()).await.unwrap().unwrap().unattributed);
    Ok(())
}

#[tokio::test]
async fn a_suspended_database_stays_so_and_shows_what_it_missed_when_it_resumes() -> Result<()> {
    let home = Home::new(Kind::KeyedFile);
    let (db, other) = (home.open().await, home.open().await);
    db.execute_script(SCHEMA).await?;
    let mut count = db.watch_as::<i64>("SELECT count(*) FROM users", ()).look_every(millis(5));
    assert_eq!(next(&mut count).await, [0]);
    for id in 1..=3 {
        assert!(timeout(millis(20), count.next()).await.is_err());
        db.suspend().await?;
        other.execute("INSERT INTO users VALUES ($1, 'x')", (id,)).await?;
        assert!(timeout(millis(60), count.next()).await.is_err());
        assert!(db.is_suspended(), "a listener has opened it");
        db.resume();
        assert_eq!(next(&mut count).await, [id]);
    }
    // Its own commits are told as before.
    db.execute("INSERT INTO users VALUES (9, 'x')", ()).await?;
    assert_eq!(next(&mut count).await, [4]);
    Ok(())
}
