//! Looking for damage in what is stored.

/// How thoroughly [`AsyncDatabase::check`](crate::AsyncDatabase::check) looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CheckDepth {
    /// Whether the file holds together. SQLite: `quick_check`, which reads every page in use and does not compare
    /// indexes with their tables.
    #[default]
    Quick,
    /// All that the engine can find. SQLite: the seal of every page of an encrypted file (`cipher_integrity_check`),
    /// `quick_check`, each table with its indexes (`integrity_check`), and foreign keys.
    Full,
}

/// What one step of a check found; see [`Connection::check_step`](crate::Connection::check_step).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckStep {
    /// What was looked at.
    pub name: String,
    /// How many steps the check has in all.
    pub total: usize,
    /// What is wrong, in the engine's words, without values; at most as many as were asked for.
    pub problems: Vec<String>,
}

impl CheckStep {
    /// A step that found nothing yet.
    pub fn new(name: impl Into<String>, total: usize) -> Self {
        Self { name: name.into(), total, problems: Vec::new() }
    }
}
