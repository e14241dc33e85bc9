//! How a key file comes into being, and how its secret is replaced.
//!
//! There are two names: that of the file, and a second one for a secret that is not settled yet. A file gets the second
//! name only when it is whole and on the disk, and only if nothing has that name; it loses it by being renamed to the
//! first, by one process at a time. So several that make a secret at the same time agree on one, and none is lost at any
//! moment.

use std::fs;

use zeroize::Zeroizing;

use super::beside::{Beside, sweep, sync_directory, unwritable};
use super::file::{FileKeySource, hex, name};
use super::fresh;
use super::place::Place;
use super::settling::{displaced, offered, present};
use super::turn::FileTurn;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::key::KeyCandidate;
use crate::private::FileRights;
use crate::secret::{Secret, SecretForm};

impl FileKeySource {
    /// The present secret, and the one that is to follow it.
    pub(super) fn offered(&self) -> Result<Vec<KeyCandidate>> {
        let read = |place: &Place| self.read(place).map(|secret| KeyCandidate { secret, source: name(place) });
        // The new one first: settled in between, it is found as the present one.
        let next = read(&self.path.next());
        offered(read(&self.path), next)
    }

    /// The secret of a new database.
    pub(super) fn first(&self) -> Result<Secret> {
        let _turn = FileTurn::beside(&self.path.behind_links());
        self.refuse_present()?;
        let secret = self.upcoming(None)?;
        // Without turns, another process may have settled one since. What was written here stays, as another may rely on
        // it already.
        self.refuse_present().map(|()| secret)
    }

    /// The secret that is to take the place of the present one.
    pub(super) fn next(&self) -> Result<Secret> {
        let (present, next) = (self.path.behind_links(), self.path.next());
        let _turn = FileTurn::beside(&present);
        // One that was made for a new database, and not settled: it is the present one.
        if !is_there(&self.path) && is_there(&next) {
            let moved = fs::rename(next.path(), &present).and_then(|()| sync_directory(&present));
            moved.map_err(|error| unwritable(name(&self.path), error))?;
        }
        self.read(&self.path)?;
        let like = FileRights::of(&present).map_err(|error| unwritable(name(&next), error))?;
        self.upcoming(Some(&like))
    }

    /// Puts `secret` in the place of the present one, if it is the one that is to follow.
    pub(super) fn keep(&self, secret: &Secret) -> Result<()> {
        let (present, next) = (self.path.behind_links(), self.path.next());
        let _turn = FileTurn::beside(&present);
        match self.read(&next) {
            Ok(found) if found.expose() == secret.expose() => {}
            Err(error) if error.reason() != Reason::Missing => return Err(error),
            found => return self.kept(secret, found.is_err()),
        }
        let moved = fs::rename(next.path(), &present).and_then(|()| sync_directory(&present));
        moved.map_err(|error| unwritable(name(&self.path), error))?;
        sweep(next.path());
        Ok(())
    }

    /// Whether `secret` is the present one. If not, it gets the second name, should that be free.
    fn kept(&self, secret: &Secret, is_free: bool) -> Result<()> {
        match self.read(&self.path) {
            Ok(found) if found.expose() == secret.expose() => return synced(&self.path),
            Err(error) if error.reason() != Reason::Missing => return Err(error),
            _ => {}
        }
        let taken = || Error::new(ErrorKind::Key, format!("{} is that of another change", name(&self.path.next())));
        let like = FileRights::of(&self.path.behind_links()).ok();
        let kept = if is_free { self.store(secret, like.as_ref()) } else { Err(taken()) };
        Err(displaced(&name(&self.path), kept))
    }

    /// The secret under the second name, made if there is none.
    fn upcoming(&self, like: Option<&FileRights>) -> Result<Secret> {
        let next = self.path.next();
        match self.read(&next) {
            Err(error) if error.reason() == Reason::Missing => {}
            found => return found.and_then(|secret| synced(&next).map(|()| secret)),
        }
        self.store(&Secret::new(&fresh::digits()?[..]), like)?;
        // Where another process was first, its secret is as good.
        self.read(&next)
    }

    /// Gives the second name to `secret`, if nothing has it.
    fn store(&self, secret: &Secret, like: Option<&FileRights>) -> Result<()> {
        let next = self.path.next();
        let digits = (secret.form() != SecretForm::Passphrase).then(|| hex(secret.expose()));
        let text = digits.as_ref().map_or(secret.expose(), |digits| digits.as_slice());
        let mut line = Zeroizing::new(Vec::with_capacity(text.len() + 1));
        line.extend_from_slice(text);
        line.push(b'\n');
        let stored = Beside::write(next.path(), &line, like).and_then(|beside| beside.publish(next.path()));
        stored.map_err(|error| unwritable(name(&next), error))
    }

    fn refuse_present(&self) -> Result<()> {
        if is_there(&self.path) { Err(present(&name(&self.path))) } else { Ok(()) }
    }
}

/// What is found may have been named by somebody whose sync failed, or is still under way.
fn synced(found: &Place) -> Result<()> {
    sync_directory(&found.behind_links()).map_err(|error| unwritable(name(found), error))
}

fn is_there(place: &Place) -> bool {
    place.path().symlink_metadata().is_ok()
}
