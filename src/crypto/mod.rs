//! What the cryptographic library of the engine does for us: libcrypto, or `CommonCrypto` on Apple's systems.
//!
//! libsqlite3-sys links it for SQLCipher. It is compiled with its own optimisation in every profile of a program, where
//! Rust code needs seconds in a debug build. Nobody may be inside while the process's exit frees it: see `exit_gate`.
#![allow(unsafe_code, reason = "the functions of a library in C; every block says why it is sound")]

#[cfg(feature = "sqlcipher")]
pub(crate) mod aes;
#[cfg(feature = "sqlite")]
pub(crate) mod exit_gate;
#[cfg(feature = "sqlcipher")]
pub(crate) mod kdf;
#[cfg(feature = "sops")]
pub(crate) mod scrypt;
#[cfg(all(feature = "sops", feature = "sqlcipher", not(target_vendor = "apple")))]
mod scrypt_library;
#[cfg(all(feature = "sops", not(all(feature = "sqlcipher", not(target_vendor = "apple")))))]
#[path = "no_scrypt_library.rs"]
mod scrypt_library;

/// The bytes of a block of scrypt, as age files have it.
#[cfg(feature = "sops")]
const SCRYPT_BLOCK: u64 = 128 * 8;

// libsqlite3-sys names it too, but where it links SQLCipher as a library of the system.
#[cfg(all(feature = "sqlcipher", not(feature = "vendored-openssl"), unix, not(target_vendor = "apple")))]
#[link(name = "crypto")]
unsafe extern "C" {}
