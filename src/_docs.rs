//! The pages of the folder `docs`, so that they stand beside the reference of the same version.
//!
//! Their code runs as doctests. A link to another page is defined twice: here for rustdoc, and at the end of the page for
//! those who read it in the repository. The first definition counts.

/// [troubleshooting]: crate::_docs::troubleshooting
/// [the page about them]: crate::_docs::sops
///
#[doc = include_str!("../docs/errors.md")]
pub mod errors {}

/// [All errors]: crate::_docs::errors
/// [keys from SOPS files]: crate::_docs::sops
/// [the page about platforms]: crate::_docs::platforms
///
#[doc = include_str!("../docs/troubleshooting.md")]
pub mod troubleshooting {}

#[cfg_attr(feature = "sops", doc = include_str!("../docs/sops.md"))]
pub mod sops {}

/// [a key that its source makes]: crate::_docs::copies
///
#[cfg_attr(feature = "keyring", doc = include_str!("../docs/keyring.md"))]
pub mod keyring {}

#[cfg_attr(feature = "postgres", doc = include_str!("../docs/postgres.md"))]
pub mod postgres {}

#[cfg_attr(feature = "migrations", doc = include_str!("../docs/migrations.md"))]
pub mod migrations {}

#[doc = include_str!("../docs/performance.md")]
pub mod performance {}

#[cfg_attr(feature = "sqlcipher", doc = include_str!("../docs/observing.md"))]
pub mod observing {}

/// [the page about copies]: crate::_docs::copies
///
#[doc = include_str!("../docs/maintenance.md")]
pub mod maintenance {}

/// [`suspend`]: crate::_docs::sleep
/// [`SopsKeySource::replace`]: crate::_docs::sops
///
#[cfg_attr(feature = "sqlite", doc = include_str!("../docs/copies.md"))]
pub mod copies {}

/// [the page about opening]: crate::_docs::maintenance
///
#[doc = include_str!("../docs/sleep.md")]
pub mod sleep {}

#[doc = include_str!("../docs/weight.md")]
pub mod weight {}

#[doc = include_str!("../docs/values.md")]
pub mod values {}

#[doc = include_str!("../docs/platforms.md")]
pub mod platforms {}

/// [migrations]: crate::_docs::migrations
///
#[doc = include_str!("../docs/tool.md")]
pub mod tool {}

/// [the page of errors]: crate::_docs::errors
///
#[doc = include_str!("../docs/proofs.md")]
pub mod proofs {}
