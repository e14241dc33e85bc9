//! What `changes()` tells: all that was committed, nothing else, in order.

#![cfg(feature = "sqlcipher")]

mod common;
#[path = "common/told.rs"]
mod told;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::{Home, Kind, memory, millis, secs};
use futures_util::future::join_all;
use futures_util::poll;
use strongroom::database::ChangeKind::{self, Delete, Insert, Update};
use strongroom::database::{Change, ChangeOptions, ChangeStream, TransactionMode};
use strongroom::{AsyncDatabase, Error, ErrorKind, Result, rusqlite};
use tokio::time::timeout;
use told::{counts, tables};

const SCHEMA: &str = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
     CREATE TABLE logs (id INTEGER PRIMARY KEY, line TEXT)";

async fn with_schema() -> AsyncDatabase {
    let db = memory().await;
    db.execute_script(SCHEMA).await.unwrap();
    db
}

async fn next(changes: &mut ChangeStream) -> Change {
    timeout(secs(10), changes.next()).await.expect("an event comes").expect("the database is open")
}

/// Nothing is waiting: the next event is that of a commit made now.
async fn assert_silent(db: &AsyncDatabase, changes: &mut ChangeStream) {
    db.execute_script("CREATE TABLE IF NOT EXISTS marks (a)").await.unwrap();
    db.execute("INSERT INTO marks VALUES (1)", ()).await.unwrap();
    loop {
        let change = next(changes).await;
        if !change.schema {
            assert_eq!(tables(&change), ["marks"], "something was told that was not committed");
            return;
        }
    }
}

#[tokio::test]
async fn each_commit_is_one_event_with_kinds_and_counts_by_table() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(SCHEMA).await.unwrap();
        let mut changes = db.changes().await.unwrap();
        db.execute("INSERT INTO users VALUES (1, 'alice'), (2, 'bob')", ()).await.unwrap();
        db.transaction(async |tx| {
            tx.execute("UPDATE users SET name = 'x' WHERE id = $1", (1,)).await?;
            tx.execute("DELETE FROM users WHERE id = $1", (2,)).await?;
            tx.execute("INSERT INTO logs (line) VALUES ('both')", ()).await
        })
        .await
        .unwrap();
        let first = next(&mut changes).await;
        assert_eq!((first.sequence, first.commits, first.is_merged()), (1, 1, false), "{kind:?}");
        assert_eq!((tables(&first), counts(&first, "users")), (vec!["users"], (2, 0, 0)));
        let second = next(&mut changes).await;
        assert_eq!(second.sequence, 2);
        assert_eq!(tables(&second), ["users", "logs"]);
        assert_eq!((counts(&second, "users"), counts(&second, "LOGS")), ((0, 1, 1), (1, 0, 0)));
        assert!(second.touches("Logs") && !second.touches("other") && !second.schema && !second.unattributed);
        db.close().await.unwrap();
        for _ in 0..2 {
            assert_eq!(changes.next().await, None, "{kind:?}: the stream ends with the database, for good");
        }
    }
}

#[tokio::test]
async fn listeners_that_sleep_are_woken_by_each_commit() {
    let db = with_schema().await;
    let options = ChangeOptions::new().look_every(Duration::MAX);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..2 {
        let (mut changes, tell) = (db.changes_with(options).await.unwrap(), tell.clone());
        tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                tell.send(change.sequence).unwrap();
            }
        });
    }
    for sequence in 1..=3 {
        for _ in 0..10 {
            // The listeners fall asleep.
            tokio::task::yield_now().await;
        }
        db.execute("INSERT INTO logs (line) VALUES ('said')", ()).await.unwrap();
        for _ in 0..2 {
            let told = timeout(secs(10), told.recv()).await.expect("a listener was woken");
            assert_eq!(told, Some(sequence));
        }
    }
}

