//! A power failure while the file of a database is exchanged: decrypted, restored, copied over, salvaged, given another
//! key. Each name has what it had or what it was to get, as a whole, and once that was acknowledged it stays.
//!
//! `STRONGROOM_CRASH_STATES` and `STRONGROOM_CRASH_SEED` are those of `common/lives.rs`.
#![cfg(all(feature = "sqlcipher", target_os = "linux", target_env = "gnu"))]

mod common;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/ledger.rs"]
mod ledger;
#[path = "common/lives.rs"]
mod lives;
#[path = "common/named.rs"]
mod named;

use std::ops::Range;
use std::path::{Path, PathBuf};

use common::{Home, Kind, key};
use faults::record::{Event, Record, Told};
use ledger::{CHANGE, FIRST, Ledger, OPEN, Story, judge};
use lives::{Life, busy, each_state, run};
use named::Named;
use strongroom::database::BackupOptions;
use strongroom::keys::CandidateKeySource;
use strongroom::pool::NoRetry;
use strongroom::sqlcipher::{ReplaceOptions, SalvageOptions, SqlCipherConnector, Synchronous, Tuning};
use strongroom::{AsyncDatabase, DatabaseBuilder, FileKeySource, KeySource, Reason};

/// Where the caller of the change was told so.
fn moment(record: &Record, told: Told) -> usize {
    record.events.iter().position(|event| *event == Event::Told(CHANGE, told)).unwrap()
}

fn beside(home: &Home, name: &str) -> PathBuf {
    home.directory.path().join(name)
}

fn is_plain(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0"))
}

/// A file with the usual key that has to be there, and to have what a story tells.
async fn judge_file(path: &Path, story: &Story) -> Result<(), String> {
    let what = path.file_name().unwrap().to_string_lossy();
    let builder = AsyncDatabase::builder(path).key(key()).create_if_missing(false).retry(NoRetry);
    let db = builder.open().await.map_err(|error| format!("{what}: {error}"))?;
    judge(&db, story, Synchronous::Full).await.map_err(|found| format!("{what}: {found}"))?;
    db.close().await.map(drop).map_err(|error| format!("{what}: {error}"))
}

/// How many rows of the writes that began between these moments a file has.
async fn rows_of(home: &Home, record: &Record, moments: &Range<usize>) -> Result<i64, String> {
    let began = |event: &Event| match event {
        Event::Told(operation, Told::Begun) if *operation >= FIRST => Some(*operation),
        _ => None,
    };
    let mut operations = record.events[moments.clone()].iter().filter_map(began);
    let first = operations.next().unwrap();
    let last = operations.next_back().unwrap();
    let rows = async {
        let db = home.builder().retry(NoRetry).open().await?;
        let rows: Option<i64> = if db.table_exists("t").await? {
            db.fetch_value("SELECT count(*) FROM t WHERE op BETWEEN $1 AND $2", (first, last)).await?
        } else {
            None
        };
        db.close().await?;
        Ok::<_, strongroom::Error>(rows.unwrap_or_default())
    };
    rows.await.map_err(|error| format!("rows: {error}"))
}

