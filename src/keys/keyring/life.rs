//! How an entry comes into being, and how its secret is replaced.
//!
//! There are two entries: that of the source, and a second one for a secret that is not settled yet. Whoever writes has
//! its turn, so none is written over: several processes that make a secret at the same time agree on one.

use super::entry::KeyringEntry;
use super::turn;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::key::KeyCandidate;
use crate::keys::fresh;
use crate::keys::settling;
use crate::secret::Secret;

/// What the user part of the second entry's name ends with.
pub(super) const NEXT: &str = ".next";

/// Both entries, over a store that was opened for one call.
pub(super) struct Pair {
    pub(super) present: KeyringEntry,
    pub(super) next: KeyringEntry,
}

impl Pair {
    /// The present secret, and the one that is to follow it.
    pub(super) fn offered(&self) -> Result<Vec<KeyCandidate>> {
        let read =
            |entry: &KeyringEntry| entry.read().map(|secret| KeyCandidate { secret, source: entry.name.clone() });
        // The new one first: settled in between, it is found as the present one.
        let next = read(&self.next);
        settling::offered(read(&self.present), next)
    }

    /// The secret of a new database.
    pub(super) fn first(&self) -> Result<Secret> {
        // Before the turn: a keyring that is locked may ask somebody first.
        self.refuse_present()?;
        let _turn = turn::take(&self.present.name)?;
        self.refuse_present()?;
        self.upcoming()
    }

    /// The secret that is to take the place of the present one.
    pub(super) fn next(&self) -> Result<Secret> {
        // As above.
        drop(self.present.read());
        let _turn = turn::take(&self.present.name)?;
        let present = match self.present.read() {
            // Made for a new database, and not settled: it is the present one.
            Err(error) if error.reason() == Reason::Missing => {
                let Ok((secret, text)) = self.next.read_text() else { return Err(error) };
                self.present.write(&text)?;
                secret
            }
            found => found?,
        };
        match self.next.read() {
            // Settled already, and cut off then.
            Ok(next) if next.expose() == present.expose() => self.next.remove()?,
            _ => {}
        }
        self.upcoming()
    }

    /// Puts `secret` in the place of the present one, if it is the one that is to follow.
    pub(super) fn keep(&self, secret: &Secret) -> Result<()> {
        let _turn = turn::take(&self.present.name)?;
        let is_free = match self.next.read_text() {
            Ok((next, text)) if next.expose() == secret.expose() => {
                self.present.write(&text)?;
                return self.next.remove();
            }
            Err(error) if error.reason() != Reason::Missing => return Err(error),
            found => found.is_err(),
        };
        match self.present.read() {
            Ok(present) if present.expose() == secret.expose() => return Ok(()),
            Err(error) if error.reason() != Reason::Missing => return Err(error),
            _ => {}
        }
        let taken = || Error::new(ErrorKind::Key, format!("{} is that of another change", self.next.name));
        let kept = if is_free { self.next.write_secret(secret) } else { Err(taken()) };
        Err(settling::displaced(&self.present.name, kept))
    }

    /// The secret of the second entry, made if there is none.
    fn upcoming(&self) -> Result<Secret> {
        match self.next.read() {
            Err(error) if error.reason() == Reason::Missing => {}
            found => return found,
        }
        let digits = fresh::digits()?;
        self.next.write(std::str::from_utf8(&digits).unwrap_or_default())?;
        // As others will find it.
        self.next.read()
    }

    fn refuse_present(&self) -> Result<()> {
        match self.present.read() {
            Err(error) if error.reason() == Reason::Missing => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(settling::present(&self.present.name)),
        }
    }
}
