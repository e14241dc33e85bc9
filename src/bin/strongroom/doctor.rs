//! `strongroom doctor`: what a file is, in words.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use strongroom::database::CheckDepth;
use strongroom::{Error, ErrorKind, KeySource};

use crate::failure::{ExitCause, code, code_of, concluded, in_words};
use crate::holders;
use crate::keys::Target;
use crate::probe::{Probe, probe};
use crate::words::{bytes, count, say};

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    #[command(flatten)]
    target: Target,
}

/// What was found: lines are told at once, what is wrong at the end. The look goes on when nobody reads: its code tells.
struct Findings {
    told: io::Result<()>,
    wrong: Vec<(String, Option<String>)>,
    code: i32,
}

impl Findings {
    fn add(&mut self, code: i32, what: impl Into<String>, way_out: Option<String>) {
        self.wrong.push((what.into(), way_out));
        if self.code == 0 {
            self.code = code;
        }
    }

    fn add_error(&mut self, error: &Error) {
        let (what, way_out) = in_words(error);
        self.add(code_of(error), what, way_out);
    }

    fn tell(&mut self, name: &str, what: impl std::fmt::Display) {
        if self.told.is_ok() {
            self.told = say(format_args!("{name:<8}  {what}"));
        }
    }
}

impl Doctor {
    pub(crate) fn prepare(self) -> Result<impl Future<Output = Result<(), ExitCause>>, ExitCause> {
        let typed = self.target.passphrase()?;
        Ok(self.run(typed))
    }

    async fn run(self, typed: Option<Box<dyn KeySource>>) -> Result<(), ExitCause> {
        let path = self.target.database.clone();
        let mut findings = Findings { told: Ok(()), wrong: Vec::new(), code: 0 };
        findings.tell("file", size_of(&path));
        let found = probe(&path);
        if !matches!(found, Probe::Opaque { may_be_encrypted: true }) {
            findings.tell("format", format_of(&found));
        }
        match &found {
            Probe::Missing => findings.add(code::MISSING, "there is no such file", Some("check the path".into())),
            Probe::Unreadable(error) => findings.add(
                code::FAULT,
                format!("the file cannot be read: {error}"),
                Some("look at its permissions, and those of its directory".into()),
            ),
            Probe::NoFile => findings.add(code::FAULT, "it is no file", Some("give the path of a file".into())),
            Probe::Empty => findings.add(
                code::DAMAGED,
                "the file is empty",
                Some("restore a backup; if nothing was in it, delete it, and a new one is created in its place".into()),
            ),
            Probe::Plain | Probe::PlainHeader | Probe::Opaque { .. } => {
                for (end, what) in [("-wal", "log"), ("-journal", "journal")] {
                    if let Some(size) = size_beside(&path, end) {
                        findings.tell(what, bytes(size));
                    }
                }
                used_by(&path, &mut findings);
                self.open(&found, typed, &mut findings).await?;
            }
        }
        conclude(findings)
    }

    /// Tries each source by itself, and looks into the database with the first that fits.
    async fn open(
        &self,
        found: &Probe,
        typed: Option<Box<dyn KeySource>>,
        findings: &mut Findings,
    ) -> Result<(), ExitCause> {
        let mut sources: Vec<Option<Box<dyn KeySource>>> =
            self.target.keys.named().into_iter().chain(typed).map(Some).collect();
        if matches!(found, Probe::Plain) {
            if !sources.is_empty() {
                findings.add(
                    code::KEY,
                    "a key was given, but the file is not encrypted: anybody who has it can read it",
                    Some("encrypt it with `strongroom encrypt`".into()),
                );
            }
            sources = vec![None];
        } else if sources.is_empty() {
            // To be told what the library says of it.
            sources = vec![None];
        }
        let mut refusals = Vec::new();
        let mut opened = false;
        for key in sources {
            let name = key.as_ref().map(KeySource::describe);
            match self.look(key, name.as_deref(), !opened, findings).await {
                Ok(()) => opened = true,
                Err(ExitCause::Engine(error, _)) => {
                    if let Some(name) = name {
                        let what = if error.kind() == ErrorKind::Key { "gives no key" } else { "does not open it" };
                        findings.tell("key", format_args!("{name} {what}"));
                    }
                    refusals.push(error);
                }
                Err(other) => return Err(other),
            }
        }
        if !opened {
            if matches!(found, Probe::Opaque { may_be_encrypted: true }) {
                findings.tell("format", format_of(found));
            }
            for error in &refusals {
                findings.add_error(error);
            }
        }
        Ok(())
    }

