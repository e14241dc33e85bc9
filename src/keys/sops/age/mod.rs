//! age files of one chunk: data keys, shares of them, and identity files that a passphrase protects.
//!
//! The format is that of <https://age-encryption.org/v1>. It is read here because the `age` crate brings a hundred
//! others, most of them for its translated messages. The vectors of the format's authors (`tests/vectors/age`) and the
//! `age` program test it. A file goes from `armor` to `header` to one of the identities to its payload.

mod armor;
mod file;
mod header;
mod identity;
mod passphrase;
mod primitives;
#[cfg(test)]
mod vectors;
mod x25519;

pub(super) use file::{unprotect, unwrap, wrap};
pub(super) use identity::BoxedIdentity;
pub(super) use x25519::X25519;
#[allow(unused_imports, reason = "what SSH keys need; without the feature `sops-ssh` there are none")]
pub(super) use {
    header::Stanza,
    identity::{Identity, Refusal},
    primitives::FileKey,
};
