//! Other programs: started without a shell, with no more of the environment than they need, bounded in time and output.
//!
//! What they write to stderr is thrown away unread, for it may quote plaintext. Dropping the future kills the program
//! and what it started.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use zeroize::Zeroizing;

use crate::clock;
use crate::error::{Error, Reason, Result};
use crate::keys::job::Descendants;

use super::fault::fault;
use super::tree::MAX_FILE;

/// What a program gets of the environment.
#[derive(Clone, Copy)]
pub(super) enum ProgramEnvironment {
    /// All of it, for a command of the user: it may need anything, and gets the same from the `sops` program.
    All,
    /// What leads to its home, its settings and key services.
    KeyServices,
    /// What leads to its home and its settings.
    Home,
}

/// Variables that lead to a program's home and settings.
const HOME: [&str; 19] = [
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "GNUPGHOME",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "SystemRoot",
    "USERPROFILE",
    "AppData",
    "LocalAppData",
    "ProgramData",
    "HomeDrive",
    "HomePath",
    "ComSpec",
    "PathExt",
    "TEMP",
    "TMP",
];
/// Variables that lead to key services.
const SERVICES: [&str; 6] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"];
/// Beginnings of the names of such variables.
const PREFIXES: [&str; 7] = ["SOPS_", "AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_", "VAULT_", "HUAWEICLOUD_"];

/// A program to run.
pub(super) struct Program {
    command: Command,
    name: String,
    timeout: Duration,
}

/// What a program left behind.
pub(super) struct ProgramOutput {
    /// `None` if a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) output: Zeroizing<Vec<u8>>,
}

impl Program {
    /// `program` in `directory`, at which relative paths in the environment and in arguments start.
    pub(super) fn new(program: &OsStr, gets: ProgramEnvironment, directory: &Path, timeout: Duration) -> Self {
        let mut command = Command::new(program);
        if directory.is_dir() {
            command.current_dir(directory);
        }
        command.env_clear().envs(env::vars_os().filter(|(name, _)| gets.has(name)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        // A group of its own can be killed as a whole, and cannot read a passphrase from the terminal.
        #[cfg(unix)]
        command.process_group(0);
        Self { command, name: program.to_string_lossy().into_owned(), timeout }
    }

    pub(super) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(super) fn without_env(mut self, names: &[&str]) -> Self {
        for name in names {
            self.command.env_remove(name);
        }
        self
    }

    #[cfg(target_os = "linux")]
    pub(super) fn stdin(mut self, from: impl Into<Stdio>) -> Self {
        self.command.stdin(from);
        self
    }

    /// Runs the program to its end, giving it `input`.
    ///
    /// # Errors
    /// [`Reason::ProgramMissing`], [`Reason::ProgramFailed`] when it cannot be run or takes too long,
    /// [`Reason::TooLarge`] when it writes too much. An exit code other than 0 is no error here.
    pub(super) async fn run(mut self, input: &[u8]) -> Result<ProgramOutput> {
        clock::check()?;
        if !input.is_empty() {
            self.command.stdin(Stdio::piped());
        }
        let child = self.command.spawn().map_err(|error| self.not_started(error))?;
        let mut running = Running { descendants: Descendants::of(&child), child };
        let timeout = self.timeout;
        let Ok(answer) = tokio::time::timeout(timeout, running.finish(input)).await else {
            let message = format!("program `{}` gave no answer within {timeout:?} and was killed", self.name);
            return Err(fault(Reason::ProgramFailed, message).transient());
        };
        answer.map_err(|error| error.context(format!("program `{}`", self.name)))
    }

    fn not_started(&self, error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::NotFound {
            fault(Reason::ProgramMissing, format!("program `{}` is not installed", self.name))
        } else {
            fault(Reason::ProgramFailed, format!("program `{}` cannot be started", self.name)).caused_by(error)
        }
    }
}

impl ProgramEnvironment {
    fn has(self, name: &OsStr) -> bool {
        let name = name.to_string_lossy();
        // Windows has it as `Path`, and takes both for one.
        let is_same =
            |one: &str, other: &str| if cfg!(windows) { one.eq_ignore_ascii_case(other) } else { one == other };
        let begins = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| is_same(start, prefix));
        let home = || HOME.iter().any(|known| is_same(&name, known));
        let services =
            || SERVICES.iter().any(|known| is_same(&name, known)) || PREFIXES.iter().any(|prefix| begins(prefix));
        match self {
            Self::All => true,
            Self::KeyServices => home() || services(),
            Self::Home => home(),
        }
    }
}

/// A child that is killed together with its own children if it is dropped before its end.
struct Running {
    child: Child,
    descendants: Descendants,
}

impl Running {
    async fn finish(&mut self, input: &[u8]) -> Result<ProgramOutput> {
        let (stdin, stdout) = (self.child.stdin.take(), self.child.stdout.take());
        let failed = |error: io::Error| fault(Reason::ProgramFailed, "talking to it failed").caused_by(error);
        let stdout = stdout.ok_or_else(|| fault(Reason::ProgramFailed, "it has no output"))?;
        let (output, ()) = tokio::try_join!(read(stdout), write(stdin, input))?;
        let status = self.child.wait().await.map_err(failed)?;
        self.descendants.let_live();
        Ok(ProgramOutput { code: status.code(), output })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // `id` is `None` once the child was waited for; its number may belong to somebody else by then.
        #[cfg(unix)]
        if let Some(id) = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

/// A program that does not read its input to the end says by its exit code whether that was right.
async fn write(stdin: Option<ChildStdin>, input: &[u8]) -> Result<()> {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input).await;
    }
    Ok(())
}

/// Reads to the end in a buffer that is wiped whenever it is replaced by a larger one.
async fn read(mut from: impl AsyncRead + Unpin) -> Result<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(vec![0; 4096]);
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            if filled >= MAX_FILE {
                return Err(fault(Reason::TooLarge, format!("it wrote more than {} MiB", MAX_FILE >> 20)));
            }
            let mut larger = Zeroizing::new(vec![0; buffer.len() * 2]);
            larger[..filled].copy_from_slice(&buffer);
            buffer = larger;
        }
        match from.read(&mut buffer[filled..]).await {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) => return Err(fault(Reason::ProgramFailed, "reading its output failed").caused_by(error)),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::ProgramEnvironment::{Home, KeyServices};

    #[test]
    fn names_of_the_environment_are_one_in_upper_and_lower_case_on_windows_only() {
        for (name, elsewhere) in [("PATH", true), ("Path", false), ("SOPS_AGE_KEY", true), ("Sops_Age_Key", false)] {
            assert_eq!(KeyServices.has(name.as_ref()), elsewhere || cfg!(windows), "{name}");
        }
        for name in ["SECRET", "SOPS", "\u{e4}\u{e4}\u{e4}"] {
            assert!(!KeyServices.has(name.as_ref()), "{name}");
        }
        assert!(Home.has("PATH".as_ref()) && !Home.has("SOPS_AGE_KEY".as_ref()));
    }
}
