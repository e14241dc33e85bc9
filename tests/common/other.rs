//! Another process that has the same encrypted file open, and runs what it is told.
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use strongroom::{Secret, apply_cipher_key, rusqlite};

const CHILD: &str = "STRONGROOM_TEST_OTHER";

pub fn key() -> Secret {
    Secret::raw_key([7; 32])
}

pub struct Other {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Other {
    /// The test program must have a test `the_other_process` that calls [`be_the_other_process`].
    pub fn open(path: &Path) -> Self {
        let (child, asks, answers) = start_itself(CHILD, path.as_os_str());
        let mut other = Self { child, asks, answers };
        other.run("SELECT count(*) FROM sqlite_schema");
        other
    }

    #[track_caller]
    pub fn run(&mut self, sql: &str) {
        let answer = self.try_run(sql);
        assert_eq!(answer, "ok", "{sql}");
    }

    /// What came of it: "ok", or the words of the engine.
    pub fn try_run(&mut self, sql: &str) -> String {
        writeln!(self.asks, "{sql}").unwrap();
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "the other process ended");
            // The first answer stands behind words of the test harness.
            if let Some((_, answer)) = line.split_once("answer: ") {
                return answer.trim_end().to_owned();
            }
        }
    }

    /// SIGKILL, with all locks held.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Starts this program's test `the_other_process`, with `value` in the environment, and holds its input and output.
pub fn start_itself(variable: &str, value: &OsStr) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_process", "--nocapture"])
        .env(variable, value)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (asks, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    (child, asks, answers)
}

/// Does nothing unless started by [`Other::open`].
pub fn be_the_other_process() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let connection = rusqlite::Connection::open(PathBuf::from(path)).unwrap();
    apply_cipher_key(&connection, &key()).unwrap();
    for sql in std::io::stdin().lines() {
        match connection.execute_batch(&sql.unwrap()) {
            Ok(()) => println!("answer: ok"),
            Err(error) => println!("answer: {error}"),
        }
    }
}
