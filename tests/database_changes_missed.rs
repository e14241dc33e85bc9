//! Nothing that was committed goes untold, whatever else its connection has done before: what is known of statements that stay
//! prepared, of tables and of the file outlives whatever makes it doubtful.
#![cfg(feature = "sqlcipher")]

mod common;
#[path = "common/told.rs"]
mod told;

use common::{Home, Kind, millis, secs};
use strongroom::database::{Change, ChangeOptions, ChangeStream};
use strongroom::{AsyncDatabase, Result};
use tokio::time::timeout;
use told::{counts, tables};

/// Neither `w` nor the emptying of `t` is told row by row.
const SCHEMA: &str =
    "CREATE TABLE t (a UNIQUE, b); CREATE TABLE w (a PRIMARY KEY, b) WITHOUT ROWID; CREATE VIEW v AS SELECT 1;
     CREATE INDEX i ON t (b); CREATE TRIGGER g AFTER UPDATE ON t BEGIN SELECT 1; END; INSERT INTO w VALUES (1, 0)";

async fn next(changes: &mut ChangeStream) -> Change {
    timeout(secs(10), changes.next()).await.expect("an event comes").expect("the database is open")
}

/// The next event that is more than one of the schema.
async fn next_of_rows(changes: &mut ChangeStream) -> Change {
    loop {
        let change = next(changes).await;
        if !change.tables.is_empty() {
            return change;
        }
    }
}

/// Each of the statements that stay prepared, and what is told of it.
async fn assert_told(db: &AsyncDatabase, changes: &mut ChangeStream, after: &str) {
    for (sql, table) in [("INSERT INTO t VALUES (1, 1)", "t"), ("DELETE FROM t", "t"), ("UPDATE w SET b = b + 1", "w")]
    {
        db.execute(sql, ()).await.unwrap();
        let change = timeout(secs(2), next_of_rows(changes)).await;
        let change = change.unwrap_or_else(|_| panic!("{sql} is not told after {after}"));
        assert_eq!((tables(&change), change.table(table).unwrap().rows_changed()), (vec![table], 1), "after {after}");
    }
}

#[tokio::test]
async fn a_definition_that_does_nothing_or_fails_takes_no_later_event_away() -> Result<()> {
    let definitions = [
        "CREATE TABLE IF NOT EXISTS t (a)",
        "CREATE VIEW IF NOT EXISTS v AS SELECT 2",
        "CREATE INDEX IF NOT EXISTS i ON t (b)",
        "CREATE TRIGGER IF NOT EXISTS g AFTER UPDATE ON t BEGIN SELECT 2; END",
        "DROP TABLE IF EXISTS nothing",
        "EXPLAIN CREATE TABLE more (a)",
        "EXPLAIN QUERY PLAN DROP TABLE t",
        "CREATE TABLE t (a)",
        "CREATE UNIQUE INDEX u ON t (nothing)",
        "ALTER TABLE w ADD COLUMN b",
        "DROP TABLE nothing",
    ];
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(SCHEMA).await?;
        let mut changes = db.changes().await?;
        assert_told(&db, &mut changes, "nothing").await;
        for sql in definitions {
            db.execute(sql, ()).await.ok();
            assert_told(&db, &mut changes, sql).await;
            db.execute_script(sql).await.ok();
            assert_told(&db, &mut changes, &format!("the script {sql}")).await;
            let mut own = db.connection().await?;
            own.execute(sql, ()).await.ok();
            drop(own);
            assert_told(&db, &mut changes, &format!("{sql} on a raw connection")).await;
            db.transaction(async |tx| Ok(tx.execute(sql, ()).await.map(drop))).await.ok();
            assert_told(&db, &mut changes, &format!("{sql} in a transaction")).await;
        }
    }
    Ok(())
}

