//! What opens a file, and why one stays closed.

use super::header::Stanza;
use super::primitives::FileKey;

/// A private key of any kind.
pub(in crate::keys::sops) trait Identity: Send + Sync {
    /// The file key, if the stanza is for this identity.
    fn unwrap(&self, stanza: &Stanza) -> Result<FileKey, Refusal>;
}

pub(in crate::keys::sops) type BoxedIdentity = Box<dyn Identity>;

/// Why a file stays closed; what tells more comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::keys::sops) enum Refusal {
    /// No identity is of the kind of any stanza.
    Foreign,
    /// The stanzas are for other identities.
    Unfit,
    Payload,
    Mac,
    Header,
    Armor,
    TooLarge,
    /// The passphrase costs more work than is done.
    Work(u8),
    /// The system does not give the memory for that work.
    Memory(u8),
}
