//! Looking at a copy before it is called one.

use std::sync::Arc;
use std::thread;

use rusqlite::Connection;

use super::draft::Draft;
use super::rows::{self, Contents, quoted};
use super::seals;
use super::watcher::Watcher;
use crate::connector::{BackupStage, CheckDepth};
use crate::crypto::exit_gate;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::lock::foreign;
use crate::sqlcipher::cipher::{self, KeySpec};
use crate::sqlcipher::errors::classify;
use crate::sqlcipher::ffi::running;
use crate::sqlcipher::opening::creation::prove_encrypted;
use crate::sqlcipher::opening::diagnose;
use crate::sqlcipher::opening::diagnose::trial;
use crate::sqlcipher::opening::file::PathView;
use crate::sqlcipher::opening::location::Location;
use crate::sqlcipher::running::control::Control;

/// What the original is known to hold.
#[derive(Debug)]
pub(super) struct Expected {
    schema: Vec<Object>,
    /// Rows of each table; empty if they were not counted.
    counts: Vec<(String, u64)>,
    /// What each table holds; empty if the pages were copied.
    pub(super) contents: Vec<Contents>,
}

/// Kind, name, table and text.
type Object = (String, String, String, Option<String>);

impl Expected {
    /// Looks at the original, in the transaction in which it is copied.
    pub(super) fn of(source: &Connection, depth: CheckDepth, look: &mut Watcher<'_>) -> Result<Self> {
        let schema = schema(source).map_err(classify)?;
        let counts = if depth == CheckDepth::Full { counts(source, &schema, look)? } else { Vec::new() };
        Ok(Self { schema, counts, contents: Vec::new() })
    }

    /// How many tables there are, those in pages of their own.
    pub(super) fn tables(&self) -> usize {
        self.schema.iter().filter(|(kind, ..)| kind == "table").count()
    }
}

/// Syncs the copy, opens it anew and compares it with what is expected. Says how many pages it has.
pub(super) fn verify(
    draft: &Draft,
    key: Option<&KeySpec>,
    expected: &Expected,
    depth: CheckDepth,
    control: &Arc<Control>,
    look: &mut Watcher<'_>,
) -> Result<u64> {
    // All rows are read, and nobody works beside.
    let beside = key.filter(|_| draft.replaces() && !expected.contents.is_empty());
    if beside.is_none() {
        draft.syncing()()?;
    }
    let location = draft.location(true);
    // Without locks and without a log, which a draft does not have.
    let mut connection = location.open_view(PathView::Alone)?;
    let stop = Arc::clone(control);
    running::ask(&mut connection, 1000, move || stop.should_stop()).map_err(classify)?;
    if let Some(key) = key {
        cipher::key(&connection, key)?;
    }
    trial(&connection).map_err(|error| diagnose::explain_with(&location, &connection, error))?;
    if let Some(key) = key {
        prove_encrypted(&location, &connection, key)?;
    }
    look.at(BackupStage::Check, 0, 3)?;
    let pragma = match depth {
        CheckDepth::Full => Some("PRAGMA integrity_check(1)"),
        CheckDepth::Quick => key.is_none().then_some("PRAGMA quick_check(1)"),
    };
    let Some(key) = beside else {
        if let Some(key) = key {
            let broken = first_broken(&location, key, draft.replaces(), look)?;
            complain(draft, broken.as_deref())?;
        }
        return compare(draft, &connection, expected, pragma, look);
    };
    let sync = draft.syncing();
    let sync_and_look = || {
        let _pass = exit_gate::enter();
        sync()?;
        first_broken(&location, key, false, &Watcher::new(control, &mut |_| {}))
    };
    thread::scope(|scope| {
        foreign();
        let thread = thread::Builder::new().name("strongroom-seals".into());
        let other = thread.spawn_scoped(scope, sync_and_look);
        let pages = compare(draft, &connection, expected, pragma, look);
        let broken = match other {
            Ok(other) => other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => sync_and_look(),
        };
        // It names the page of which this thread may have had an error.
        complain(draft, broken?.as_deref())?;
        pages
    })
}

