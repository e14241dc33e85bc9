//! A file in the making, beside the place where it will stand.
//!
//! It is for its owner only from the beginning, is locked while its maker lives, and goes with it. What killed makers
//! have left is known by that nobody has it locked, and removed by the next draft for the same place.

use std::fs::{File, TryLockError};
#[cfg(unix)]
use std::fs::{Metadata, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use super::failed::failed;
use super::withheld::Withheld;
use crate::connector::Replace;
use crate::crypto::exit_gate;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::private;
use crate::sqlcipher::ffi::publish;
use crate::sqlcipher::opening::creation::{drafts, sync_directory};
use crate::sqlcipher::opening::location::{Location, followed};

/// How the name of a draft goes on after that of its target; random digits follow.
const MARK: &str = "-copy-";

/// What belongs to a database and stands beside it.
const LOGS: [&str; 2] = ["-wal", "-journal"];

/// What SQLite may have made beside it.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Removes itself unless it is published.
#[derive(Debug)]
pub(super) struct Draft {
    target: PathBuf,
    path: PathBuf,
    /// Locked. Closed after all connections to it.
    file: File,
    replace: Replace,
    published: bool,
    /// Keeps all others from what stands at the target.
    taken: Option<Withheld>,
}

impl Draft {
    /// Makes an empty one for `target`. A symbolic link there is followed.
    pub(super) fn beside(target: &Path, replace: Replace) -> Result<Self> {
        let target = followed(target);
        refuse(&target, &replace)?;
        let taken = if matches!(replace, Replace::Database(_)) { Withheld::at(&target)? } else { None };
        sweep(&target);
        let (path, file) = make(&target).map_err(|error| failed(&target, "the copy could not be begun", &error))?;
        let draft = Self { target, path, file, replace, published: false, taken };
        if draft.replaces() {
            draft.as_accessible().map_err(|error| draft.failed("its permissions could not be set", &error))?;
        }
        Ok(draft)
    }

    /// Whether it takes the place of a database, which nobody may work with meanwhile.
    pub(super) fn replaces(&self) -> bool {
        matches!(self.replace, Replace::Database(_) | Replace::Original(_))
    }

    /// What takes the place of a database can be used by those who could use that.
    fn as_accessible(&self) -> io::Result<()> {
        let Ok(found) = self.target.metadata() else { return Ok(()) };
        #[cfg(unix)]
        let permissions = self.owned_as(&found);
        #[cfg(not(unix))]
        let permissions = {
            private::FileRights::of(&self.target)?.give(&self.file)?;
            found.permissions()
        };
        self.file.set_permissions(permissions)
    }

    /// Gives it to the owner and group of `found`, as far as this process may, and says with which permissions: those of
    /// its group are for no other one.
    #[cfg(unix)]
    fn owned_as(&self, found: &Metadata) -> Permissions {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

        let (owner, group) = (Some(found.uid()), Some(found.gid()));
        // To give it to another user takes a right that few processes have; to a group of one's own takes none.
        let is_given = chown(&self.path, owner, group).or_else(|_| chown(&self.path, None, group)).is_ok();
        let mode = found.permissions().mode();
        Permissions::from_mode(if is_given { mode } else { mode & !0o070 })
    }

    fn failed(&self, what: &str, error: &io::Error) -> Error {
        failed(&self.target, what, error)
    }

    /// Where it is, as the engine opens it. Errors name the target.
    pub(super) fn location(&self, only_read: bool) -> Location {
        Location::File { path: self.path.clone(), shown: self.target.clone(), only_read }
    }

    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Fills it without the engine.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, at);
        #[cfg(not(unix))]
        {
            use std::io::{Seek as _, SeekFrom, Write as _};
            (&self.file).seek(SeekFrom::Start(at))?;
            (&self.file).write_all(bytes)
        }
    }

    /// Takes back what was written.
    pub(super) fn empty(&self) -> Result<()> {
        self.file.set_len(0).map_err(|error| self.failed("the copy could not be begun anew", &error))
    }

    /// What has the system write it to the disk, on any thread.
    pub(super) fn syncing(&self) -> impl Fn() -> Result<()> + Sync + use<'_> {
        let (file, target) = (&self.file, &self.target);
        move || file.sync_all().map_err(|error| failed(target, "the copy could not be synced", &error))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |file| file.len())
    }

    /// Gives it its name. Says then whether that outlives a power failure.
    ///
    /// # Errors
    /// When it has not got the name, and what stood there does.
    pub(super) fn publish(mut self) -> Result<Result<()>> {
        // Somebody may have put something there meanwhile.
        refuse(&self.target, &self.replace)?;
        // On Windows the original was let go of for this.
        if self.replace == Replace::File || cfg!(windows) && matches!(self.replace, Replace::Original(_)) {
            self.taken = Withheld::at(&self.target)?;
        }
        let kept = self.keep()?;
        let renamed = if self.replace == Replace::Nothing {
            publish::rename_new(&self.path, &self.target)
        } else {
            self.take_place()
        };
        if let Err(error) = renamed {
            let error = self.failed("the copy could not be given its name", &error);
            return Err(match kept {
                Some(kept) => kept.take_back(&self.target, error),
                None => error,
            });
        }
        self.published = true;
        let synced = sync_directory(&self.target);
        let was_asked_for = matches!(self.replace, Replace::Database(Some(_)) | Replace::Original(Some(_)));
        // Until the name is on the disk, a power failure may bring back what stood there, but not its log.
        match (&synced, &kept) {
            (Ok(()), Some(kept)) if !was_asked_for => kept.remove(),
            _ => {}
        }
        Ok(synced.map_err(|error| self.may_not_last(&error, kept)))
    }

    #[cold]
    fn may_not_last(&self, error: &io::Error, kept: Option<SecondName>) -> Error {
        let target = self.target.display();
        let what = format!(
            "the copy is in its place, whole, but a power failure may take it away from {target}: its directory could not be \
             synced: {error}"
        );
        let error = Error::new(ErrorKind::OutcomeUnknown, what).because(Reason::Io).about(target.to_string());
        match kept {
            Some(kept) => error.hint(format!(
                "look at the disk; what stood there is kept as {}, to be deleted once the system has synced",
                kept.name.display()
            )),
            None if self.replaces() => error.hint("look at the disk; the new file is in use from now on"),
            None => error.hint("look at the disk, then copy again, with .replace(true)"),
        }
    }

    fn take_place(&mut self) -> io::Result<()> {
        match std::fs::rename(&self.path, &self.target) {
            // Windows replaces what somebody has open on some file systems only.
            Err(_) if cfg!(windows) && self.taken.take().is_some() => std::fs::rename(&self.path, &self.target),
            renamed => renamed,
        }
    }

    /// Gives what stands at the target a second name, so that it is whole whatever happens, and takes its log away, which
    /// would be taken for the copy's.
    fn keep(&self) -> Result<Option<SecondName>> {
        let (Replace::Database(keep) | Replace::Original(keep)) = &self.replace else { return Ok(None) };
        let with_something = |end: &&str| beside(&self.target, end).metadata().is_ok_and(|log| log.len() > 0);
        let logs: Vec<_> = LOGS.into_iter().filter(with_something).collect();
        if self.target.symlink_metadata().is_err() || (keep.is_none() && logs.is_empty()) {
            return Ok(None);
        }
        let name = keep.clone().unwrap_or_else(|| beside(&self.path, "-before"));
        let mut kept = SecondName { name, ends: Vec::new() };
        if let Err(error) = kept.give(&self.target, logs) {
            kept.remove();
            let what = format!("what stands there could not be kept as {}", kept.name.display());
            return Err(self.failed(&what, &error).hint("give .keep() a new name on the same file system"));
        }
        for end in BESIDE {
            std::fs::remove_file(beside(&self.target, end)).ok();
        }
        Ok(Some(kept))
    }
}