/// The engine's thread then has several commits behind it when it tells of them.
#[tokio::test]
async fn statements_of_a_group_that_ended_half_way_are_told_commit_by_commit() {
    let db = with_schema().await;
    db.execute_script("CREATE TABLE pairs (a PRIMARY KEY, b) WITHOUT ROWID").await.unwrap();
    db.execute("INSERT INTO users (name) VALUES ('alice')", ()).await.unwrap();
    let mut changes = db.changes().await.unwrap();
    let writer = db.connection().await.unwrap();
    let statements = [
        "INSERT INTO pairs VALUES (1, 1)",
        "INSERT OR ROLLBACK INTO users (name) VALUES ('alice')",
        "INSERT INTO logs (line) VALUES ('said')",
        "INSERT INTO pairs VALUES (2, 2)",
    ];
    let mut writes = Box::pin(join_all(statements.map(|sql| db.execute(sql, ()))));
    assert!(poll!(&mut writes).is_pending());
    drop(writer);
    let failed: Vec<_> = writes.await.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, true, false, false]);
    let mut told = Vec::new();
    for sequence in 1..=3 {
        let change = next(&mut changes).await;
        let [table] = &change.tables[..] else { panic!("each was a commit of its own: {change:?}") };
        assert_eq!((change.sequence, change.commits, counts(&change, &table.table)), (sequence, 1, (1, 0, 0)));
        told.push(table.table.to_string());
    }
    told.sort();
    assert_eq!(told, ["logs", "pairs", "pairs"]);
    assert_silent(&db, &mut changes).await;
}

#[tokio::test]
async fn what_is_rolled_back_is_not_told() {
    let db = with_schema().await;
    let mut changes = db.changes().await.unwrap();
    let undone = db
        .transaction(async |tx| {
            tx.execute("INSERT INTO users (name) VALUES ('undone')", ()).await?;
            Err::<(), _>(Error::new(ErrorKind::Query, "changed my mind"))
        })
        .await;
    undone.unwrap_err();
    let mut dropped = db.begin().await.unwrap();
    dropped.execute("INSERT INTO users (name) VALUES ('dropped')", ()).await.unwrap();
    drop(dropped);
    // The second row fails, and takes the first one along.
    db.execute("INSERT INTO users (name) VALUES ('twice'), ('twice')", ()).await.unwrap_err();
    db.execute("INSERT OR ROLLBACK INTO users (name) VALUES ('twice'), ('twice')", ()).await.unwrap_err();
    db.execute("INSERT OR FAIL INTO users (name) VALUES ('twice'), ('twice')", ()).await.unwrap_err();
    // Nothing is changed by these.
    db.execute("DELETE FROM users WHERE id = 99", ()).await.unwrap();
    db.execute("INSERT OR IGNORE INTO users (id, name) SELECT 1, 'x' WHERE false", ()).await.unwrap();
    db.transaction(async |tx| tx.fetch_all("SELECT * FROM users", ()).await).await.unwrap();
    assert_silent(&db, &mut changes).await;
}

#[tokio::test]
async fn what_a_savepoint_undoes_is_not_told_and_the_rest_is() {
    let db = with_schema().await;
    let mut changes = db.changes().await.unwrap();
    db.transaction(async |tx| {
        tx.execute("INSERT INTO logs (line) VALUES ('kept')", ()).await?;
        let mut inner = tx.begin().await?;
        inner.execute("INSERT INTO users (name) VALUES ('undone')", ()).await?;
        inner.execute("INSERT INTO logs (line) VALUES ('undone')", ()).await?;
        inner.rollback().await?;
        let mut inner = tx.begin().await?;
        inner.execute("INSERT INTO logs (line) VALUES ('kept too')", ()).await?;
        let mut innermost = inner.begin().await?;
        innermost.execute("DELETE FROM logs WHERE line = 'kept'", ()).await?;
        drop(innermost);
        inner.commit().await
    })
    .await
    .unwrap();
    let change = next(&mut changes).await;
    assert_eq!((tables(&change), counts(&change, "logs")), (vec!["logs"], (2, 0, 0)));

    // The same by hand, on a connection of one's own and in a script.
    let script = "BEGIN; INSERT INTO logs (line) VALUES ('a'); SAVEPOINT one; INSERT INTO users (name) VALUES ('b');
                  SAVEPOINT two; INSERT INTO logs (line) VALUES ('c'); ROLLBACK TO One; INSERT INTO logs (line) VALUES ('d');
                  RELEASE one; COMMIT; INSERT INTO users (name) VALUES ('e')";
    db.execute_script(script).await.unwrap();
    let mut own = db.connection().await.unwrap();
    for statement in script.split(';') {
        own.execute(&statement.replace("'e'", "'f'"), ()).await.unwrap();
    }
    drop(own);
    for _ in 0..2 {
        let change = next(&mut changes).await;
        assert_eq!((tables(&change), counts(&change, "logs")), (vec!["logs"], (2, 0, 0)));
        assert_eq!(counts(&next(&mut changes).await, "users"), (1, 0, 0));
    }
    assert_silent(&db, &mut changes).await;
}