/// They are one statement of SQLite's, which is prepared for whichever comes first.
#[tokio::test]
async fn texts_that_differ_by_spaces_or_the_names_of_their_parameters_are_told_alike() -> Result<()> {
    for kind in [Kind::PlainFile, Kind::PlainMemory] {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(SCHEMA).await?;
        let mut changes = db.changes().await?;
        for sql in ["UPDATE w SET b = ?1", "UPDATE w SET b = ?1 ", "\n UPDATE w SET b = ?1", "UPDATE w SET b = $1"] {
            db.execute(sql, (7,)).await?;
            let change = timeout(secs(2), next(&mut changes)).await;
            let change = change.unwrap_or_else(|_| panic!("{sql:?} is not told"));
            assert_eq!((tables(&change), counts(&change, "w")), (vec!["w"], (0, 1, 0)), "{sql:?}");
        }
    }
    Ok(())
}

/// SQLite itself goes by the name, too.
#[tokio::test]
async fn a_table_that_is_only_named_like_a_part_of_a_virtual_one_is_told_by_its_own_name() -> Result<()> {
    for kind in [Kind::PlainFile, Kind::PlainMemory] {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(
            "CREATE TABLE docs_content (id INTEGER PRIMARY KEY, body);
             CREATE VIRTUAL TABLE docs USING fts5 (body, content='docs_content', content_rowid='id', columnsize=0);
             CREATE TABLE docs_docsize (a PRIMARY KEY) WITHOUT ROWID;
             CREATE TRIGGER g AFTER INSERT ON docs_content BEGIN INSERT INTO docs (rowid, body) VALUES (new.id, new.body); END;
             CREATE VIRTUAL TABLE boxes USING rtree (id, a, b)",
        )
        .await?;
        // A connection that has used none of them yet.
        db.suspend().await?;
        db.resume();
        let mut changes = db.changes_with(ChangeOptions::new().rows(true)).await?;
        let mut bodies = db.watch_as::<String>("SELECT body FROM docs_content", ());
        assert_eq!(timeout(secs(10), bodies.next()).await.unwrap().unwrap()?, Vec::<String>::new());
        for round in 1..4_u64 {
            db.execute("INSERT INTO docs_content (body) VALUES ('a word')", ()).await?;
            let change = next_of_rows(&mut changes).await;
            assert_eq!((tables(&change), counts(&change, "docs_content")), (vec!["docs_content", "docs"], (1, 0, 0)));
            let shown = timeout(secs(10), bodies.next()).await.expect("it is watched").unwrap()?;
            assert_eq!(shown.len() as u64, round);
            db.execute("INSERT INTO docs_docsize VALUES ($1)", (round,)).await?;
            let change = next_of_rows(&mut changes).await;
            assert_eq!((change.touches("docs_docsize"), change.tables.len()), (true, 2), "{change:?}");
            db.execute("INSERT INTO docs (rowid, body) VALUES ($1, 'b')", (round + 100,)).await?;
            assert_eq!(
                tables(&next_of_rows(&mut changes).await),
                ["docs"],
                "round {round}: what is its own is not told"
            );
            db.execute("INSERT INTO boxes VALUES ($1, 0, 1)", (round,)).await?;
            assert_eq!(tables(&next_of_rows(&mut changes).await), ["boxes"], "round {round}");
            db.execute_script(
                "INSERT INTO docs_content (body) VALUES ('a script'); DELETE FROM docs_content WHERE body = 'a script'",
            )
            .await?;
            for kind in [(1, 0, 0), (0, 0, 1)] {
                assert_eq!(counts(&next_of_rows(&mut changes).await, "docs_content"), kind);
            }
            db.interact(|c| c.execute("DELETE FROM docs_docsize", ())).await?;
            assert!(next_of_rows(&mut changes).await.touches("docs_docsize"), "in a closure");
        }
    }
    Ok(())
}

