//! What a power failure may leave of what was recorded.
//!
//! What was not synced is there or not, each write by itself and each sector of it by itself; a write that is lost may
//! have made the file longer all the same. A name is there or not until its directory was synced. What was written
//! before a sync that failed may be lost for good, whatever a later sync says.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::record::{Event, Names, Record};

/// Files by their names.
pub type Files = BTreeMap<OsString, Vec<u8>>;

/// How much of what was not synced survives in one file.
#[derive(Clone, Copy)]
struct Luck {
    /// Of four.
    kept: u8,
    /// Each sector of a write has its own luck.
    sector: Option<usize>,
}

impl Luck {
    fn draw(random: &mut fastrand::Rng) -> Self {
        Self { kept: random.u8(0..=4), sector: [None, Some(512), Some(4096)][random.usize(..3)] }
    }

    fn keeps(self, random: &mut fastrand::Rng) -> bool {
        random.u8(..4) < self.kept
    }
}

#[derive(Default)]
struct Image<'a> {
    bytes: Vec<u8>,
    pending: Vec<(usize, &'a Event)>,
}

impl Image<'_> {
    /// What was done before the event of this number reaches the disk, as far as luck has it.
    fn settle(&mut self, before: usize, luck: Luck, random: &mut fastrand::Rng) {
        let (due, later) = self.pending.drain(..).partition::<Vec<_>, _>(|(number, _)| *number < before);
        self.pending = later;
        for (_, event) in due {
            match event {
                Event::Write { at, bytes, .. } => self.write(*at, bytes, luck, random),
                Event::Truncate { size, .. } if luck.keeps(random) => self.bytes.resize(*size, 0),
                _ => {}
            }
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8], luck: Luck, random: &mut fastrand::Rng) {
        let whole = luck.keeps(random);
        let sector = luck.sector.unwrap_or(usize::MAX);
        let mut from = 0;
        while from < bytes.len() {
            let to = if luck.sector.is_none() {
                bytes.len()
            } else {
                (from + sector - (at + from) % sector).min(bytes.len())
            };
            let kept = if luck.sector.is_none() { whole } else { luck.keeps(random) };
            if (kept || random.bool()) && self.bytes.len() < at + to {
                self.bytes.resize(at + to, 0);
            }
            if kept {
                self.bytes[at + from..at + to].copy_from_slice(&bytes[from..to]);
            }
            from = to;
        }
    }
}

const ALL: Luck = Luck { kept: 4, sector: None };

/// What may be left after so many events.
pub fn crash(record: &Record, events: usize, random: &mut fastrand::Rng) -> Files {
    // One in eight is the death of the process: all that it wrote is there.
    let process_only = random.u8(..8) == 0;
    left(record, events, random, process_only)
}

/// What is there if nothing is lost.
pub fn whole(record: &Record) -> Files {
    left(record, record.events.len(), &mut fastrand::Rng::with_seed(0), true)
}

fn left(record: &Record, events: usize, random: &mut fastrand::Rng, all: bool) -> Files {
    let mut files: BTreeMap<u64, Image<'_>> =
        record.files.iter().map(|(file, bytes)| (*file, Image { bytes: bytes.clone(), pending: Vec::new() })).collect();
    let (mut names, mut pending) = (record.names.clone(), Vec::new());
    let luck = |random: &mut fastrand::Rng| if all { ALL } else { Luck::draw(random) };
    for (number, event) in record.events[..events].iter().enumerate() {
        match event {
            Event::Write { file, .. } | Event::Truncate { file, .. } => {
                files.entry(*file).or_default().pending.push((number, event));
            }
            Event::Sync { file, begun, fine } => {
                let luck = if *fine { ALL } else { luck(random) };
                files.entry(*file).or_default().settle(*begun, luck, random);
            }
            Event::Names(now) => pending.push((number, now)),
            Event::SyncNames { begun, fine: true } => {
                let (due, later) = pending.into_iter().partition::<Vec<_>, _>(|(number, _)| number < begun);
                pending = later;
                if let Some((_, last)) = due.last() {
                    names.clone_from(last);
                }
            }
            Event::SyncNames { .. } | Event::Told(..) => {}
        }
    }
    let names = rename(names, &pending, luck(random), random);
    for image in files.values_mut() {
        let luck = luck(random);
        image.settle(usize::MAX, luck, random);
    }
    names
        .into_iter()
        .map(|(name, file)| (name, files.get(&file).map_or(Vec::new(), |image| image.bytes.clone())))
        .collect()
}

/// Changes of a directory happen in their order, or each by itself; one change, such as a rename, is not torn.
fn rename(mut names: Names, pending: &[(usize, &Names)], luck: Luck, random: &mut fastrand::Rng) -> Names {
    if luck.sector.is_none() {
        let done = (0..=pending.len()).take_while(|done| *done == 0 || luck.keeps(random)).last().unwrap_or(0);
        return if done == 0 { names } else { pending[done - 1].1.clone() };
    }
    let mut before = names.clone();
    for (_, now) in pending {
        if luck.keeps(random) {
            for gone in before.keys().filter(|name| !now.contains_key(*name)) {
                names.remove(gone);
            }
            for (name, file) in now.iter().filter(|(name, file)| before.get(*name) != Some(file)) {
                names.insert(name.clone(), *file);
            }
        }
        before.clone_from(now);
    }
    names
}

/// For nobody else to read, as files of keys have to be.
pub fn write(files: &Files, into: &Path) {
    for (name, bytes) in files {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(into.join(name));
        file.unwrap().write_all(bytes).unwrap();
    }
}
