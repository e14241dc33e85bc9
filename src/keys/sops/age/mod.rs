//! age files of one chunk: data keys, shares of them, and identity files that a passphrase protects.
//!
//! The format is that of <https://age-encryption.org/v1>. It is read here because the `age` crate brings a hundred
//! others, most of them for its translated messages. The vectors of the format's authors (`tests/vectors/age`) and the
//! `age` program test it. A file goes from `armor` to `header` to one of the identities to its payload.

mod armor;
mod file;
mod header;
mod passphrase;
mod primitives;
#[cfg(test)]
mod vectors;
mod x25519;

pub(super) use file::{BoxedIdentity, unprotect, unwrap, wrap};
pub(super) use x25519::X25519;
#[allow(unused_imports, reason = "what SSH keys need; without the feature `sops-ssh` there are none")]
pub(super) use {file::Identity, header::Stanza, primitives::FileKey};

/// Why a file stays closed; what tells more comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
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