#[test]
fn a_database_that_is_decrypted_in_place_opens_as_what_it_was_or_will_be() {
    let mut life = Life::new(Synchronous::Full);
    let ledger = life.ledger(300);
    run(async {
        let db = life.open(&ledger).await;
        busy(&db, &ledger, 4, 5).await;
        db.close().await.unwrap();
        ledger.tell(CHANGE, life.builder(&life.home).decrypt(ReplaceOptions::new())).await.unwrap();
        life.home.kind = Kind::PlainFile;
        let db = life.builder(&life.home).open().await.unwrap();
        busy(&db, &ledger, 2, 2).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    life.assert_complete(&record);
    each_state("decryption", &record, async |home, story| {
        let plain = is_plain(&home.path());
        if plain != story.has_begun(CHANGE) && (plain || story.is_done(CHANGE)) {
            return Err(format!("plain: {plain}"));
        }
        home.kind = if plain { Kind::PlainFile } else { Kind::KeyedFile };
        life.judge(home, story).await
    });
}

/// A database that is written, copied, and written again, with the position of the copy in the record.
async fn worked_with_a_copy(life: &Life, ledger: &Ledger) -> (AsyncDatabase, usize) {
    let db = life.open(ledger).await;
    busy(&db, ledger, 2, 5).await;
    db.backup_to(beside(&life.home, "copy.db")).await.unwrap();
    let copied = ledger.recording.position();
    busy(&db, ledger, 2, 5).await;
    (db, copied)
}

#[test]
fn a_database_that_is_restored_is_what_it_was_or_the_copy_and_what_was_there_is_kept() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(300);
    let mut copied = 0;
    run(async {
        let (db, at) = worked_with_a_copy(&life, &ledger).await;
        copied = at;
        db.close().await.unwrap();
        let options = ReplaceOptions::new().keep(beside(&life.home, "kept.db"));
        let restored = life.builder(&life.home).restore_from(beside(&life.home, "copy.db"), options);
        ledger.tell(CHANGE, restored).await.unwrap();
        let db = life.builder(&life.home).open().await.unwrap();
        busy(&db, &ledger, 2, 3).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    life.assert_complete(&record);
    let begun = moment(&record, Told::Begun);
    let lost = copied..begun;
    each_state("restoring", &record, async |home, story| {
        if !story.has_begun(CHANGE) {
            return life.judge(home, story).await;
        }
        let kept = beside(home, "kept.db");
        if story.is_done(CHANGE) || kept.exists() {
            judge_file(&kept, &Story::of(&record, begun)).await?;
        }
        judge_file(&beside(home, "copy.db"), &Story::of(&record, copied)).await?;
        let rows = rows_of(home, &record, &lost).await?;
        if rows == 0 {
            return life.judge(home, &story.clone().without(lost.clone())).await;
        }
        if story.is_done(CHANGE) {
            return Err(format!("{rows} rows that the copy has not"));
        }
        life.judge(home, story).await
    });
}

#[test]
fn a_copy_over_an_older_one_is_the_older_or_the_newer_and_never_gone() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(300);
    let mut copied = 0;
    run(async {
        let (db, at) = worked_with_a_copy(&life, &ledger).await;
        copied = at;
        let options = BackupOptions::new().replace(true);
        ledger.tell(CHANGE, db.backup_with(beside(&life.home, "copy.db"), options)).await.unwrap();
        busy(&db, &ledger, 2, 2).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    life.assert_complete(&record);
    let begun = moment(&record, Told::Begun);
    each_state("copy over a copy", &record, async |home, story| {
        life.judge(home, story).await?;
        let copy = beside(home, "copy.db");
        if story.is_done(CHANGE) {
            return judge_file(&copy, &Story::of(&record, begun)).await;
        }
        if story.has_begun(CHANGE) || copy.exists() {
            judge_file(&copy, &Story::of(&record, copied)).await?;
        }
        Ok(())
    });
}

#[test]
fn what_is_salvaged_is_there_as_a_whole_or_not_at_all() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(300);
    run(async {
        let db = life.open(&ledger).await;
        busy(&db, &ledger, 4, 5).await;
        db.close().await.unwrap();
        let salvaged = life.builder(&life.home).salvage_to(beside(&life.home, "new.db"), SalvageOptions::new());
        ledger.tell(CHANGE, salvaged).await.unwrap();
    });
    let record = ledger.recording.so_far();
    life.assert_complete(&record);
    let begun = moment(&record, Told::Begun);
    each_state("salvage", &record, async |home, story| {
        life.judge(home, story).await?;
        let new = beside(home, "new.db");
        if story.is_done(CHANGE) || new.exists() {
            judge_file(&new, &Story::of(&record, begun)).await?;
        }
        Ok(())
    });
}

/// Of an encrypted database, with a source of keys.
fn keyed(home: &Home, source: impl KeySource + 'static) -> DatabaseBuilder<SqlCipherConnector> {
    let tuning = Tuning::default().synchronous(Synchronous::Full);
    AsyncDatabase::builder(home.path()).key(source).tuning(tuning).retry(NoRetry)
}

async fn judge_with(home: &Home, source: impl KeySource + 'static, story: &Story) -> Result<String, String> {
    let db = keyed(home, source).open().await.map_err(|error| format!("open: {error}"))?;
    judge(&db, story, Synchronous::Full).await?;
    let used = db.key_source().unwrap().to_owned();
    let report = db.close().await.map_err(|error| format!("close: {error}"))?;
    if report.is_clean() { Ok(used) } else { Err(format!("close: {report:?}")) }
}

async fn changes_its_key(home: &Home, ledger: &Ledger, old: impl KeySource + 'static, new: Option<FileKeySource>) {
    let db = ledger.tell(OPEN, keyed(home, old).open()).await.unwrap();
    ledger.schema(&db).await.unwrap();
    busy(&db, ledger, 3, 4).await;
    let change = async {
        match new {
            Some(fresh) => ledger.tell(CHANGE, db.rekey_fresh(fresh)).await.unwrap(),
            None => ledger.tell(CHANGE, db.rekey(Named("new", 2))).await.unwrap(),
        }
    };
    tokio::join!(busy(&db, ledger, 2, 4), change);
    busy(&db, ledger, 2, 2).await;
    db.close().await.unwrap();
}

#[test]
fn a_database_that_gets_another_key_has_the_old_or_the_new_one_and_every_row() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(300);
    run(changes_its_key(&life.home, &ledger, Named("old", 1), None));
    let record = ledger.recording.so_far();
    life.assert_complete(&record);
    each_state("another key", &record, async |home, story| {
        let either = CandidateKeySource::new(Named("old", 1)).or(Named("new", 2));
        // Where there is no file yet, one of these two makes it, and no key tells anything.
        let made = home.path().exists();
        let used = judge_with(home, either, story).await?;
        match used.as_str() {
            "old" if story.is_done(CHANGE) => Err("the new key was acknowledged and is lost".into()),
            "new" if made && !story.has_begun(CHANGE) => Err("the new key was not asked for".into()),
            _ => Ok(()),
        }
    });
}

#[test]
fn a_key_that_is_made_anew_opens_the_database_by_its_source_at_every_moment() {
    let life = Life::new(Synchronous::Full);
    let ledger = life.ledger(300);
    let source = |home: &Home| FileKeySource::new(beside(home, "app.key")).raw_key().create_if_missing(true);
    run(changes_its_key(&life.home, &ledger, source(&life.home), Some(source(&life.home))));
    let record = ledger.recording.so_far();
    life.assert_complete(&record);
    let first = |home: &Home| std::fs::read(beside(home, "app.key")).ok();
    let at_last = first(&life.home);
    each_state("a fresh key", &record, async |home, story| {
        let (made, there) = (home.path().exists(), beside(home, "app.key").exists());
        if !made && there && !story.is_done(OPEN) {
            // A key without a database: it might be that of one that was lost, and nobody may take it for a new one.
            let refused = keyed(home, source(home)).open().await.map(drop).unwrap_err();
            return if refused.reason() == Reason::KeyPresent { Ok(()) } else { Err(refused.to_string()) };
        }
        judge_with(home, source(home), story).await?;
        if story.is_done(CHANGE) && first(home) != at_last {
            return Err("the new key was acknowledged, and its source offers another".into());
        }
        Ok(())
    });
}