#[tokio::test]
async fn a_statement_that_fails_leaves_the_rest_of_its_transaction() {
    let db = with_schema().await;
    let mut changes = db.changes().await.unwrap();
    let mut own = db.connection().await.unwrap();
    own.execute("BEGIN IMMEDIATE", ()).await.unwrap();
    own.execute("INSERT INTO users (name) VALUES ('one')", ()).await.unwrap();
    own.execute("INSERT INTO users (name) VALUES ('two'), ('one')", ()).await.unwrap_err();
    own.execute("COMMIT", ()).await.unwrap();
    drop(own);
    assert_eq!(counts(&next(&mut changes).await, "users"), (1, 0, 0));
    // Of a script, what `OR FAIL` did before it failed stays done.
    let halfway = "INSERT OR FAIL INTO users (name) VALUES ('a'), ('b'), ('a'), ('c')";
    db.execute_script(halfway).await.unwrap_err();
    assert_eq!(counts(&next(&mut changes).await, "users"), (2, 0, 0));
    db.execute(halfway, ()).await.unwrap_err();
    assert_silent(&db, &mut changes).await;
}

#[tokio::test]
async fn tables_without_a_rowid_and_emptied_tables_are_told_with_their_counts() {
    let db = with_schema().await;
    db.execute_script("CREATE TABLE words (word TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID").await.unwrap();
    let mut changes = db.changes().await.unwrap();
    db.execute("INSERT INTO words VALUES ('a', 1), ('b', 2), ('c', 3)", ()).await.unwrap();
    assert_eq!(counts(&next(&mut changes).await, "words"), (3, 0, 0));
    db.execute("UPDATE words SET n = n + 1 WHERE word <> 'a'", ()).await.unwrap();
    assert_eq!(counts(&next(&mut changes).await, "words"), (0, 2, 0));
    db.execute("DELETE FROM words WHERE word = 'z'", ()).await.unwrap();
    db.execute("DELETE FROM words", ()).await.unwrap();
    assert_eq!(counts(&next(&mut changes).await, "words"), (0, 0, 3));

    db.execute_many("INSERT INTO logs (line) VALUES ($1)", (0..100).map(|n| (n,))).await.unwrap();
    assert_eq!(counts(&next(&mut changes).await, "logs"), (100, 0, 0));
    db.execute("DELETE FROM logs", ()).await.unwrap();
    let emptied = next(&mut changes).await;
    assert_eq!((counts(&emptied, "logs"), &emptied.table("logs").unwrap().rows), ((0, 0, 100), &None));
    // Both in one transaction, and in a script.
    db.execute_script(
        "BEGIN; INSERT INTO logs (line) VALUES ('x'); INSERT INTO words VALUES ('q', 1); DELETE FROM logs; COMMIT",
    )
    .await
    .unwrap();
    let change = next(&mut changes).await;
    assert_eq!((counts(&change, "logs"), counts(&change, "words")), ((1, 0, 1), (1, 0, 0)));
    assert_silent(&db, &mut changes).await;
}

