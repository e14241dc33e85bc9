//! What stands in for other programs where none can be started.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::{Reason, Result};

use super::fault::fault;

pub(super) use self::{NoProgram as Program, NoProgramEnvironment as ProgramEnvironment};

/// A program that would be run.
pub(super) struct NoProgram(String);

/// What it would get of the environment.
#[derive(Clone, Copy)]
pub(super) enum NoProgramEnvironment {
    All,
    KeyServices,
    Home,
}

/// What it would leave behind.
pub(super) struct NoAnswer {
    pub(super) code: Option<i32>,
    pub(super) output: Zeroizing<Vec<u8>>,
}

impl NoProgram {
    pub(super) fn new(program: &OsStr, _: NoProgramEnvironment, _: &Path, _: Duration) -> Self {
        Self(program.to_string_lossy().into_owned())
    }

    pub(super) fn arg(self, _: impl AsRef<OsStr>) -> Self {
        self
    }

    pub(super) fn env(self, _: &str, _: impl AsRef<OsStr>) -> Self {
        self
    }

    pub(super) fn without_env(self, _: &[&str]) -> Self {
        self
    }

    /// Says that it cannot be run.
    #[allow(clippy::unused_async, reason = "elsewhere it is waited for")]
    pub(super) async fn run(self, _: &[u8]) -> Result<NoAnswer> {
        Err(fault(Reason::ProgramMissing, format!("program `{}` cannot be started on this platform", self.0)))
    }
}