    /// Opens, and says what is in it if that is wanted.
    async fn look(
        &self,
        key: Option<Box<dyn KeySource>>,
        name: Option<&str>,
        inside: bool,
        findings: &mut Findings,
    ) -> Result<(), ExitCause> {
        let db = self.target.builder(key).read_only().open().await?;
        let told = async {
            if let Some(name) = name {
                findings.tell("key", format_args!("{name} opens it"));
            }
            if !inside {
                return Ok(());
            }
            if name.is_some() {
                let version = self.target.cipher_compatibility.unwrap_or(4);
                findings.tell("format", format_args!("SQLCipher {version}"));
            }
            let tables =
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
            let tables: Option<i64> = db.fetch_value(tables, ()).await?;
            let pages: Option<i64> = db.fetch_value("SELECT page_count FROM pragma_page_count", ()).await?;
            let tables = count(tables.unwrap_or(0).unsigned_abs(), "table");
            let pages = count(pages.unwrap_or(0).unsigned_abs(), "page");
            findings.tell("content", format_args!("{tables} in {pages}"));
            let report = db.check(CheckDepth::Quick).await?;
            for problem in &report.problems {
                let hint = "restore a backup; rows on other pages can still be read, as with `strongroom sql`";
                findings.add(code::DAMAGED, problem.message.clone(), Some(hint.into()));
            }
            Ok(())
        };
        let told = told.await;
        db.close().await?;
        told
    }
}

fn size_of(path: &Path) -> String {
    match path.metadata() {
        Ok(found) => format!("{}, {}", path.display(), bytes(found.len())),
        Err(_) => path.display().to_string(),
    }
}

fn format_of(found: &Probe) -> &'static str {
    match found {
        Probe::Missing | Probe::Unreadable(_) | Probe::NoFile => "not known",
        Probe::Empty => "empty",
        Probe::Plain => "SQLite, not encrypted",
        Probe::PlainHeader => "SQLCipher, with a header that is not encrypted",
        Probe::Opaque { may_be_encrypted: true } => "SQLCipher, or no database: without the key the two look the same",
        Probe::Opaque { may_be_encrypted: false } => "neither SQLite nor SQLCipher, by its size and its beginning",
    }
}

fn size_beside(path: &Path, end: &str) -> Option<u64> {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name).metadata().ok().map(|found| found.len()).filter(|size| *size > 0)
}

fn used_by(path: &Path, findings: &mut Findings) {
    let Some(holders) = holders::of(path) else { return findings.tell("used by", "not known on this system") };
    if holders.is_empty() {
        findings.tell("used by", "nobody that can be seen from here");
    }
    for holder in holders {
        findings.tell("used by", format_args!("process {} ({}), which {}", holder.process, holder.name, holder.holds));
    }
}

fn conclude(mut findings: Findings) -> Result<(), ExitCause> {
    if findings.wrong.is_empty() {
        findings.tell("verdict", "nothing is wrong with it");
    }
    for (what, way_out) in std::mem::take(&mut findings.wrong) {
        findings.tell("wrong", what);
        if let Some(way_out) = way_out {
            findings.tell("way out", way_out);
        }
    }
    concluded(findings.told, findings.code)
}