#[tokio::test]
async fn rows_are_told_one_by_one_to_those_who_ask_for_them() {
    let db = with_schema().await;
    let mut bare = db.changes().await.unwrap();
    let mut changes = db.changes_with(ChangeOptions::new().rows(true)).await.unwrap();
    db.execute_script(
        "BEGIN; INSERT INTO users VALUES (5, 'a'), (6, 'b'); UPDATE users SET name = 'c' WHERE id = 6;
         DELETE FROM users WHERE id = 5; UPDATE users SET id = 9 WHERE id = 6; COMMIT;
         REPLACE INTO users VALUES (9, 'again'); DELETE FROM users",
    )
    .await
    .unwrap();
    let rows = |change: &Change| -> Vec<(ChangeKind, i64)> {
        let rows = change.table("users").unwrap().rows.clone().expect("rows were asked for");
        rows.iter().map(|row| (row.kind, row.row_id)).collect()
    };
    let change = next(&mut changes).await;
    assert_eq!(rows(&change), [(Insert, 5), (Insert, 6), (Update, 6), (Delete, 5), (Update, 9)]);
    assert_eq!(counts(&change, "users"), (2, 2, 1));
    assert_eq!(rows(&next(&mut changes).await), [(Insert, 9)], "one that replaces is an insert");
    assert_eq!(rows(&next(&mut changes).await), [(Delete, 9)], "a table is emptied row by row");
    assert_eq!(next(&mut bare).await.table("users").unwrap().rows, None, "the other one did not ask");

    // Once nobody asks any more, a table is emptied at once again, and a temporary one can still be dropped.
    drop(changes);
    let mut own = db.connection().await.unwrap();
    own.execute_script("CREATE TEMP TABLE t (a); INSERT INTO t VALUES (1); DROP TABLE t").await.unwrap();
    own.fetch_all("SELECT * FROM t", ()).await.unwrap_err();
}

#[tokio::test]
async fn dropping_tables_works_while_rows_are_told_one_by_one() {
    let db = with_schema().await;
    let mut changes = db.changes_with(ChangeOptions::new().rows(true)).await.unwrap();
    db.execute_script("CREATE TABLE gone (a); INSERT INTO gone VALUES (1); CREATE INDEX i ON gone (a)").await.unwrap();
    db.execute("DROP INDEX i", ()).await.unwrap();
    db.execute("DROP TABLE gone", ()).await.unwrap();
    assert!(!db.table_exists("gone").await.unwrap());
    let mut own = db.connection().await.unwrap();
    own.execute_script("CREATE TEMP TABLE t (a); INSERT INTO t VALUES (1); DELETE FROM t; DROP TABLE t").await.unwrap();
    own.fetch_all("SELECT * FROM temp.t", ()).await.unwrap_err();
    drop(own);
    let schema: Vec<bool> = {
        let mut told = Vec::new();
        for _ in 0..5 {
            told.push(next(&mut changes).await.schema);
        }
        told
    };
    assert_eq!(schema, [true, false, true, true, true]);
    assert_silent(&db, &mut changes).await;
}

#[tokio::test]
async fn triggers_and_foreign_keys_are_told_by_the_tables_they_change() {
    let db = with_schema().await;
    db.execute_script(
        "CREATE TABLE posts (id INTEGER PRIMARY KEY, user INTEGER REFERENCES users ON DELETE CASCADE);
         CREATE TABLE tags (post INTEGER REFERENCES posts ON DELETE CASCADE, tag TEXT, PRIMARY KEY (post, tag)) WITHOUT ROWID;
         CREATE TRIGGER t AFTER INSERT ON posts BEGIN INSERT INTO logs (line) VALUES ('post'); END;
         INSERT INTO users VALUES (1, 'a'); INSERT INTO posts VALUES (1, 1), (2, 1); INSERT INTO tags VALUES (1, 'x'), (2, 'y')",
    )
    .await
    .unwrap();
    let mut changes = db.changes().await.unwrap();
    db.execute("INSERT INTO posts VALUES (3, 1)", ()).await.unwrap();
    let change = next(&mut changes).await;
    assert_eq!((counts(&change, "posts"), counts(&change, "logs")), ((1, 0, 0), (1, 0, 0)));
    db.execute("DELETE FROM users WHERE id = 1", ()).await.unwrap();
    let change = next(&mut changes).await;
    assert_eq!((counts(&change, "users"), counts(&change, "posts")), ((0, 0, 1), (0, 0, 3)));
    assert_eq!(counts(&change, "tags"), (0, 0, 2));
}

