//! The program `strongroom`, run as a user would.
#![allow(dead_code, reason = "shared by tests that each use a part of it")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A passphrase, another one, and the digits of a raw key: none may ever be printed.
pub(crate) const PASSPHRASE: &str = "battery-staple-one";
pub(crate) const ANOTHER: &str = "battery-staple-two";
pub(crate) const DIGITS: &str = "b7e1516f8aed2a6abf7158809cf4f3c762e7160f38b4da56a784d9045190cfef";

/// A directory of one test, with a raw key in `key`.
pub(crate) struct Home(TempDir);

/// What a run printed, and its code.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self(TempDir::new().unwrap());
        std::fs::write(home.path("key"), DIGITS).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(home.path("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(arguments).current_dir(self.folder()).env("ONE", PASSPHRASE).env("TWO", ANOTHER);
        command
    }

    /// Runs it with nothing on its standard input.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).stdin(Stdio::null()).output().unwrap())
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ran::of(child.wait_with_output().unwrap())
    }

    /// Runs SQL that writes into `a.db`, which has the raw key; creates it the first time.
    pub(crate) fn write(&self, sql: &str) {
        if !self.path("a.db").exists() {
            std::fs::create_dir_all(self.path("steps")).unwrap();
            std::fs::write(self.path("steps/1_begin.sql"), "CREATE TABLE t (a)").unwrap();
            self.run(&["migrate", "a.db", "steps", "--create", "--key-raw-file", "key"]).ok();
        }
        self.run(&["sql", "a.db", "--key-raw-file", "key", "--write", sql]).ok();
    }
}

impl Ran {
    /// Looks for the keys in whatever was printed.
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ran = Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        for secret in [PASSPHRASE, ANOTHER, DIGITS] {
            assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "a key was printed: {ran:?}");
        }
        assert!(!ran.err.contains("panicked"), "{ran:?}");
        ran
    }

    /// It went well; what it printed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// It failed with this code, in these words, and says what helps.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(words) && self.err.contains("\nhint: "), "{self:?}");
    }
}
