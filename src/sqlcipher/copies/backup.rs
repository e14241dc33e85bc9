//! A copy of a database that is worked with.

use std::sync::Arc;
use std::time::Instant;

use rusqlite::Connection;

use super::draft::Draft;
use super::rows::Contents;
use super::sealed::SealedPages;
use super::verify::{Expected, verify};
use super::watcher::Watcher;
use super::{pages, rows};
use crate::connector::{Backup, BackupReport, CopyKey, Replace};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::sqlcipher::cipher::{self, KeySpec};
use crate::sqlcipher::errors::{classify, with_quota};
use crate::sqlcipher::ffi::wal_index::{Mark, WalIndex};
use crate::sqlcipher::format::{Format, Header};
use crate::sqlcipher::opening::diagnose::trial;
use crate::sqlcipher::opening::first::{journal_mode, random_salt};
use crate::sqlcipher::opening::opened::Opened;
use crate::sqlcipher::opening::reading::changed;
use crate::sqlcipher::opening::way::Way;
use crate::sqlcipher::running::control::Control;
use crate::sqlcipher::running::engine::Engine;
use crate::sqlcipher::statement::watch::Mode;

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
struct Snapshot<'c> {
    engine: &'c Engine,
    /// What the log's index said of that state, and how many frames a reader depended on before this one began. `None`:
    /// there is no index, or it is always written.
    state: Option<(Mark, u32)>,
}

impl<'c> Snapshot<'c> {
    fn of(engine: &'c Engine) -> Result<Self> {
        /// A commit between two looks at the index takes some microseconds of writing all the time.
        const TRIES: usize = 100;

        engine.watch.look(Mode::Open);
        let mut last = Self::begin(engine)?;
        for _ in 0..TRIES {
            if last.state.is_some() || engine.session.index().is_none() {
                break;
            }
            drop(last);
            last = Self::begin(engine)?;
        }
        trial(last.source()).map_err(classify)?;
        Ok(last)
    }

    /// Nobody has committed between two marks that are equal, so what began in between sees that state.
    fn begin(engine: &'c Engine) -> Result<Self> {
        let index = engine.session.index();
        let before = index.and_then(WalIndex::whole_mark);
        let pending = index.zip(before).map_or(0, |(index, before)| index.pending(&before));
        engine.connection.execute_batch("BEGIN").map_err(classify)?;
        let mut begun = Self { engine, state: None };
        engine.connection.execute_batch("PRAGMA schema_version").map_err(classify)?;
        let after = index.and_then(WalIndex::whole_mark);
        begun.state = before.filter(|_| before == after).map(|mark| (mark, pending));
        Ok(begun)
    }

    fn source(&self) -> &'c Connection {
        &self.engine.connection
    }

    /// The pages of that state as they stand in the files, if that can be known.
    fn sealed(&self, key: &KeySpec, look: &Watcher<'_>) -> Result<Option<SealedPages<'c>>> {
        match &self.state {
            Some((mark, pending)) => SealedPages::seen(self.source(), mark, *pending, key, look),
            None => Ok(None),
        }
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        // A connection that cannot does not come back to the pool.
        self.source().execute_batch("ROLLBACK").ok();
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
    let is_same = matches!(backup.key, CopyKey::Same);
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
        let mut expected = Expected::of(snapshot.source(), backup.check, &mut look)?;
        let has_such_pages = opened.key().is_some() == key.is_some() && fits(snapshot.source(), key)?;
        let pages = has_such_pages.then_some(backup.pages);
        let copied = copy(&snapshot, &draft, key, pages, is_same, &mut look);
        expected.contents = copied.map_err(|error| {
            let target = draft.target().display();
            error.context(format_args!("cannot copy to {target}")).about(target.to_string())
        })?;
        expected
    };
    let held = held_since.elapsed();
    look.held = None;
    let verified = verify(&draft, key, &expected, backup.check, control, &mut look);
    let pages = verified.map_err(|error| match key.filter(|_| is_same && error.reason() == Reason::Damaged) {
        Some(key) => damage(engine, key, &look).unwrap_or(error),
        None => error,
    })?;
    // Nothing has a new name yet.
    if !engine.is_still() {
        return Err(changed());
    }
    let (bytes, tables) = (draft.bytes(), expected.tables() as u64);
    let lasts = if cfg!(windows) {
        // What is open cannot be replaced there. If that comes to nothing, the next who opens it begins a log.
        if in_place.map(Folded::replaced).is_some() {
            engine.let_go()?;
        }
        draft.publish()?
    } else {
        let lasts = draft.publish()?;
        if let Some(original) = in_place {
            // It has no name any more, and a log that it began would be taken for the copy's.
            original.replaced();
        }
        lasts
    };
    lasts?;
    Ok(BackupReport { pages, bytes, encrypted: key.is_some(), tables, held, duration: began.elapsed() })
}

/// Copies by the shortest way that there is, `pages` at a time if both have such pages, and says what was found in rows
/// if those were copied.
fn copy(
    snapshot: &Snapshot<'_>,
    draft: &Draft,
    key: Option<&KeySpec>,
    pages: Option<u32>,
    is_same: bool,
    look: &mut Watcher<'_>,
) -> Result<Vec<Contents>> {
    if let (Some(key), Some(pages), true) = (key, pages, is_same)
        && let Some(sealed) = snapshot.sealed(key, look)?
    {
        if sealed.copy(draft, pages, look)?.is_none() {
            return Ok(Vec::new());
        }
        draft.empty()?;
    }
    let (source, mut target) = (snapshot.source(), draft_connection(draft, key)?);
    let copied = match pages {
        Some(pages) => pages::copy(source, &mut target, pages, look).map(|()| Vec::new()),
        None => resize(source, &target, key).and_then(|()| rows::copy(source, &target, look)),
    };
    let copied = copied.and_then(|contents| refuse_zeros(snapshot.engine).map(|()| contents));
    let contents = copied.map_err(|error| with_quota(error, &target))?;
    target.close().map_err(|(_, error)| classify(error))?;
    Ok(contents)
}

/// Where a page fails its seal, the engine copies zeros under a good one, and says nothing but in its status.
fn refuse_zeros(engine: &Engine) -> Result<()> {
    if engine.is_given_up() { Err(damaged("a page")) } else { Ok(()) }
}

/// The error of an original of which a page fails its seal, if one does.
fn damage(engine: &Engine, key: &KeySpec, look: &Watcher<'_>) -> Option<Error> {
    let find = || Snapshot::of(engine)?.sealed(key, look)?.map_or(Ok(None), |sealed| sealed.first_broken(look));
    find().ok().flatten().map(|page| damaged(&format!("page {page}")))
}

#[cold]
fn damaged(page: &str) -> Error {
    let error = Error::new(ErrorKind::Storage, format!("the original is damaged: {page} fails its seal"));
    error.because(Reason::Damaged).hint("restore it from a backup; check() names the pages")
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
