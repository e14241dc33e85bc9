//! The `sops` program as the second way to a value: for key services, and for post-quantum and plugin identities.
//!
//! The file is parsed here first in any case, so what cannot be a key is refused by the same rules, and the type of
//! the value is known before its text comes back.

use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{Error, Reason, Result};
use crate::secret::Secret;

use super::document::Document;
use super::fault::fault;
use super::format::SopsFormat;
use super::gcm::{Clear, Sealed, Type};
use super::identity::{IdentitySources, Loaded};
use super::path::KeyPath;
use super::program::Program;
use super::tree::{Node, Scalar};

/// Who opens the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SopsBackend {
    /// This crate; and the `sops` program for files with a key that only it can use, if the others did not do.
    #[default]
    Auto,
    /// This crate only, with `gpg` for PGP keys.
    Native,
    /// The `sops` program only.
    Binary,
}

/// Variables that name identities; the program gets what our own settings allow instead.
const IDENTITY_VARIABLES: [&str; 4] =
    ["SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE", "SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_CMD"];

/// Sets up `sops` for the value at `path`.
pub(super) fn prepare(
    program: Program,
    file: &Path,
    document: &Document,
    path: &KeyPath,
    sources: &IdentitySources,
    loaded: &Loaded,
) -> Result<Program> {
    let mut program = program
        .without_env(&IDENTITY_VARIABLES)
        .env("SOPS_CONFIG", if cfg!(windows) { "NUL" } else { "/dev/null" })
        .env("SOPS_DISABLE_VERSION_CHECK", "1");
    for name in sources.commands() {
        program = program.env(name, std::env::var_os(name).unwrap_or_default());
    }
    if !sources.ssh_file() {
        program = program.without_env(&["SOPS_AGE_SSH_PRIVATE_KEY_FILE"]);
    }
    program = hand_over(program, sources, loaded)?;
    let format = document.format.name();
    program = program.arg("decrypt").arg("--input-type").arg(format).arg("--output-type").arg(format);
    if document.format != SopsFormat::Binary {
        program = program.arg("--extract").arg(path.bracketed(&document.documents[0])?);
    }
    // A path that begins with a dash is no option.
    Ok(program.arg("--").arg(file))
}

/// Gives the identities as a file that exists only in memory: not in the environment, which others can read, and not
/// on a disk.
#[cfg(target_os = "linux")]
fn hand_over(program: Program, _: &IdentitySources, loaded: &Loaded) -> Result<Program> {
    use std::io::Write as _;

    if loaded.texts.is_empty() {
        return Ok(program);
    }
    let create = || -> std::io::Result<std::fs::File> {
        let mut file = std::fs::File::from(rustix::fs::memfd_create("identities", rustix::fs::MemfdFlags::CLOEXEC)?);
        for text in &loaded.texts {
            file.write_all(text)?;
            file.write_all(b"\n")?;
        }
        Ok(file)
    };
    let file = create().map_err(|error| fault(Reason::Io, "cannot hand identities to `sops`").caused_by(error))?;
    Ok(program.stdin(file).env("SOPS_AGE_KEY_FILE", "/dev/stdin"))
}

#[cfg(not(target_os = "linux"))]
fn hand_over(program: Program, sources: &IdentitySources, _: &Loaded) -> Result<Program> {
    // Nowhere else is there a file without a disk; the program finds the identities of the environment by itself, where
    // they may be used.
    Ok(sources.variables().fold(program, |program, name| match std::env::var_os(name) {
        Some(value) => program.env(name, value),
        None => program,
    }))
}

/// Turns the program's output into the secret that the native way would have given.
pub(super) fn accept(document: &Document, path: &KeyPath, target: &Node, output: Zeroizing<Vec<u8>>) -> Result<Secret> {
    let Node::Leaf(scalar) = target else { return Err(unreadable(path)) };
    let sealed = match scalar {
        Scalar::Text(text) => Sealed::parse(text).map(|sealed| sealed.kind),
        _ => None,
    };
    if document.metadata.mac_only_encrypted && (sealed.is_none() || Sealed::is_prefix_of(&output)) {
        return Err(super::open::uncovered(path));
    }
    let kind = sealed.unwrap_or(match scalar {
        Scalar::Integer(_) => Type::Integer,
        Scalar::Float(_) => Type::Float,
        Scalar::Bool(_) => Type::Bool,
        Scalar::Time(_) => Type::Time,
        _ => Type::Text,
    });
    let value = match kind {
        Type::Text | Type::Bytes => output,
        Type::Comment => return Err(super::open::comment(path)),
        _ => {
            let text = output.trim_ascii();
            let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
            let clear = Clear::new(Zeroizing::new(text.to_vec()), kind).ok_or_else(|| unreadable(path))?;
            clear.released()
        }
    };
    if value.is_empty() {
        return Err(super::open::empty(path));
    }
    Ok(Secret::new(value))
}

fn unreadable(path: &KeyPath) -> Error {
    fault(Reason::ProgramFailed, format!("what `sops` printed for `{path}` is not of the type that the file says"))
}

/// The meaning of the program's exit code.
pub(super) fn refused(code: Option<i32>) -> Error {
    let (reason, what) = match code {
        Some(1) => (Reason::Malformed, "refuses it as malformed"),
        Some(25) => (Reason::Tampered, "says that a value was altered, moved or renamed"),
        Some(51) => (Reason::Tampered, "says that its MAC does not match"),
        Some(91) => (Reason::Malformed, "cannot read the path"),
        Some(100) => (Reason::Missing, "does not find it"),
        Some(128) => (Reason::Locked, "has no key that opens it"),
        Some(code) => return fault(Reason::ProgramFailed, format!("`sops` failed with exit code {code}")),
        None => return fault(Reason::ProgramFailed, "`sops` was ended by a signal"),
    };
    fault(reason, format!("`sops` {what}"))
}