#[tokio::test]
async fn a_virtual_table_is_told_by_its_name_and_its_shadows_are_not() {
    let db = with_schema().await;
    db.execute_script(
        "CREATE VIRTUAL TABLE notes USING fts5 (body); CREATE TABLE notes_of_mine (a); CREATE VIRTUAL TABLE boxes USING rtree (id, a, b);
         CREATE VIRTUAL TABLE lines USING fts5 (line, content='logs', content_rowid='id');
         CREATE TRIGGER t AFTER INSERT ON logs BEGIN INSERT INTO lines (rowid, line) VALUES (new.id, new.line); END",
    )
    .await
    .unwrap();
    let mut changes = db.changes().await.unwrap();
    for round in 0..2 {
        db.execute("INSERT INTO notes VALUES ('a word')", ()).await.unwrap();
        let change = next(&mut changes).await;
        assert_eq!((tables(&change), change.tables[0].exact), (vec!["notes"], false), "{round}");
        db.execute("INSERT INTO boxes VALUES ($1, 0, 1)", (round,)).await.unwrap();
        assert_eq!(tables(&next(&mut changes).await), ["boxes"]);
        db.execute("INSERT INTO logs (line) VALUES ('a line')", ()).await.unwrap();
        let change = next(&mut changes).await;
        assert_eq!((tables(&change), counts(&change, "logs")), (vec!["logs", "lines"], (1, 0, 0)), "{round}");
    }
    db.execute("UPDATE notes SET body = 'another'", ()).await.unwrap();
    assert_eq!(tables(&next(&mut changes).await), ["notes"]);
    db.execute("DELETE FROM notes WHERE body MATCH 'nothing'", ()).await.unwrap();
    db.execute("INSERT INTO notes_of_mine VALUES (1)", ()).await.unwrap();
    assert_eq!(counts(&next(&mut changes).await, "notes_of_mine"), (1, 0, 0));
}

#[tokio::test]
async fn the_schema_is_told_as_such() {
    let db = with_schema().await;
    let mut changes = db.changes().await.unwrap();
    for sql in [
        "CREATE TABLE more (a)",
        "ALTER TABLE more ADD COLUMN b",
        "CREATE VIEW v AS SELECT * FROM more",
        "CREATE INDEX i ON more (a)",
        "DROP VIEW v",
    ] {
        db.execute(sql, ()).await.unwrap();
        let change = next(&mut changes).await;
        assert!(change.schema && change.tables.is_empty() && !change.unattributed, "{sql}: {change:?}");
    }
    // Statistics, a number in the header and the order of pages are none of it.
    db.execute_script("ANALYZE; REINDEX; PRAGMA user_version = 3; VACUUM").await.unwrap();
    db.execute("VACUUM", ()).await.unwrap();
    db.optimize().await.unwrap();
    assert_silent(&db, &mut changes).await;
}

#[tokio::test]
async fn groups_of_the_lane_are_told_once_also_if_they_ran_again() {
    let db = with_schema().await;
    db.execute_script("CREATE TABLE child (user INTEGER REFERENCES users DEFERRABLE INITIALLY DEFERRED)")
        .await
        .unwrap();
    let mut changes = db.changes_with(ChangeOptions::new().capacity(10_000)).await.unwrap();
    let writers: Vec<_> = (0..200)
        .map(|number| {
            let db = db.clone();
            tokio::spawn(async move {
                // Each tenth one spoils the commit of its group, which runs again one by one.
                let sql = if number % 10 == 0 {
                    "INSERT INTO child VALUES (77)"
                } else {
                    "INSERT INTO logs (line) VALUES ($1)"
                };
                let params: &[i64] = if number % 10 == 0 { &[] } else { &[number] };
                db.execute(sql, params).await.is_ok()
            })
        })
        .collect();
    let mut committed = 0;
    for writer in writers {
        committed += u64::from(writer.await.unwrap());
    }
    assert_eq!(committed, 180);
    let (mut told, mut last) = (0, 0);
    while told < committed {
        let change = next(&mut changes).await;
        assert_eq!((tables(&change), change.sequence), (vec!["logs"], last + change.commits));
        last = change.sequence;
        told += counts(&change, "logs").0;
    }
    assert_eq!(told, committed);
    assert_silent(&db, &mut changes).await;
}

