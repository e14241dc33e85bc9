//! A power failure at any moment of anything: what was acknowledged is there, nothing is there by halves, and the file
//! opens and is whole.
//!
//! Each test records what a piece of a database's life does to its files, together with what callers were told; then
//! disks are made as a power failure at some moment may leave them (`common/states.rs`), opened and judged.
//!
//! `STRONGROOM_CRASH_STATES` and `STRONGROOM_CRASH_SEED` are those of `common/lives.rs`.
#![cfg(all(feature = "sqlcipher", feature = "migrations", target_os = "linux", target_env = "gnu"))]

mod common;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/ledger.rs"]
mod ledger;
#[path = "common/lives.rs"]
mod lives;

use common::{Home, Kind, key};
use faults::Call;
use faults::record::{Event, Record};
use faults::states;
use ledger::{CHANGE, OPEN, Story, judge};
use lives::{Life, busy, each_state, run};
use strongroom::database::migrations::Migrations;
use strongroom::sqlcipher::{ReplaceOptions, SqlCipherConnector, Synchronous, Tuning};
use strongroom::{AsyncDatabase, rusqlite};

/// Everybody's writes with a lane full of them, then a close. Without the script, a session could be altered by it.
fn groups(level: Synchronous, tuning: fn(Tuning) -> Tuning) -> (Life, Record) {
    let mut life = Life::new(level);
    life.tuning = tuning(life.tuning);
    let ledger = life.ledger(200);
    run(async {
        let db = life.open(&ledger).await;
        db.execute_script("PRAGMA synchronous = OFF\nDROP TABLE nothing").await.unwrap_err();
        busy(&db, &ledger, 8, 5).await;
        db.checkpoint().await.unwrap();
        busy(&db, &ledger, 3, 4).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    (life, record)
}

#[test]
fn many_tasks_that_write_at_once_lose_nothing_acknowledged_when_commits_are_synced() {
    let (life, record) = groups(Synchronous::Full, |tuning| tuning);
    life.each_state("groups, full", &record);
}

#[test]
fn transactions_that_share_syncs_lose_nothing_acknowledged() {
    let (life, record) = groups(Synchronous::FullShared, |tuning| tuning);
    life.each_state("groups, shared", &record);
}

#[test]
fn without_synced_commits_only_the_newest_are_lost_and_never_a_half() {
    let (life, record) = groups(Synchronous::Normal, |tuning| tuning);
    life.each_state("groups, normal", &record);
}

#[test]
fn without_short_cuts_nothing_is_lost_either() {
    let (life, record) = groups(Synchronous::Full, Tuning::plain);
    life.each_state("plain, full", &record);
}

/// More than the log holds before it is copied, in small pages; with a reader that holds it up for a while.
fn background(level: Synchronous) -> (Life, Record) {
    let mut life = Life::new(level);
    life.page = 1024;
    let ledger = life.ledger(3000);
    run(async {
        let db = life.open(&ledger).await;
        busy(&db, &ledger, 4, 4).await;
        let mut reader = db.read_connection().await.unwrap();
        reader.execute("BEGIN", ()).await.unwrap();
        reader.fetch_one("SELECT count(*) FROM t", ()).await.unwrap();
        busy(&db, &ledger, 4, 6).await;
        reader.execute("COMMIT", ()).await.unwrap();
        drop(reader);
        busy(&db, &ledger, 4, 9).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    (life, record)
}

#[test]
fn a_log_that_is_copied_in_the_background_loses_nothing_acknowledged() {
    let (life, record) = background(Synchronous::Full);
    life.each_state("background, full", &record);
}

#[test]
fn a_log_that_is_copied_without_synced_commits_loses_only_the_newest() {
    let (life, record) = background(Synchronous::Normal);
    life.each_state("background, normal", &record);
}

#[test]
fn a_log_whose_copy_was_not_synced_loses_nothing_acknowledged() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(300);
    let file = life.home.directory.path().canonicalize().unwrap().join("app.db");
    run(async {
        let db = life.open(&ledger).await;
        busy(&db, &ledger, 4, 5).await;
        let mut reader = db.read_connection().await.unwrap();
        reader.execute("BEGIN", ()).await.unwrap();
        reader.fetch_one("SELECT count(*) FROM t", ()).await.unwrap();
        busy(&db, &ledger, 4, 5).await;
        // What the reader does not see stays in the log; a part that is copied is not synced.
        assert!(db.checkpoint().await.unwrap().left > 0);
        reader.execute("COMMIT", ()).await.unwrap();
        drop(reader);
        faults::fail(&file, Call::Sync, 0, 1, libc::EIO);
        db.checkpoint().await.unwrap_err();
        faults::heal(&file);
        busy(&db, &ledger, 2, 3).await;
        db.checkpoint().await.unwrap();
        busy(&db, &ledger, 2, 3).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    let failed = record.events.iter().any(|event| matches!(event, Event::Sync { fine: false, .. }));
    assert!(failed, "no copy of the log was synced");
    life.each_state("failed copy, full", &record);
}

fn failed_sync(level: Synchronous) -> (Life, Record) {
    let life = Life::new(level);
    let ledger = life.ledger(300);
    let log = life.home.directory.path().canonicalize().unwrap().join("app.db-wal");
    run(async {
        let db = ledger.tell(OPEN, life.builder(&life.home).pool_max(1).open()).await.unwrap();
        ledger.schema(&db).await.unwrap();
        busy(&db, &ledger, 2, 3).await;
        faults::fail(&log, Call::Sync, 0, 1, libc::EIO);
        while faults::failed(&log) == 0 {
            ledger.write(&db).await.ok();
            // Without synced commits, this is where the log is synced first.
            if level == Synchronous::Normal {
                db.checkpoint().await.ok();
            }
        }
        faults::heal(&log);
        // The only connection is given up, and the next one finds in the log what the disk may lack.
        db.interact(|_| -> rusqlite::Result<()> { panic!("a closure panics") }).await.unwrap_err();
        busy(&db, &ledger, 2, 6).await;
        db.checkpoint().await.unwrap();
        busy(&db, &ledger, 2, 3).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    (life, record)
}

#[test]
fn a_log_that_could_not_be_synced_is_written_anew_before_anything_follows() {
    for level in [Synchronous::Full, Synchronous::FullShared, Synchronous::Normal] {
        let (life, record) = failed_sync(level);
        life.each_state(&format!("failed sync of the log, {level:?}"), &record);
    }
}

#[test]
fn a_creation_and_each_reopening_leave_a_path_that_opens() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(200);
    run(async {
        life.open(&ledger).await.close().await.unwrap();
        for _ in 0..3 {
            let db = life.builder(&life.home).open().await.unwrap();
            busy(&db, &ledger, 2, 2).await;
            db.close().await.unwrap();
        }
    });
    life.each_state("creation", &ledger.recording.so_far());
}

#[test]
fn a_vacuum_moves_rows_and_loses_none() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(500);
    run(async {
        let db = life.open(&ledger).await;
        db.execute("CREATE TABLE waste AS SELECT randomblob(3000) FROM t, t LIMIT 60", ()).await.unwrap();
        busy(&db, &ledger, 4, 5).await;
        db.execute("DROP TABLE waste", ()).await.unwrap();
        let vacuum = async {
            db.vacuum_free(None, |_| {}).await.unwrap();
            db.vacuum().await.unwrap();
        };
        tokio::join!(vacuum, busy(&db, &ledger, 2, 6));
        db.execute("VACUUM", ()).await.unwrap();
        busy(&db, &ledger, 2, 2).await;
        db.close().await.unwrap();
    });
    life.each_state("vacuum", &ledger.recording.so_far());
}

fn steps() -> Migrations<SqlCipherConnector> {
    let rebuilt = "CREATE TABLE rebuilt (op INTEGER, part INTEGER, width INTEGER, text TEXT, PRIMARY KEY (op, part));
        INSERT INTO rebuilt SELECT * FROM t; DROP TABLE t; ALTER TABLE rebuilt RENAME TO t;
        CREATE TRIGGER t_total AFTER INSERT ON t BEGIN UPDATE total SET n = n + 1; END";
    let rows = "INSERT INTO step VALUES (1)";
    Migrations::new()
        .sql(1, "table", "CREATE TABLE step (n)")
        .sql(2, "rows", rows)
        .sql(3, "rebuilt", rebuilt)
        .sql(4, "more", rows)
}

#[test]
fn a_migration_is_there_or_not_and_goes_on_from_there() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(300);
    run(async {
        let db = life.open(&ledger).await;
        busy(&db, &ledger, 2, 6).await;
        tokio::join!(async { ledger.tell(CHANGE, db.migrate(&steps())).await.unwrap() }, busy(&db, &ledger, 2, 4));
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    life.assert_complete(&record);
    each_state("migration", &record, async |home, story| {
        life.judge(home, story).await?;
        let db = life.builder(home).open().await.unwrap();
        let plan = db.migration_plan(&steps()).await.map_err(|error| error.to_string())?;
        if story.is_done(CHANGE) && !plan.pending.is_empty() {
            return Err("a migration that was acknowledged is lost".into());
        }
        if db.table_exists("t").await.unwrap() {
            db.migrate(&steps()).await.map_err(|error| format!("migrate: {error}"))?;
            let rows: Option<i64> = db.fetch_value("SELECT count(*) FROM step", ()).await.unwrap();
            if rows != Some(2) {
                return Err(format!("{rows:?} rows of two migrations"));
            }
        }
        db.close().await.unwrap();
        life.judge(home, story).await
    });
}

#[test]
fn a_copy_is_there_as_a_whole_or_not_at_all() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(300);
    let copy = |home: &Home| home.directory.path().join("copy.db");
    run(async {
        let db = life.open(&ledger).await;
        busy(&db, &ledger, 4, 5).await;
        ledger.tell(CHANGE, db.backup_to(copy(&life.home))).await.unwrap();
        busy(&db, &ledger, 2, 2).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    life.assert_complete(&record);
    each_state("copy", &record, async |home, story| {
        life.judge(home, story).await?;
        if !copy(home).exists() {
            return if story.is_done(CHANGE) { Err("the copy is gone".into()) } else { Ok(()) };
        }
        let builder = AsyncDatabase::builder(copy(home)).key(key()).create_if_missing(false);
        let db = builder.open().await.map_err(|error| format!("the copy: {error}"))?;
        // All that was written before it, and nothing later has to be in it.
        let begun = record.events.iter().position(|event| matches!(event, Event::Told(CHANGE, _))).unwrap();
        judge(&db, &Story::of(&record, begun), Synchronous::Full)
            .await
            .map_err(|found| format!("the copy: {found}"))?;
        db.close().await.map(drop).map_err(|error| error.to_string())
    });
}

#[test]
fn a_database_that_is_encrypted_in_place_opens_as_what_it_was_or_will_be() {
    let mut life = Life::new(Synchronous::Full);
    life.home.kind = Kind::PlainFile;
    let ledger = life.ledger(300);
    run(async {
        let db = life.open(&ledger).await;
        busy(&db, &ledger, 4, 5).await;
        db.close().await.unwrap();
        let builder = AsyncDatabase::builder(life.home.path()).key(key());
        ledger.tell(CHANGE, builder.encrypt(ReplaceOptions::new())).await.unwrap();
        life.home.kind = Kind::KeyedFile;
        let db = life.builder(&life.home).open().await.unwrap();
        busy(&db, &ledger, 2, 2).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    life.assert_complete(&record);
    each_state("encryption", &record, async |home, story| {
        let plain = std::fs::read(home.path()).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0"));
        if story.is_done(CHANGE) && plain {
            return Err("the encryption was acknowledged and is lost".into());
        }
        home.kind = if plain || !story.has_begun(CHANGE) { Kind::PlainFile } else { Kind::KeyedFile };
        life.judge(home, story).await
    });
}

#[test]
fn a_commit_without_a_write_ahead_log_is_not_undone_by_a_journal_that_comes_back() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(300);
    let record = run(async {
        life.open(&ledger).await.close().await.unwrap();
        let db = life.builder(&life.home).exclusive().open().await.unwrap();
        let mut only = db.connection().await.unwrap();
        let mode: String = only.fetch_value("PRAGMA journal_mode = DELETE", ()).await.unwrap().unwrap();
        assert_eq!(mode, "delete");
        // Under the exclusive lock the journal is not deleted but emptied.
        only.fetch_all("PRAGMA locking_mode = NORMAL", ()).await.unwrap();
        only.fetch_all("SELECT count(*) FROM t", ()).await.unwrap();
        ledger.tell(CHANGE, only.execute("CREATE TABLE acknowledged (a)", ())).await.unwrap();
        let record = ledger.recording.so_far();
        drop(only);
        db.close().await.unwrap();
        record
    });
    for seed in 0..16 {
        let home = Home::new(Kind::KeyedFile);
        let disk = states::crash(&record, record.events.len(), &mut fastrand::Rng::with_seed(seed));
        states::write(&disk, home.directory.path());
        run(async {
            let db = life.builder(&home).open().await.unwrap();
            assert!(db.table_exists("acknowledged").await.unwrap(), "state {seed}: an acknowledged commit is lost");
            db.close().await.unwrap();
        });
    }
}
