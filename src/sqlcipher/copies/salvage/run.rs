//! A salvage from its beginning to its end.

use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rusqlite::Connection;

use super::fill::fill;
use super::map::PageMap;
use super::options::{SalvageKey, SalvageOptions};
use super::original::Original;
use super::page::Page;
use super::raw::Raw;
use super::report::SalvageReport;
use crate::connector::CopyKey;
use crate::crypto::exit_gate;
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::secret::Secret;
use crate::sqlcipher::cipher::{self, KeySpec};
use crate::sqlcipher::connector::SqlCipherConnector;
use crate::sqlcipher::copies::backup::draft_connection;
use crate::sqlcipher::copies::draft::Draft;
use crate::sqlcipher::copies::verify::{Expected, verify};
use crate::sqlcipher::copies::watcher::Watcher;
use crate::sqlcipher::errors::{classify, with_quota};
use crate::sqlcipher::ffi::header;
use crate::sqlcipher::format::{Format, Header};
use crate::sqlcipher::keys::OfferedKeys;
use crate::sqlcipher::opening::diagnose;
use crate::sqlcipher::opening::first::random_salt;
use crate::sqlcipher::opening::location::Location;
use crate::sqlcipher::running::control::Control;
use crate::sqlcipher::running::job::{StopOnDrop, on_thread};

/// The only job of its control.
const JOB: u64 = 1;

/// What is asked for, on its way to a thread.
struct Request {
    path: PathBuf,
    location: Location,
    target: PathBuf,
    secrets: Vec<Secret>,
    format: Format,
    key: CopyKey,
    options: SalvageOptions,
}

pub(in super::super::super) async fn salvage(
    database: SqlCipherConnector,
    target: &Path,
    mut options: SalvageOptions,
) -> Result<SalvageReport> {
    let target = absolute(target).unwrap_or_else(|_| target.to_owned());
    let Some(path) = database.file() else {
        let error = Error::new(ErrorKind::Config, "a database in memory cannot be salvaged");
        return Err(error.hint("give the path of a file"));
    };
    let (location, format) = (database.location()?, database.format());
    let secrets = database.offered().await?.map_or_else(Vec::new, OfferedKeys::into_secrets);
    format.check(!secrets.is_empty())?;
    let key = match std::mem::replace(&mut options.key, SalvageKey::Same) {
        SalvageKey::Same => CopyKey::Same,
        SalvageKey::Plain => CopyKey::Plain,
        SalvageKey::Source(source) => {
            // The new file gets the key that the source has now, not one that it remembers.
            source.forget();
            let secret = source.resolve().await;
            CopyKey::Other(secret.map_err(|error| error.about(source.describe()).during(Phase::Key))?)
        }
    };
    let request = Request { path, location, target, secrets, format, key, options };
    let control = Arc::new(Control::default());
    let stop = StopOnDrop::new(&control, JOB);
    let report = on_thread(move || {
        let _pass = exit_gate::enter();
        let Some(_running) = control.start(JOB) else { return Err(stopped()) };
        request.run(&control)
    })
    .await?;
    stop.disarm();
    report
}

fn stopped() -> Error {
    Error::new(ErrorKind::Cancelled, "the copy was stopped before its end")
}

impl Request {
    fn run(mut self, control: &Arc<Control>) -> Result<SalvageReport> {
        let began = Instant::now();
        self.location.is_new(false)?;
        self.refuse_itself()?;
        let state = state(&self.path);
        let mut progress = std::mem::replace(&mut self.options.progress, Box::new(|_| {}));
        let mut look = Watcher::new(control, &mut *progress);
        let (original, old) = self.original(&look)?;
        let new = self.new_key(old.as_ref())?;
        let new = match &self.key {
            CopyKey::Same => old.as_ref(),
            _ => new.as_ref(),
        };
        let map = PageMap::of(&original, &mut look)?;
        if map.sound == 0 {
            return Err(self.nothing_fits(None));
        }
        let draft = Draft::beside(&self.target, std::mem::take(&mut self.options.replace))?;
        let target = draft_connection(&draft, new)?;
        if new.is_none() {
            target.execute_batch(&format!("PRAGMA page_size = {}", original.size())).map_err(classify)?;
        }
        let filled = fill(&original, map, &target, &mut look);
        let filled = filled.map_err(|error| with_quota(error, &target));
        let filled = filled.and_then(|report| Ok((report, Expected::of(&target, self.options.check, &mut look)?)));
        let filled = filled.and_then(|filled| target.close().map(|()| filled).map_err(|(_, error)| classify(error)));
        let (mut report, expected) = filled.map_err(|error| {
            let target = draft.target().display();
            error.context(format_args!("cannot copy to {target}")).about(target.to_string())
        })?;
        report.pages = verify(&draft, new, &expected, self.options.check, control, &mut look)?;
        if state != self::state(&self.path) {
            return Err(self.changed());
        }
        (report.bytes, report.encrypted) = (draft.bytes(), new.is_some());
        draft.publish()??;
        report.duration = began.elapsed();
        Ok(report)
    }

    fn refuse_itself(&self) -> Result<()> {
        let real = |path: &Path| path.canonicalize().ok();
        if real(&self.path).is_none() || real(&self.path) != real(&self.target) {
            return Ok(());
        }
        let target = self.target.display();
        Err(Error::new(ErrorKind::Config, format!("{target} cannot be salvaged into itself"))
            .about(target.to_string())
            .hint("give the new file another name"))
    }

