//! The key that a file has instead of the one that it was opened with.

use super::creation::prove_encrypted;
use super::diagnose;
use super::opened::Opened;
use super::way::Way;
use crate::crypto::exit_gate;
use crate::error::{Reason, Result};
use crate::key::KeyCandidate;
use crate::sqlcipher::cipher::KeySpec;
use crate::sqlcipher::ffi::header;

impl Opened {
    /// Looks whether the file has the key still with which it was opened. Blocks.
    pub(crate) fn look_at_key(&self) -> Result<()> {
        let _pass = exit_gate::enter();
        self.refuse_child()?;
        if self.way() == Way::Exclusive {
            // Its own connection would be in the way.
            return Ok(());
        }
        self.open_another(self.key().as_deref()).map(drop)
    }

    /// Goes on with the first key that opens the file, and says where that is from; `None` if none does. Blocks.
    pub(crate) fn with_another_key(&self, candidates: Vec<KeyCandidate>) -> Result<Option<String>> {
        let _pass = exit_gate::enter();
        self.refuse_child()?;
        let Some(old) = self.key() else { return Ok(None) };
        for KeyCandidate { secret, source } in candidates {
            let new = KeySpec::make(&secret, self.salt(&old)?, old.format())?;
            match self.open_another(Some(&new)) {
                Ok(tried) => {
                    prove_encrypted(self.location(), &tried.connection, &new)?;
                    self.go_on_with(new);
                    self.keep(tried);
                    return Ok(Some(source));
                }
                Err(error) if error.reason() == Reason::WrongKey => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The beginning of the first page, which is another one under another key. Blocks.
    pub(crate) fn first_bytes(&self) -> Option<[u8; 64]> {
        let _pass = exit_gate::enter();
        let connection = self.location().open().ok()?;
        let mut bytes = [0; 64];
        header::read_at(&connection, 0, &mut bytes).ok()?.then_some(bytes)
    }

    /// The salt of the file, which is another one if another file was put in its place.
    fn salt(&self, old: &KeySpec) -> Result<[u8; 16]> {
        let mut salt = [0; 16];
        salt.copy_from_slice(old.salt());
        if old.format().has_plain_header() {
            return Ok(salt);
        }
        let connection = self.location().open()?;
        let header = header::read(&connection);
        let header = header.map_err(|error| diagnose::explain_with(self.location(), &connection, error))?;
        Ok(header.unwrap_or(salt))
    }
}
