//! A copy of a database that is worked with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::draft::Draft;
use super::verify::{Expected, verify};
use super::{pages, rows};
use crate::connector::{Backup, BackupProgress, BackupReport, BackupStage, CopyKey, Replace};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::sqlcipher::cipher::{self, KeySpec};
use crate::sqlcipher::errors::{classify, with_quota};
use crate::sqlcipher::format::{Format, Header};
use crate::sqlcipher::opening::first::{journal_mode, random_salt};
use crate::sqlcipher::opening::opened::{Opened, trial};
use crate::sqlcipher::opening::way::Way;
use crate::sqlcipher::running::control::Control;
use crate::sqlcipher::running::engine::Engine;
use crate::sqlcipher::statement::watch::Mode;

/// Whether to go on, asked between two steps; and who is told how far it is.
pub(super) struct Watcher<'a> {
    control: &'a Control,
    progress: &'a mut (dyn FnMut(BackupProgress) + Send),
    /// Since when the log cannot start over, and for how long it may.
    held: Option<(Instant, Duration)>,
}

impl<'a> Watcher<'a> {
    /// Of a copy that holds up no log.
    pub(super) fn new(control: &'a Control, progress: &'a mut (dyn FnMut(BackupProgress) + Send)) -> Self {
        Self { control, progress, held: None }
    }

    pub(super) fn at(&mut self, stage: BackupStage, done: u64, total: u64) -> Result<()> {
        self.pause()?;
        // The rows of a copy are looked at without being counted.
        if total > 0 {
            (self.progress)(BackupProgress::new(stage, done, total));
        }
        Ok(())
    }

    pub(super) fn pause(&self) -> Result<()> {
        if self.control.should_stop() {
            return Err(Error::new(ErrorKind::Cancelled, "the copy was stopped before its end"));
        }
        match self.held {
            Some((since, limit)) if since.elapsed() > limit => {
                let message = format!("the copy would keep the log from starting over for longer than {limit:?}");
                Err(Error::new(ErrorKind::Timeout, message)
                    .because(Reason::RolledBack)
                    .hint("raise hold_log_at_most(), or copy when less is written"))
            }
            _ => Ok(()),
        }
    }
}

/// An original that is about to be replaced: alone in its file, without a log. Has its log again if that came to nothing.
struct Folded<'e>(Option<&'e Engine>);

impl<'e> Folded<'e> {
    fn of(engine: &'e Engine) -> Result<Self> {
        if engine.way != Way::Exclusive {
            let error = Error::new(ErrorKind::Unsupported, "a database can be replaced only by who has it for itself");
            return Err(error.hint("open it with .exclusive()"));
        }
        engine.watch.look(Mode::Open);
        let folded = Self(Some(engine));
        let mode = |mode| journal_mode(&engine.connection, mode).map_err(classify);
        if mode("DELETE")? != "delete" {
            return Err(Error::new(ErrorKind::Busy, "the log could not be folded into the file").transient());
        }
        // Whoever opens the new file at once may have a journal of this name, which must not be removed with ours.
        mode("MEMORY")?;
        if let Some(path) = engine.connection.path() {
            std::fs::remove_file(format!("{path}-journal")).ok();
        }
        Ok(folded)
    }

    fn replaced(mut self) {
        self.0 = None;
    }
}

impl Drop for Folded<'_> {
    fn drop(&mut self) {
        if let Some(engine) = self.0 {
            journal_mode(&engine.connection, "WAL").ok();
        }
    }
}

/// Sees one state of the database until it is dropped.
struct Snapshot<'c>(&'c Connection);

impl<'c> Snapshot<'c> {
    fn of(engine: &'c Engine) -> Result<Self> {
        engine.watch.look(Mode::Open);
        engine.connection.execute_batch("BEGIN").map_err(classify)?;
        let snapshot = Self(&engine.connection);
        trial(&engine.connection).map_err(classify)?;
        Ok(snapshot)
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        // A connection that cannot does not come back to the pool.
        self.0.execute_batch("ROLLBACK").ok();
    }
}