/// A second name of a database and its logs.
struct SecondName {
    name: PathBuf,
    /// How those go on which it has got.
    ends: Vec<&'static str>,
}

impl SecondName {
    fn give(&mut self, target: &Path, logs: Vec<&'static str>) -> io::Result<()> {
        for end in [""].into_iter().chain(logs) {
            std::fs::hard_link(beside(target, end), beside(&self.name, end))?;
            self.ends.push(end);
        }
        sync_directory(&self.name)
    }

    /// Puts the logs back beside `target`, which was not replaced because of `error`.
    fn take_back(self, target: &Path, error: Error) -> Error {
        let put_back = self
            .ends
            .iter()
            .filter(|end| !end.is_empty())
            .try_for_each(|end| std::fs::hard_link(beside(&self.name, end), beside(target, end)));
        match put_back.and_then(|()| sync_directory(target)) {
            Ok(()) => {
                self.remove();
                error
            }
            Err(_) => error.hint(format!("what stood there is whole as {}, with its log", self.name.display())),
        }
    }

    fn remove(&self) {
        for end in &self.ends {
            std::fs::remove_file(beside(&self.name, end)).ok();
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            remove(&self.path);
        }
    }
}

/// Refuses to overwrite, and a log that the engine would take for the copy's.
fn refuse(target: &Path, replace: &Replace) -> Result<()> {
    let shown = target.display();
    let refused = |message: String, hint: &'static str| {
        Err(Error::new(ErrorKind::Config, message).about(shown.to_string()).hint(hint))
    };
    match target.symlink_metadata() {
        Ok(found) if found.is_dir() => {
            return refused(format!("the copy cannot stand at {shown}: it is a directory"), "give the path of a file");
        }
        Ok(_) if *replace == Replace::Nothing => {
            let hint = "give another name, or call .replace(true)";
            return refused(format!("the copy cannot stand at {shown}: there is a file already"), hint);
        }
        _ => {}
    }
    if matches!(replace, Replace::Database(_) | Replace::Original(_)) {
        return Ok(());
    }
    for end in LOGS {
        let log = beside(target, end);
        if log.metadata().is_ok_and(|log| log.len() > 0) {
            let message = format!("the copy cannot stand at {shown}: {} belongs to another database", log.display());
            return refused(
                message,
                "if a database stands there, open and close it, which folds its log; else delete it",
            );
        }
    }
    Ok(())
}