/// Whoever watches a part of a virtual table hears of the whole.
#[tokio::test]
async fn a_watch_over_the_inner_tables_of_a_virtual_one_is_told_too() -> Result<()> {
    for kind in [Kind::PlainFile, Kind::PlainMemory] {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script("CREATE VIRTUAL TABLE docs USING fts5 (body)").await?;
        let mut inner = db.watch_as::<i64>("SELECT count(*) FROM docs_docsize", ());
        for count in 0..4 {
            let shown = timeout(secs(2), inner.next()).await.expect("it is told").unwrap()?;
            assert_eq!(shown, [count], "{kind:?}");
            db.execute("INSERT INTO docs VALUES ('a word')", ()).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn sets_before_the_one_that_failed_are_told_if_their_transaction_is_committed() -> Result<()> {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(SCHEMA).await?;
        let mut changes = db.changes_with(ChangeOptions::new().rows(true)).await?;
        for commits in [true, false] {
            let mut own = db.connection().await?;
            for (sql, sets) in [
                ("INSERT INTO t VALUES ($1, 0)", [11, 12, 11]),
                ("INSERT INTO w VALUES ($1, 0)", [11, 12, 11]),
                // The first row of the last set is undone with it.
                ("INSERT INTO t SELECT $1 + 10 * value, 0 FROM json_each('[1, 0, 2]')", [31, 32, 12]),
                ("INSERT OR FAIL INTO t SELECT $1 + value, 0 FROM json_each('[0, 1]')", [71, 73, 70]),
            ] {
                own.execute("BEGIN", ()).await?;
                own.execute_many(sql, sets.map(|a| (a,))).await.unwrap_err();
                own.execute(if commits { "COMMIT" } else { "ROLLBACK" }, ()).await?;
            }
            drop(own);
            if commits {
                assert_eq!(counts(&next(&mut changes).await, "t"), (2, 0, 0), "{kind:?}");
                assert_eq!(counts(&next(&mut changes).await, "w"), (2, 0, 0), "{kind:?}");
                let uncertain = next(&mut changes).await;
                let t = uncertain.table("t").unwrap();
                assert!(t.inserted >= 6 && !t.exact, "{kind:?}: {t:?}");
                assert_eq!(counts(&next(&mut changes).await, "t"), (5, 0, 0), "{kind:?}");
            }
            db.execute("DELETE FROM t", ()).await?;
            if commits {
                assert_eq!(next(&mut changes).await.table("t").unwrap().deleted, 13);
            }
            db.execute("UPDATE w SET b = 1", ()).await?;
            assert_eq!(tables(&next(&mut changes).await), ["w"], "{kind:?}: what was rolled back is not told");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_watch_takes_no_rows_from_those_who_want_them_one_by_one() -> Result<()> {
    let exclusive = Home::new(Kind::KeyedFile);
    let memory = Home::new(Kind::PlainMemory);
    let file = Home::new(Kind::PlainFile);
    for db in [memory.open().await, file.open().await, exclusive.builder().exclusive().open().await?] {
        db.execute_script(SCHEMA).await?;
        let mut changes = db.changes_with(ChangeOptions::new().rows(true)).await?;
        for round in 0..3 {
            let mut watched = db.watch_as::<i64>("SELECT count(*) FROM w", ());
            timeout(secs(10), watched.next()).await.unwrap().unwrap()?;
            db.execute("INSERT INTO t VALUES (1, 1), (2, 2)", ()).await?;
            assert_eq!(next(&mut changes).await.table("t").unwrap().inserted, 2);
            db.execute(&format!("DELETE FROM t /* {round} */"), ()).await?;
            let change = next(&mut changes).await;
            let rows = change.table("t").unwrap().rows.as_ref();
            assert_eq!(rows.map(Vec::len), Some(2), "round {round}: {change:?}");
            // Something that it reads is defined, so it looks for its tables anew.
            db.execute(&format!("CREATE VIEW v{round} AS SELECT 1"), ()).await?;
            assert!(next(&mut changes).await.schema);
            tokio::time::sleep(millis(20)).await;
        }
    }
    Ok(())
}

/// However many there were before: the index of the log counts anew for the next who opens the file.
#[tokio::test]
async fn what_others_commit_while_the_database_is_suspended_is_told_once_it_resumes() -> Result<()> {
    for kind in Kind::FILES {
        for before in 0..3 {
            for stays in [true, false] {
                let home = Home::new(kind);
                let first = home.open().await;
                first.execute_script(SCHEMA).await?;
                first.close().await?;
                let db = home.open().await;
                let mut changes = db.changes_with(ChangeOptions::new().look_every(millis(100))).await?;
                for _ in 0..before {
                    db.execute("UPDATE w SET b = b + 1", ()).await?;
                    assert!(next(&mut changes).await.touches("w"));
                }
                assert!(timeout(millis(150), changes.next()).await.is_err(), "nothing has happened");
                db.suspend().await?;
                let other = home.open().await;
                for _ in 0..before.max(1) {
                    other.execute("INSERT INTO t (b) VALUES ('theirs')", ()).await?;
                }
                if !stays {
                    other.close().await?;
                }
                db.resume();
                let told = timeout(secs(3), changes.next()).await;
                let told = told.unwrap_or_else(|_| panic!("{kind:?}, {before} before, they stay: {stays}: untold"));
                assert!(told.unwrap().unattributed);
                // Its own are told as before.
                while timeout(millis(250), changes.next()).await.is_ok() {}
                db.execute("UPDATE w SET b = b + 1", ()).await?;
                let mine = next(&mut changes).await;
                assert!(!mine.unattributed && mine.touches("w"), "{mine:?}");
                assert!(timeout(millis(250), changes.next()).await.is_err(), "nothing has happened since");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_closure_that_deleted_nothing_has_not_committed_as_often() -> Result<()> {
    for closure in [
        "INSERT INTO t (b) VALUES ('mine'); DELETE FROM u WHERE a = -1",
        "INSERT INTO t (b) VALUES ('mine'); DELETE FROM u WHERE a = -1; DELETE FROM w WHERE a = -1",
    ] {
        let home = Home::new(Kind::FILES[0]);
        let db = home.open().await;
        db.execute_script(SCHEMA).await?;
        db.execute_script("CREATE TABLE u (a)").await?;
        let mut changes = db.changes_with(ChangeOptions::new().look_every(millis(100))).await?;
        db.interact(move |connection| connection.execute_batch(closure)).await.unwrap();
        while let Ok(mine) = timeout(millis(300), changes.next()).await {
            assert!(!mine.as_ref().unwrap().unattributed, "{closure}: taken for a commit of others: {mine:?}");
        }
        let other = home.open().await;
        other.execute("INSERT INTO t (b) VALUES ('theirs')", ()).await?;
        let told = timeout(secs(3), changes.next()).await.unwrap_or_else(|_| panic!("{closure}: untold"));
        assert!(told.unwrap().unattributed);
        other.close().await?;
        db.close().await?;
    }
    Ok(())
}

/// SQLite's hook says nothing else of a commit that fails.
#[tokio::test]
async fn what_a_closure_committed_is_told_though_it_went_on_to_fail_or_defined_something() -> Result<()> {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(SCHEMA).await?;
        let mut changes = db.changes().await?;
        db.interact(|c| {
            c.execute("INSERT INTO t VALUES (1, 1)", ())?;
            c.execute("INSERT INTO t VALUES (1, 1)", ()).unwrap_err();
            c.execute("UPDATE w SET b = 5", ())?;
            c.execute("INSERT INTO w VALUES (1, 1)", ()).unwrap_err();
            c.execute("CREATE TABLE more (a)", ())
        })
        .await?;
        let (mut told, mut schema) = (Vec::new(), false);
        while !["t", "w"].iter().all(|table| told.contains(&(*table).to_owned())) || !schema {
            let change = next(&mut changes).await;
            told.extend(tables(&change).into_iter().map(str::to_owned));
            schema |= change.schema;
        }
        db.interact(|c| {
            c.execute("CREATE TABLE even_more (a)", ())?;
            c.execute("INSERT INTO t VALUES (1, 1)", ())
        })
        .await
        .unwrap_err();
        assert!(next(&mut changes).await.schema, "{kind:?}");
        // Nothing of it was committed.
        db.interact(|c| {
            let tx = c.transaction()?;
            tx.execute("INSERT INTO t VALUES (2, 2)", ())?;
            tx.execute("CREATE TABLE undone (a)", ())?;
            tx.rollback()
        })
        .await?;
        db.execute("DELETE FROM t", ()).await?;
        assert_eq!(counts(&next(&mut changes).await, "t"), (0, 0, 1), "{kind:?}");
    }
    Ok(())
}