/// Copies what the engine sees now. Blocks.
pub(in super::super) fn back_up(
    engine: &mut Engine,
    opened: &Opened,
    control: &Arc<Control>,
    mut backup: Backup,
) -> Result<BackupReport> {
    let began = Instant::now();
    if engine.in_transaction() {
        let error = Error::new(ErrorKind::Unsupported, "a copy cannot be made inside a transaction");
        return Err(error.because(Reason::Control).hint("end the transaction first"));
    }
    let key = match &backup.key {
        CopyKey::Same => opened.key(),
        CopyKey::Plain => None,
        CopyKey::Other(secret) => {
            cipher::require(&engine.connection)?;
            let format = opened.key().map_or_else(Format::default, |key| key.format());
            Some(Arc::new(KeySpec::make(secret, random_salt()?, Format { header: Header::Salt, ..format })?))
        }
    };
    let key = key.as_deref();
    let in_place = if matches!(backup.replace, Replace::Original(_)) { Some(Folded::of(engine)?) } else { None };
    let draft = Draft::beside(&backup.target, std::mem::take(&mut backup.replace))?;
    let mut look = Watcher::new(control, &mut *backup.progress);
    let held_since = Instant::now();
    let expected = {
        let snapshot = Snapshot::of(engine)?;
        look.held = backup.hold.map(|limit| (held_since, limit));
        let mut expected = Expected::of(snapshot.0, backup.check, &mut look)?;
        let mut target = draft_connection(&draft, key)?;
        let has_such_pages = opened.key().is_some() == key.is_some() && fits(snapshot.0, key)?;
        let copied = if has_such_pages {
            pages::copy(snapshot.0, &mut target, backup.pages, &mut look)
        } else {
            resize(snapshot.0, &target, key).and_then(|()| rows::copy(snapshot.0, &target, &mut look)).map(|contents| {
                expected.contents = contents;
            })
        };
        let copied = copied.and_then(|()| refuse_zeros(engine)).map_err(|error| with_quota(error, &target));
        copied.and_then(|()| target.close().map_err(|(_, error)| classify(error))).map_err(|error| {
            let target = draft.target().display();
            error.context(format_args!("cannot copy to {target}")).about(target.to_string())
        })?;
        expected
    };
    let held = held_since.elapsed();
    look.held = None;
    draft.sync()?;
    let pages = verify(&draft, key, &expected, backup.check, control, &mut look)?;
    let (bytes, tables) = (draft.bytes(), expected.tables() as u64);
    if cfg!(windows) {
        // What is open cannot be replaced there. If that comes to nothing, the next who opens it begins a log.
        if in_place.map(Folded::replaced).is_some() {
            engine.let_go()?;
        }
        draft.publish()?;
    } else {
        draft.publish()?;
        if let Some(original) = in_place {
            original.replaced();
        }
    }
    Ok(BackupReport { pages, bytes, encrypted: key.is_some(), tables, held, duration: began.elapsed() })
}

/// Where a page fails its seal, the engine copies zeros under a good one, and says nothing but in its status.
fn refuse_zeros(engine: &Engine) -> Result<()> {
    if !engine.is_given_up() {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Storage, "the original is damaged: a page fails its seal");
    Err(error.because(Reason::Damaged).hint("restore it from a backup; check() names the pages"))
}

/// A connection that fills the draft. A draft is never rolled back, and is synced when it is whole.
pub(super) fn draft_connection(draft: &Draft, key: Option<&KeySpec>) -> Result<Connection> {
    let connection = draft.location(false).open()?;
    if let Some(key) = key {
        cipher::key(&connection, key)?;
    }
    let settings = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE";
    connection.execute_batch(settings).map_err(classify)?;
    Ok(connection)
}

fn page_size(connection: &Connection) -> Result<u32> {
    // SQLCipher answers with a text.
    let size = connection.query_row("PRAGMA page_size", (), |row| match row.get_ref(0)? {
        rusqlite::types::ValueRef::Text(digits) => {
            Ok(str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).unwrap_or(0))
        }
        number => Ok(u32::try_from(number.as_i64()?).unwrap_or(0)),
    });
    size.map_err(classify)
}

/// Whether the pages of the source have the size that this key makes. Those of a plain copy become what they are.
fn fits(source: &Connection, key: Option<&KeySpec>) -> Result<bool> {
    match key {
        Some(key) => Ok(page_size(source)? as usize == key.page_size()),
        None => Ok(true),
    }
}

/// The pages of a plain copy are as large as those of the original.
fn resize(source: &Connection, target: &Connection, key: Option<&KeySpec>) -> Result<()> {
    if key.is_some() {
        return Ok(());
    }
    target.execute_batch(&format!("PRAGMA page_size = {}", page_size(source)?)).map_err(classify)
}
