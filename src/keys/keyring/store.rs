//! The stores, by platform, and what their errors mean.

use std::sync::Arc;

use keyring_core::{CredentialStore, Error as StoreError};
use zeroize::Zeroize as _;

use crate::error::{Error, ErrorKind, Reason};

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyringStore {
    /// The store of the user's session: Secret Service, Keychain, Credential Manager.
    System,
    /// The keyrings of the Linux kernel.
    Kernel,
}

impl KeyringStore {
    pub(super) fn open(self) -> Result<Arc<CredentialStore>, StoreError> {
        match self {
            Self::System => system(),
            Self::Kernel => kernel(),
        }
    }

    /// What its entries are called in errors.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::System => "keyring entry",
            Self::Kernel => "kernel keyring entry",
        }
    }

    /// The store itself did not answer.
    pub(super) fn unreachable(self, name: &str, error: StoreError) -> Error {
        let failed = |what: &str| Error::new(ErrorKind::Key, format!("{name} cannot be reached: {what}"));
        match (self, error) {
            (_, StoreError::NotSupportedByStore(_)) => {
                let error = failed("this system has no such store").because(Reason::ProgramMissing);
                error.hint("take the key from a file or a program")
            }
            (Self::System, error) if cfg!(all(unix, not(target_os = "macos"))) => failed("no Secret Service answers")
                .because(Reason::ProgramMissing)
                .caused_by(error)
                .hint("start gnome-keyring or KWallet on the bus that DBUS_SESSION_BUS_ADDRESS names, or use .kernel() or a file"),
            (_, error) => refused(name, error),
        }
    }
}

/// What a store said about an entry. Bytes that it found are wiped, and its words are kept: they quote none.
pub(super) fn refused(name: &str, error: StoreError) -> Error {
    let failed = |what: &str| Error::new(ErrorKind::Key, format!("{name} {what}"));
    match error {
        StoreError::NoEntry => failed("does not exist")
            .because(Reason::Missing)
            .hint("store the key there first, or have it made with .create_if_missing(true)"),
        StoreError::Ambiguous(found) => {
            let error = failed(&format!("stands in the keyring {} times", found.len())).because(Reason::Malformed);
            error.hint("remove all but the right one with the keyring's own program")
        }
        StoreError::BadEncoding(mut bytes) | StoreError::BadDataFormat(mut bytes, _) => {
            bytes.zeroize();
            failed("holds no text")
                .because(Reason::Malformed)
                .hint("store a passphrase, or 64 hex digits for a raw key")
        }
        StoreError::NoStorageAccess(cause) => failed("cannot be opened: the keyring is locked, or nobody allowed it")
            .because(Reason::Locked)
            .caused_by(cause)
            .hint("unlock the keyring, as a login to the desktop does, and call again"),
        StoreError::TooLong(..) | StoreError::Invalid(..) => failed("has a name that this store does not take")
            .because(Reason::Malformed)
            .caused_by(error)
            .hint("choose another service or user"),
        error => {
            let failed = failed("cannot be used").because(Reason::ProgramFailed).caused_by(error);
            failed.hint("look into the log of the system's keyring")
        }
    }
}

#[cfg(all(unix, not(any(target_os = "macos", target_os = "ios", target_os = "android"))))]
fn system() -> Result<Arc<CredentialStore>, StoreError> {
    Ok(zbus_secret_service_keyring_store::Store::new()?)
}

#[cfg(target_os = "macos")]
fn system() -> Result<Arc<CredentialStore>, StoreError> {
    Ok(apple_native_keyring_store::keychain::Store::new()?)
}

#[cfg(windows)]
fn system() -> Result<Arc<CredentialStore>, StoreError> {
    Ok(windows_native_keyring_store::Store::new()?)
}

#[cfg(not(any(all(unix, not(any(target_os = "ios", target_os = "android"))), windows)))]
fn system() -> Result<Arc<CredentialStore>, StoreError> {
    Err(StoreError::NotSupportedByStore("no store is known for this system".into()))
}

#[cfg(target_os = "linux")]
fn kernel() -> Result<Arc<CredentialStore>, StoreError> {
    Ok(linux_keyutils_keyring_store::Store::new()?)
}

#[cfg(not(target_os = "linux"))]
fn kernel() -> Result<Arc<CredentialStore>, StoreError> {
    Err(StoreError::NotSupportedByStore("only Linux has keyrings in its kernel".into()))
}
