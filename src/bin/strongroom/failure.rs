//! What went wrong, as it is told and as the exit code says it.

use std::io;

use strongroom::{Error, ErrorKind, Reason};

use crate::words::note;

/// A signal that ended the work, by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signal(pub(crate) i32);

/// Why the program ends with another code than 0.
#[derive(Debug)]
pub(crate) enum ExitCause {
    /// What the library says, with a way out for the terminal if the library's is for programmers.
    Engine(Error, Option<&'static str>),
    /// In words of its own: what is wrong, and the way out.
    Said(String, &'static str),
    /// Everything was told already; the code, which is not 0.
    Told(i32),
    /// The output cannot be written; the code that the work had come to.
    Output(io::Error, i32),
    Stopped(Signal),
}

/// The exit codes, as docs/tool.md has them. clap's own for wrong usage is 2.
pub(crate) mod code {
    pub(crate) const FAULT: i32 = 1;
    pub(crate) const MISSING: i32 = 3;
    pub(crate) const DAMAGED: i32 = 4;
    pub(crate) const KEY: i32 = 5;
    pub(crate) const BUSY: i32 = 6;
    pub(crate) const SIGNAL: i32 = 128;
}

/// What the library tells programmers, said to users of this program.
fn way_out(error: &Error) -> Option<&'static str> {
    Some(match error.reason() {
        Reason::KeyMissing => "say where the key is: --key-env, --key-sops, --key-file or --key-program",
        Reason::NotEncrypted => "leave the key away, or encrypt the file with `strongroom encrypt`",
        Reason::OtherCipherSettings => "this program has no options for such a file; open it in a program of your own",
        Reason::NotFound if error.message().ends_with("there is no such file") => "check the path",
        Reason::WrongKey => {
            "check which key belongs to the file; --kdf-iterations or --page-size that it was made with, and damage to its \
             first bytes, look the same"
        }
        _ if error.kind() == ErrorKind::Busy => "another process uses the file; `strongroom doctor` says which",
        _ => return None,
    })
}

/// Names of the library, and what this program has for them.
const OPTIONS: [(&str, &str); 3] =
    [("call .replace(true)", "give --replace"), (".keep()", "--keep"), ("check()", "`strongroom check`")];

/// What helps, in terms of this program.
fn advice(error: &Error) -> Option<String> {
    if let Some((_, version)) = error.message().rsplit_once("the format of SQLCipher ") {
        return Some(format!("give --cipher-compatibility {version}"));
    }
    let ours = way_out(error).map(str::to_owned);
    let in_options =
        |advice: &str| OPTIONS.iter().fold(advice.to_owned(), |text, (name, ours)| text.replace(name, ours));
    ours.or_else(|| error.advice().map(in_options))
}

pub(crate) fn code_of(error: &Error) -> i32 {
    match (error.kind(), error.reason()) {
        (_, Reason::NotFound) => code::MISSING,
        (_, Reason::Damaged) => code::DAMAGED,
        (ErrorKind::Key | ErrorKind::Encryption, _) => code::KEY,
        (ErrorKind::Busy, _) => code::BUSY,
        _ => code::FAULT,
    }
}

impl ExitCause {
    /// Tells it on standard error: one line, and one with the way out.
    pub(crate) fn tell(&self) -> i32 {
        let (message, hint, code) = match self {
            Self::Engine(error, hint) => {
                let hint = hint.map(str::to_owned).or_else(|| advice(error));
                (error.message().to_owned(), hint, code_of(error))
            }
            Self::Said(message, hint) => (message.clone(), Some((*hint).to_owned()), code::FAULT),
            Self::Told(code) => return *code,
            // Whoever read the output has seen enough.
            Self::Output(error, code) if error.kind() == io::ErrorKind::BrokenPipe => return *code,
            Self::Output(error, code) => {
                (format!("the output cannot be written: {error}"), None, if *code == 0 { code::FAULT } else { *code })
            }
            Self::Stopped(Signal(number)) => {
                ("stopped; what was not finished is undone".to_owned(), None, code::SIGNAL + number)
            }
        };
        note(format_args!("error: {message}"));
        if let Some(hint) = hint {
            note(format_args!("hint: {hint}"));
        }
        code
    }
}

/// The end of a command whose work came to `code`, whether that could be told or not.
pub(crate) fn concluded(told: io::Result<()>, code: i32) -> Result<(), ExitCause> {
    match (told, code) {
        (Err(error), code) => Err(ExitCause::Output(error, code)),
        (Ok(()), 0) => Ok(()),
        (Ok(()), code) => Err(ExitCause::Told(code)),
    }
}

/// The error in words, with what helps a user of this program.
pub(crate) fn in_words(error: &Error) -> (String, Option<String>) {
    (error.message().to_owned(), advice(error))
}

impl From<Error> for ExitCause {
    fn from(error: Error) -> Self {
        Self::Engine(error, None)
    }
}

impl From<io::Error> for ExitCause {
    fn from(error: io::Error) -> Self {
        Self::Output(error, 0)
    }
}

impl From<Signal> for ExitCause {
    fn from(signal: Signal) -> Self {
        Self::Stopped(signal)
    }
}