#[tokio::test]
async fn a_slow_listener_gets_events_merged_by_table_and_knows_it() {
    let db = with_schema().await;
    let mut slow = db.changes_with(ChangeOptions::new().capacity(2)).await.unwrap();
    let mut quick = db.changes().await.unwrap();
    for number in 0..50 {
        db.execute("INSERT INTO logs (line) VALUES ($1)", (number,)).await.unwrap();
        db.execute("INSERT INTO users (name) VALUES ($1)", (number,)).await.unwrap();
    }
    let first = next(&mut slow).await;
    assert_eq!((first.sequence, first.commits), (1, 1));
    let rest = next(&mut slow).await;
    assert_eq!((rest.sequence, rest.commits, rest.is_merged()), (100, 99, true));
    assert_eq!((counts(&rest, "logs"), counts(&rest, "users")), ((49, 0, 0), (50, 0, 0)));
    for sequence in 1..=100 {
        assert_eq!(next(&mut quick).await.sequence, sequence);
    }
}

#[tokio::test]
async fn closures_on_the_raw_connection_are_told_too() {
    let db = with_schema().await;
    db.execute_script("CREATE TABLE words (word TEXT PRIMARY KEY) WITHOUT ROWID").await.unwrap();
    let mut changes = db.changes().await.unwrap();
    db.interact(|c| {
        c.execute("INSERT INTO logs (line) VALUES ('one')", ())?;
        let tx = c.transaction()?;
        tx.execute("INSERT INTO logs (line) VALUES ('two')", ())?;
        tx.execute("INSERT INTO users (name) VALUES ('x')", ())?;
        tx.commit()?;
        let tx = c.transaction()?;
        tx.execute("INSERT INTO users (name) VALUES ('undone')", ())?;
        tx.rollback()
    })
    .await
    .unwrap();
    assert_eq!(counts(&next(&mut changes).await, "logs"), (1, 0, 0));
    let second = next(&mut changes).await;
    assert_eq!((second.table("logs").unwrap().inserted, second.table("users").unwrap().inserted), (1, 1));
    // What a savepoint undoes in there cannot be taken off, and is said to be uncertain.
    db.interact(|c| {
        c.execute_batch("BEGIN; SAVEPOINT s; INSERT INTO logs (line) VALUES ('u'); ROLLBACK TO s; RELEASE s; INSERT INTO words VALUES ('w'); COMMIT")
    })
    .await
    .unwrap();
    let change = next(&mut changes).await;
    assert!(change.touches("words") && change.tables.iter().all(|table| !table.exact), "{change:?}");
    // Hooks of its own do not last while somebody listens.
    db.interact(|c| c.update_hook(None::<fn(rusqlite::hooks::Action, &str, &str, i64)>)).await.unwrap();
    db.execute("INSERT INTO logs (line) VALUES ('after')", ()).await.unwrap();
    assert_eq!(counts(&next(&mut changes).await, "logs"), (1, 0, 0));
    // Past SQL.
    db.execute("INSERT INTO logs VALUES (500, zeroblob(10))", ()).await.unwrap();
    next(&mut changes).await;
    db.interact(|c| {
        let mut blob = c.blob_open("main", "logs", "line", 500, false)?;
        std::io::Write::write_all(&mut blob, b"x").map_err(|_| rusqlite::Error::InvalidQuery)?;
        blob.close()
    })
    .await
    .unwrap();
    assert!(next(&mut changes).await.unattributed);
}

#[tokio::test]
async fn a_writer_that_is_replaced_goes_on_telling() -> Result<()> {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script(SCHEMA).await?;
    let mut changes = db.changes().await?;
    for round in 0..3 {
        // The session is altered, so that the connection is closed when it comes back.
        let mut own = db.connection().await?;
        own.execute("PRAGMA foreign_keys = OFF", ()).await?;
        own.execute("INSERT INTO logs (line) VALUES ('altered')", ()).await?;
        drop(own);
        db.execute("INSERT INTO users (name) VALUES ($1)", (round,)).await?;
        assert_eq!(counts(&next(&mut changes).await, "logs"), (1, 0, 0));
        assert_eq!(counts(&next(&mut changes).await, "users"), (1, 0, 0));
    }
    tokio::time::sleep(millis(200)).await;
    assert_silent(&db, &mut changes).await;
    Ok(())
}