/// Refuses to go on with a file that somebody has open.
pub(super) fn refuse_occupied(target: &Path) -> Result<()> {
    let _pass = exit_gate::enter();
    Withheld::at(target).map(drop)
}

fn make(target: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let mut token = [0; 8];
        getrandom::fill(&mut token).map_err(io::Error::other)?;
        let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = beside(target, &format!("{MARK}{token}"));
        let file = private::create(&path)?;
        // One who sweeps may just have taken it for left over, and removes it. Not all systems have locks of files, nor all
        // file systems; nobody sweeps there.
        if !matches!(lock(&file), Err(TryLockError::WouldBlock)) && path.exists() {
            return Ok((path, file));
        }
    }
}

/// Elsewhere a lock would keep the engine from writing.
fn lock(file: &File) -> Result<(), TryLockError> {
    if cfg!(unix) { file.try_lock() } else { Ok(()) }
}

/// Whether nobody makes this draft any more.
#[cfg(not(windows))]
fn is_left(draft: &Path) -> bool {
    File::open(draft).is_ok_and(|file| lock(&file).is_ok())
}

/// Whether nobody makes this draft any more: nobody has it open.
#[cfg(windows)]
fn is_left(draft: &Path) -> bool {
    use std::os::windows::fs::OpenOptionsExt as _;
    File::options().read(true).share_mode(0).open(draft).is_ok()
}

/// Removes what killed makers have left.
fn sweep(target: &Path) {
    for path in drafts(target, MARK) {
        if is_left(&path) {
            tracing::warn!(file = %path.display(), "a copy that was not finished is removed");
            remove(&path);
        }
    }
}

fn remove(draft: &Path) {
    std::fs::remove_file(draft).ok();
    for end in BESIDE {
        std::fs::remove_file(beside(draft, end)).ok();
    }
}

pub(super) fn beside(target: &Path, end: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}
