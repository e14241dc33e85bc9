//! A secret printed by a program.

use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::buffer::Buffer;
use super::job::Descendants;
use super::place;
use crate::clock;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::key::KeySource;
use crate::secret::Secret;
use crate::veiled::Veiled;

/// Longer than a password manager needs to ask its server, shorter than anybody's patience.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a program, anew at each call, and takes what it prints as the secret, without one newline at the end.
///
/// The program is run directly, never through a shell, so nothing in the arguments is interpreted. It runs in the
/// working directory in which the source was made, so relative paths mean what they meant there. It inherits the
/// environment, gets no input, and its error output is thrown away, because it may quote the secret. At most 64 KiB are
/// read, up to the end of its output; it must then succeed. When the time is over, or the future is dropped, the
/// program is killed; what it has started itself is not, but on Windows (with the feature `sops`).
///
/// ```no_run
/// use std::time::Duration;
/// use strongroom::{CommandKeySource, KeySource};
///
/// # async fn example() -> strongroom::Result<()> {
/// let source = CommandKeySource::new("pass").args(["show", "app/database"]).timeout(Duration::from_secs(5));
/// let secret = source.resolve().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct CommandKeySource {
    program: Veiled<OsString>,
    args: Vec<OsString>,
    directory: PathBuf,
    timeout: Duration,
}

impl CommandKeySource {
    /// Runs `program`: a path, or a name to be looked up in `PATH`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: Veiled(program.into()), args: Vec::new(), directory: place::directory(), timeout: TIMEOUT }
    }

    /// Adds arguments, each handed over as it is.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Bounds the time from start to end; 30 seconds unless set.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    fn spawn(&self) -> Result<Child> {
        let mut command = Command::new(self.found());
        if !self.directory.as_os_str().is_empty() {
            command.current_dir(&self.directory);
        }
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        command.spawn().map_err(|error| match error.kind() {
            IoErrorKind::NotFound if !self.directory.is_dir() => {
                self.failed(format_args!("cannot run in {}, which is gone", self.directory.display()))
            }
            IoErrorKind::NotFound => {
                let error = self.failed("is not installed").because(Reason::ProgramMissing);
                error.hint("install it, or give its full path")
            }
            _ => self.failed("cannot be started").caused_by(error),
        })
    }

    /// The program where it stood when it was named.
    fn found(&self) -> PathBuf {
        let program = Path::new(&self.program.0);
        if program.components().count() > 1 { self.directory.join(program) } else { program.to_owned() }
    }

    /// CANCEL: the child is owned by this future and killed with it.
    async fn run(&self) -> Result<Secret> {
        let mut child = self.spawn()?;
        let descendants = Descendants::of(&child);
        let mut output = child.stdout.take().ok_or_else(|| self.failed("has no output"))?;
        let (mut buffer, source) = (Buffer::new(), self.describe());
        loop {
            let read = output.read(buffer.space()).await;
            match read.map_err(|error| self.failed("cannot be read from").caused_by(error))? {
                0 => break,
                count => buffer.advance(count, &source)?,
            }
        }
        let status = child.wait().await.map_err(|error| self.failed("cannot be waited for").caused_by(error))?;
        descendants.let_live();
        if !status.success() {
            return Err(self.failed(format_args!("failed with {status}")).hint("run it by hand to see why"));
        }
        buffer.line(&source)
    }

    fn failed(&self, what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Key, format!("{} {what}", self.describe())).because(Reason::ProgramFailed)
    }
}

/// Arguments may hold tokens, so only their number is shown.
impl fmt::Debug for CommandKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandKeySource")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("directory", &self.directory)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// Fails with [`Reason::ProgramMissing`], [`Reason::ProgramFailed`] (also when the time is over), [`Reason::TooLarge`]
/// or [`Reason::Empty`]. Needs a Tokio runtime with I/O and time enabled.
#[async_trait]
impl KeySource for CommandKeySource {
    async fn resolve(&self) -> Result<Secret> {
        clock::check()?;
        let answer = tokio::time::timeout(self.timeout, self.run()).await;
        answer.unwrap_or_else(|_| Err(self.failed(format_args!("gave no answer within {:?}", self.timeout))))
    }

    fn describe(&self) -> String {
        format!("key command {}", Veiled(Path::new(&self.program.0).display()))
    }
}
