//! How a salvage is done.

use std::fmt;

use crate::connector::{BackupProgress, CheckDepth, Replace};
use crate::key::KeySource;

/// How a damaged file is salvaged; see [`salvage_to`](crate::DatabaseBuilder::salvage_to).
///
/// ```
/// use strongroom::database::CheckDepth;
/// use strongroom::sqlcipher::SalvageOptions;
///
/// let options = SalvageOptions::new()
///     .check(CheckDepth::Full)
///     .on_progress(|now| println!("{:?}: {} of {}", now.stage, now.done, now.total));
/// # let _ = options;
/// ```
#[must_use = "options do nothing until they are given to a call"]
pub struct SalvageOptions {
    pub(super) key: SalvageKey,
    pub(super) salt: Option<[u8; 16]>,
    pub(super) replace: Replace,
    pub(super) check: CheckDepth,
    pub(super) progress: Box<dyn FnMut(BackupProgress) + Send>,
}

/// What the new file is encrypted with.
pub(super) enum SalvageKey {
    Same,
    Plain,
    Source(Box<dyn KeySource>),
}

impl Default for SalvageOptions {
    fn default() -> Self {
        let (replace, check) = (Replace::Nothing, CheckDepth::Quick);
        Self { key: SalvageKey::Same, salt: None, replace, check, progress: Box::new(|_| {}) }
    }
}

impl SalvageOptions {
    /// Under the same key, where no file is yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encrypts the new file with the key from `source`, which is asked once.
    pub fn key(self, source: impl KeySource + 'static) -> Self {
        Self { key: SalvageKey::Source(Box::new(source)), ..self }
    }

    /// Does not encrypt the new file: whoever has it can read all of it.
    pub fn plaintext(self) -> Self {
        Self { key: SalvageKey::Plain, ..self }
    }

    /// The salt of the damaged file, where its first 16 bytes are damaged: they are the salt, and without it no key opens any
    /// page. A copy that was made under the same key begins with the same 16 bytes.
    pub fn salt(self, salt: [u8; 16]) -> Self {
        Self { salt: Some(salt), ..self }
    }

    /// Whether the new file may take the place of one that stands there, which nobody may have open then; false by default.
    /// That of the damaged file it never takes.
    pub fn replace(self, replace: bool) -> Self {
        Self { replace: if replace { Replace::File } else { Replace::Nothing }, ..self }
    }

    /// How thoroughly the new file is looked at before it gets its name, as in
    /// [`BackupOptions::check`](crate::database::BackupOptions::check).
    pub fn check(self, depth: CheckDepth) -> Self {
        Self { check: depth, ..self }
    }

    /// Tells how far it is: pages that were looked at, then rows, of which the number is estimated. Called on a thread that
    /// may block, between two steps.
    pub fn on_progress(self, progress: impl FnMut(BackupProgress) + Send + 'static) -> Self {
        Self { progress: Box::new(progress), ..self }
    }
}

impl fmt::Debug for SalvageOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match &self.key {
            SalvageKey::Same => "the same".to_owned(),
            SalvageKey::Plain => "none".to_owned(),
            SalvageKey::Source(source) => source.describe(),
        };
        let (replace, check) = (&self.replace, &self.check);
        f.debug_struct("SalvageOptions")
            .field("key", &key)
            .field("replace", replace)
            .field("check", check)
            .finish_non_exhaustive()
    }
}
