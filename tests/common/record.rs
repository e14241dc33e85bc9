//! What was done to the files of a directory, and what callers were told meanwhile, in one order.
//!
//! The functions in `faults.rs` say what they did. Names are found by looking into the directory at each event, so that
//! no way of renaming, linking or creating a file is missed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Write {
        file: u64,
        at: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: u64,
        size: usize,
    },
    /// Covers what stands before `begun` in the record.
    Sync {
        file: u64,
        begun: usize,
        fine: bool,
    },
    /// What the directory holds from here on.
    Names(Names),
    SyncNames {
        begun: usize,
        fine: bool,
    },
    /// What the caller of a numbered operation was told.
    Told(u64, Told),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Begun,
    Done,
    /// It changed nothing.
    Refused,
    Unknown,
}

/// Files by their names; the index of a log is left out, as it means nothing after a power failure.
pub type Names = BTreeMap<OsString, u64>;

/// What a directory held, and what happened then.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub names: Names,
    pub files: BTreeMap<u64, Vec<u8>>,
    pub events: Vec<Event>,
}

impl Record {
    /// The number of each sync of a file of this name that succeeded, and where it began.
    pub fn syncs<'r>(&'r self, name: &'r str) -> impl Iterator<Item = (usize, usize)> + 'r {
        let mut names = &self.names;
        self.events.iter().enumerate().filter_map(move |(number, event)| match event {
            Event::Names(now) => {
                names = now;
                None
            }
            Event::Sync { file, begun, fine: true } => {
                (names.get(OsStr::new(name)) == Some(file)).then_some((number, *begun))
            }
            _ => None,
        })
    }
}

struct Tape {
    directory: PathBuf,
    /// The number of each inode; one that is used again gets a new one.
    numbers: BTreeMap<u64, u64>,
    next: u64,
    names: Names,
    record: Record,
}

static TAPES: Mutex<Vec<Tape>> = Mutex::new(Vec::new());

fn tapes() -> MutexGuard<'static, Vec<Tape>> {
    TAPES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records until it is dropped.
#[derive(Debug)]
pub struct Recording(PathBuf);

impl Recording {
    /// Of a directory that nobody uses at this moment.
    pub fn of(directory: &Path) -> Self {
        let directory = directory.canonicalize().unwrap();
        let mut tape = Tape {
            directory: directory.clone(),
            numbers: BTreeMap::new(),
            next: 0,
            names: Names::new(),
            record: Record::default(),
        };
        tape.look();
        for (name, file) in &tape.names {
            tape.record.files.insert(*file, std::fs::read(directory.join(name)).unwrap());
        }
        (tape.record.names, tape.record.events) = (tape.names.clone(), Vec::new());
        tapes().push(tape);
        super::arm();
        Self(directory)
    }

    pub fn tell(&self, operation: u64, told: Told) {
        on(&self.0, |tape| {
            tape.look();
            tape.record.events.push(Event::Told(operation, told));
        });
    }

    /// How many events have been recorded.
    pub fn position(&self) -> usize {
        syncing(&self.0)
    }

    /// What was recorded so far.
    pub fn so_far(&self) -> Record {
        let mut record = Record::default();
        on(&self.0, |tape| {
            tape.look();
            record = tape.record.clone();
        });
        record
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        tapes().retain(|tape| tape.directory != self.0);
        super::arm();
    }
}

impl Tape {
    fn look(&mut self) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        let mut named: BTreeSet<u64> = self.names.values().copied().collect();
        let mut found = Names::new();
        // In one order, so that the same files have the same numbers each time.
        let mut entries: Vec<_> = entries.flatten().filter(|entry| is_kept(&entry.file_name())).collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let Ok(inode) = entry.metadata().map(|found| found.ino()) else { continue };
            let number = match self.numbers.get(&inode) {
                Some(number) if named.contains(number) => *number,
                _ => self.new_number(inode),
            };
            named.insert(number);
            found.insert(entry.file_name(), number);
        }
        if found != self.names {
            self.names.clone_from(&found);
            self.record.events.push(Event::Names(found));
        }
    }

    fn new_number(&mut self, inode: u64) -> u64 {
        self.next += 1;
        self.numbers.insert(inode, self.next);
        self.next
    }

    fn number(&mut self, fd: RawFd) -> u64 {
        let inode = std::fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().ino();
        match self.numbers.get(&inode) {
            Some(number) => *number,
            None => self.new_number(inode),
        }
    }
}

pub(super) fn is_on() -> bool {
    !tapes().is_empty()
}

fn is_kept(name: &OsStr) -> bool {
    !name.as_encoded_bytes().ends_with(b"-shm")
}

fn on(path: &Path, act: impl FnOnce(&mut Tape)) {
    if is_kept(path.as_os_str())
        && let Some(tape) = tapes().iter_mut().find(|tape| path.starts_with(&tape.directory))
    {
        act(tape);
    }
}

pub(super) fn wrote(path: &Path, fd: RawFd, at: usize, bytes: &[u8]) {
    on(path, |tape| {
        tape.look();
        let file = tape.number(fd);
        tape.record.events.push(Event::Write { file, at, bytes: bytes.to_vec() });
    });
}

pub(super) fn truncated(path: &Path, fd: RawFd, size: usize) {
    on(path, |tape| {
        tape.look();
        let file = tape.number(fd);
        tape.record.events.push(Event::Truncate { file, size });
    });
}

/// Where the record stands when a sync begins: what is written meanwhile is not covered by it.
pub(super) fn syncing(path: &Path) -> usize {
    let mut begun = 0;
    on(path, |tape| {
        tape.look();
        begun = tape.record.events.len();
    });
    begun
}

pub(super) fn synced(path: &Path, fd: RawFd, begun: usize, fine: bool) {
    on(path, |tape| {
        tape.look();
        let event = if path == tape.directory {
            Event::SyncNames { begun, fine }
        } else {
            Event::Sync { file: tape.number(fd), begun, fine }
        };
        tape.record.events.push(event);
    });
}

/// Something about the names in a directory may have changed.
pub(super) fn named(path: &Path) {
    on(path, Tape::look);
}
