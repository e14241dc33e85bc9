//! Data keys that are encrypted to PGP keys: `gpg` opens them.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::{Reason, Result};

use super::fault::fault;
use super::program::{Program, ProgramEnvironment};

/// Opens one armored `OpenPGP` message. Never prompts: a key with a passphrase must be unlocked in the agent already.
pub(super) async fn unwrap(armored: &str, directory: &Path, timeout: Duration) -> Result<Zeroizing<Vec<u8>>> {
    let program = env::var_os("SOPS_GPG_EXEC").filter(|name| !name.is_empty()).unwrap_or_else(|| OsString::from("gpg"));
    let program = Program::new(&program, ProgramEnvironment::Home, directory, timeout);
    let arguments = ["--batch", "--no-tty", "--quiet", "--pinentry-mode", "error", "--decrypt"];
    let program = arguments.iter().fold(program, Program::arg);
    let answer = program.run(armored.as_bytes()).await?;
    if answer.code == Some(0) && !answer.output.is_empty() {
        return Ok(answer.output);
    }
    Err(fault(Reason::ProgramFailed, "`gpg` has no unlocked key for it"))
}