    /// The file, and the key that opens it.
    fn original(&self, look: &Watcher<'_>) -> Result<(Original, Option<KeySpec>)> {
        let file = || self.open();
        let length = self.location.len().unwrap_or(0);
        if self.secrets.is_empty() {
            let first = file()?;
            let size = plain_size(&first, length);
            let Some(size) = size else { return Err(self.nothing_fits(None)) };
            return Ok((Original::open(&self.path, first, length, None, size)?, None));
        }
        for secret in &self.secrets {
            look.pause()?;
            let first = file()?;
            cipher::require(first.connection())?;
            let salt = self.salt(first.connection(), secret)?;
            let key = KeySpec::make(secret, salt, self.format)?;
            let size = key.page_size();
            let original = Original::open(&self.path, first, length, Some(&key), size)?;
            for number in 1..=original.pages {
                if number % 64 == 0 {
                    look.pause()?;
                }
                let opens = if original.is_sealed() {
                    original.page(number).is_some()
                } else {
                    original.btree(number).is_some()
                };
                if opens {
                    return Ok((original, Some(key)));
                }
            }
        }
        Err(self.nothing_fits(self.secrets.first()))
    }

    fn open(&self) -> Result<Raw> {
        Raw::open(&self.path, Path::new(&self.location.to_string()))
    }

    fn salt(&self, file: &Connection, secret: &Secret) -> Result<[u8; 16]> {
        match (self.options.salt, self.format.header) {
            (Some(salt), _) | (None, Header::Plain(Some(salt))) => Ok(salt),
            (None, Header::Plain(None)) => {
                let key = KeySpec::make(secret, [0; 16], Format { rounds: Some(1), ..self.format })?;
                let mut salt = [0; 16];
                salt.copy_from_slice(key.salt());
                Ok(salt)
            }
            (None, Header::Salt) => {
                header::read(file).map_err(classify)?.ok_or_else(|| diagnose::not_a_database(&self.location))
            }
        }
    }

    fn new_key(&self, old: Option<&KeySpec>) -> Result<Option<KeySpec>> {
        let CopyKey::Other(secret) = &self.key else { return Ok(None) };
        cipher::require(self.open()?.connection())?;
        let format = Format { header: Header::Salt, ..old.map_or_else(Format::default, KeySpec::format) };
        KeySpec::make(secret, random_salt()?, format).map(Some)
    }

    /// Why not one page could be read.
    fn nothing_fits(&self, secret: Option<&Secret>) -> Error {
        match self.explained(secret) {
            Ok(error) | Err(error) => error,
        }
    }

    fn explained(&self, secret: Option<&Secret>) -> Result<Error> {
        let file = self.open()?;
        let begins_plain = header::read(file.connection()).map_err(classify)?.is_some_and(diagnose::is_plain);
        let not_a_database =
            rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB), None);
        let Some(secret) = secret else {
            return Ok(diagnose::without_key(&self.location, file.connection(), not_a_database));
        };
        if begins_plain && !self.format.has_plain_header() {
            return Ok(diagnose::not_encrypted(&self.location, file.connection()));
        }
        let key = KeySpec::make(secret, self.salt(file.connection(), secret)?, self.format)?;
        let found = diagnose::with_key(&self.location, file.connection(), secret, &key, not_a_database);
        if found.reason() != Reason::WrongKey {
            return Ok(found);
        }
        Ok(self
            .location
            .error(ErrorKind::Encryption, "no page of it was written with this key")
            .because(Reason::WrongKey)
            .hint(
                "check the key; if it is right, the salt in the first 16 bytes is damaged: a copy under the same key \
                 begins with the same bytes, which SalvageOptions::salt takes",
            ))
    }

    fn changed(&self) -> Error {
        Error::new(ErrorKind::Busy, format!("{} was written while it was salvaged", self.location))
            .about(self.location.to_string())
            .hint("close it in all programs, and salvage it again")
    }
}

/// What tells that somebody writes.
fn state(path: &Path) -> [Option<(u64, SystemTime)>; 3] {
    ["", "-wal", "-journal"].map(|end| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        let found = PathBuf::from(name).metadata().ok()?;
        Some((found.len(), found.modified().ok()?))
    })
}

/// The size of a page of a file that is not encrypted: as its header says, or else that at which most of them
/// is filled to the ends of pages.
fn plain_size(file: &Raw, length: u64) -> Option<usize> {
    let mut start = [0; 18];
    let fits = |size: &usize| size.is_power_of_two() && (512..=65_536).contains(size);
    if file.gives(0, &mut start) && start.starts_with(b"SQLite format 3\0") {
        let said = usize::from(u16::from_be_bytes([start[16], start[17]]));
        let said = if said == 1 { 65_536 } else { said };
        if fits(&said) {
            return Some(said);
        }
    }
    let sound = |size: usize| {
        let pages = u32::try_from(length / size as u64).unwrap_or(u32::MAX);
        // As many bytes are looked at for each size.
        let most = u32::try_from(16 * 1024 * 1024 / size).unwrap_or(1);
        let is_sound = |number: &u32| {
            let mut bytes = vec![0; size];
            file.gives(u64::from(number - 1) * size as u64, &mut bytes)
                && Page::parse(*number, bytes, size, false).is_some_and(|page| !page.is_damaged && page.reaches_end())
        };
        (1..=pages.min(most)).filter(is_sound).count() * size
    };
    (9..=16)
        .map(|bits| 1_usize << bits)
        .map(|size| (sound(size), size))
        .filter(|(sound, _)| *sound > 0)
        .max()
        .map(|(_, size)| size)
}