#[tokio::test]
async fn listeners_that_come_and_go_leave_nothing_and_miss_nothing() -> Result<()> {
    let db = with_schema().await;
    for round in 0..20 {
        let mut changes = db.changes_with(ChangeOptions::new().rows(round % 2 == 0)).await?;
        db.execute("INSERT INTO logs (line) VALUES ('x')", ()).await?;
        let change = next(&mut changes).await;
        assert_eq!((counts(&change, "logs"), change.sequence), ((1, 0, 0), round + 1));
        assert_eq!(change.tables[0].rows.is_some(), round % 2 == 0);
        drop(changes);
        // With nobody there, nothing is recorded, and nothing is numbered.
        db.execute("INSERT INTO users (name) VALUES ($1)", (round,)).await?;
        db.execute("DELETE FROM users", ()).await?;
    }
    Ok(())
}

/// What listeners cost is the hooks; whoever has left nobody behind pays for none.
#[tokio::test]
async fn while_nobody_listens_the_hooks_of_the_writer_are_the_programs_own() -> Result<()> {
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    db.execute_script(SCHEMA).await?;
    let told = Arc::new(AtomicUsize::new(0));
    let insert = async || db.execute("INSERT INTO logs (line) VALUES ('x')", ()).await;
    for round in 0..3 {
        let ours = Arc::clone(&told);
        db.interact(move |c| {
            c.update_hook(Some(move |_: rusqlite::hooks::Action, _: &str, _: &str, _: i64| {
                ours.fetch_add(1, SeqCst);
            }))
        })
        .await?;
        insert().await?;
        assert_eq!(told.swap(0, SeqCst), 1, "round {round}: nobody has taken it");
        let mut changes = db.changes().await?;
        insert().await?;
        assert_eq!(next(&mut changes).await.commits, 1);
        assert_eq!(told.load(SeqCst), 0, "round {round}: it is the listener's now");
        drop(changes);
        // With this one nobody is found to listen.
        insert().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_listener_may_be_dropped_while_it_waits_for_the_writer_or_an_event() -> Result<()> {
    let db = with_schema().await;
    let held = db.begin_with(TransactionMode::WRITE).await?;
    assert!(timeout(millis(20), db.changes()).await.is_err(), "the writer is busy");
    drop(held);
    let mut changes = db.changes().await?;
    assert!(timeout(millis(20), changes.next()).await.is_err());
    db.execute("INSERT INTO logs (line) VALUES ('x')", ()).await?;
    assert_eq!(next(&mut changes).await.sequence, 1);
    Ok(())
}

#[tokio::test]
async fn a_statement_that_stays_prepared_is_told_of_however_many_others_come() {
    for kind in [Kind::PlainFile, Kind::PlainMemory] {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script("CREATE TABLE t (a); CREATE TABLE w (a PRIMARY KEY, b) WITHOUT ROWID; CREATE TABLE u (a)")
            .await
            .unwrap();
        db.execute("INSERT INTO w VALUES (1, 0)", ()).await.unwrap();
        let mut changes = db.changes().await.unwrap();
        for number in 0..1200 {
            // Neither tells its rows one by one.
            db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
            db.execute("DELETE FROM t", ()).await.unwrap();
            db.execute("UPDATE w SET b = b + 1", ()).await.unwrap();
            for table in ["t", "t", "w"] {
                let change = next(&mut changes).await;
                assert_eq!(tables(&change), [table], "{kind:?}, after {number} other texts");
            }
            db.execute(&format!("INSERT INTO u VALUES ({number})"), ()).await.unwrap();
            assert_eq!(tables(&next(&mut changes).await), ["u"]);
        }
        db.close().await.unwrap();
    }
}