/// Looks at the seal of each page.
fn first_broken(location: &Location, key: &KeySpec, helped: bool, look: &Watcher<'_>) -> Result<Option<String>> {
    let Some(length) = location.len() else { return Ok(None) };
    let connection = location.open_view(PathView::Alone)?;
    let broken = seals::first_broken(&connection, length, key, helped, &mut || look.pause())?;
    Ok(broken.map(|page| format!("page {page} fails its seal")))
}

/// Compares what stands in the copy with what is expected.
fn compare(
    draft: &Draft,
    connection: &Connection,
    expected: &Expected,
    pragma: Option<&str>,
    look: &mut Watcher<'_>,
) -> Result<u64> {
    look.at(BackupStage::Check, 1, 3)?;
    if let Some(pragma) = pragma {
        match complaint(connection, pragma) {
            Err(error) if needs_the_program(&error) => {
                tracing::debug!(%error, "a copy could not be checked to its end without functions of the program's own");
            }
            found => complain(draft, found?.as_deref())?,
        }
    }
    look.at(BackupStage::Check, 2, 3)?;
    let found = schema(connection).map_err(classify)?;
    differs(draft, found == expected.schema, "its schema is another one")?;
    if !expected.counts.is_empty() {
        differs(draft, counts(connection, &found, look)? == expected.counts, "it has not as many rows")?;
    }
    let contents = rows::contents(connection, &expected.contents, look)?;
    differs(draft, contents == expected.contents, "its rows are not the same")?;
    let pages: i64 = connection.query_row("PRAGMA page_count", (), |row| row.get(0)).map_err(classify)?;
    look.at(BackupStage::Check, 3, 3)?;
    Ok(u64::try_from(pages).unwrap_or(0))
}

/// In an order of its own; what the engine makes by itself for its own use is left out.
fn schema(connection: &Connection) -> rusqlite::Result<Vec<Object>> {
    let mut statement = connection.prepare(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name != 'sqlite_sequence' ORDER BY type, name",
    )?;
    let objects = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    objects.collect()
}

fn counts(connection: &Connection, schema: &[Object], look: &mut Watcher<'_>) -> Result<Vec<(String, u64)>> {
    // What a virtual table holds stands in its shadow tables.
    let of_its_own = |sql: &Option<String>| sql.as_ref().is_none_or(|sql| !sql.starts_with("CREATE VIRTUAL"));
    let tables = schema.iter().filter(|(kind, .., sql)| kind == "table" && of_its_own(sql));
    let mut counts = Vec::new();
    for (_, name, ..) in tables {
        let count = format!("SELECT count(*) FROM main.{} NOT INDEXED", quoted(name));
        let rows: i64 = connection.query_row(&count, (), |row| row.get(0)).map_err(classify)?;
        counts.push((name.clone(), u64::try_from(rows).unwrap_or(0)));
        look.pause()?;
    }
    Ok(counts)
}

/// The first thing that a check complains of.
fn complaint(connection: &Connection, pragma: &str) -> Result<Option<String>> {
    let first = || {
        let mut statement = connection.prepare(pragma)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let text: String = row.get(0)?;
            if text != "ok" {
                return Ok(Some(text));
            }
        }
        Ok(None)
    };
    first().map_err(classify)
}

fn needs_the_program(error: &Error) -> bool {
    let text = error.message();
    ["no such function", "no such collation", "no such module", "unknown tokenizer"]
        .iter()
        .any(|what| text.contains(what))
}

fn complain(draft: &Draft, complaint: Option<&str>) -> Result<()> {
    complaint.map_or(Ok(()), |text| Err(damaged(draft, text)))
}

fn differs(draft: &Draft, same: bool, how: &str) -> Result<()> {
    if same { Ok(()) } else { Err(damaged(draft, how)) }
}

#[cold]
fn damaged(draft: &Draft, what: &str) -> Error {
    let target = draft.target().display();
    Error::new(ErrorKind::Storage, format!("the copy for {target} is not what was copied: {what}"))
        .because(Reason::Damaged)
        .about(target.to_string())
        .hint("it was removed; look for damage in the original with check(), and at the disk")
}
