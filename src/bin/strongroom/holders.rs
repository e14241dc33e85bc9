//! Which processes have a database open, and what they hold in it, as Linux tells it.
//!
//! Sources: proc(5) for `/proc/locks`; "SQLite's locking bytes" in `os.h`, and `walIndexLock` in `wal.c`.

/// A process that uses the files.
#[derive(Debug)]
pub(crate) struct FileUser {
    pub(crate) process: u32,
    pub(crate) name: String,
    pub(crate) holds: &'static str,
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn of(_: &std::path::Path) -> Option<Vec<FileUser>> {
    None
}

/// Those that can be seen: a user sees only what belongs to the user.
#[cfg(target_os = "linux")]
pub(crate) fn of(database: &std::path::Path) -> Option<Vec<FileUser>> {
    linux::of(database)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::{Path, PathBuf};

    use super::FileUser;

    const PENDING: u64 = 0x4000_0000;
    const RESERVED: u64 = PENDING + 1;
    const SHARED: u64 = PENDING + 2;
    /// In the index of the log: who has this byte writes.
    const WAL_WRITE: u64 = 120;

    /// One line of `/proc/locks`.
    struct Lock {
        process: u32,
        inode: u64,
        writes: bool,
        start: u64,
        end: u64,
    }

    impl Lock {
        /// `1: POSIX  ADVISORY  WRITE 1234 08:01:5678 120 120`
        fn read(line: &str) -> Option<Self> {
            let mut words = line.split_whitespace().skip(3);
            let writes = words.next()? == "WRITE";
            let process = words.next()?.parse().ok()?;
            let inode = words.next()?.rsplit(':').next()?.parse().ok()?;
            let start = words.next()?.parse().ok()?;
            let end = words.next()?.parse().unwrap_or(u64::MAX);
            Some(Self { process, inode, writes, start, end })
        }

        fn has(&self, byte: u64) -> bool {
            self.writes && self.start <= byte && byte <= self.end
        }
    }

    pub(super) fn of(database: &Path) -> Option<Vec<FileUser>> {
        let database = database.canonicalize().ok()?;
        let mut index = database.clone().into_os_string();
        index.push("-shm");
        let index = PathBuf::from(index);
        let inode = |path: &Path| path.metadata().ok().map(|found| found.ino());
        let (file, index_file) = (inode(&database)?, inode(&index));
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let locks: Vec<Lock> = locks.lines().filter_map(Lock::read).collect();
        let mut holders = BTreeMap::new();
        for process in processes() {
            if !has_open(process, &database) {
                continue;
            }
            let of_it = |lock: &&Lock| lock.process == process;
            let holds = |inode: Option<u64>, byte| {
                locks.iter().filter(of_it).any(|lock| Some(lock.inode) == inode && lock.has(byte))
            };
            let holds = if holds(Some(file), SHARED) {
                "has it for itself: nobody else can open it"
            } else if holds(Some(file), RESERVED) || holds(Some(file), PENDING) || holds(index_file, WAL_WRITE) {
                "is writing: others read, and wait to write"
            } else {
                "has it open"
            };
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            holders.insert(process, FileUser { process, name: name.trim_end().escape_debug().to_string(), holds });
        }
        Some(holders.into_values().collect())
    }

    fn processes() -> impl Iterator<Item = u32> {
        let own = std::process::id();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(move |process| *process != own)
    }

    fn has_open(process: u32, database: &Path) -> bool {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok()).any(|path| path == database)
    }
}
