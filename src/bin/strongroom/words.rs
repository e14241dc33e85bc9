//! Sizes and lines for people.

use std::io::{self, Write as _};

use serde_json::Value;

/// Writes all of it to standard output.
pub(crate) fn write_out(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Writes one line to standard output.
pub(crate) fn say(line: impl std::fmt::Display) -> io::Result<()> {
    write_out(format!("{line}\n").as_bytes())
}

/// Writes one line to standard error, if anybody reads it: the exit code tells enough.
pub(crate) fn note(line: impl std::fmt::Display) {
    io::stderr().write_all(format!("{line}\n").as_bytes()).ok();
}

/// Whether a program reads what is said.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct AnswerForm {
    /// Answers in one line of JSON
    #[arg(long)]
    json: bool,
}

impl AnswerForm {
    /// Says `answer` if a program reads it, and else what `people` say.
    pub(crate) fn say(self, answer: &Value, people: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.json { say(answer) } else { people() }
    }
}

/// A number of bytes as people read it.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = bytes;
    let mut tenths = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        tenths = (whole % 1024) * 10 / 1024;
        whole /= 1024;
        unit += 1;
    }
    if unit == 0 { format!("{whole} {}", UNITS[0]) } else { format!("{whole}.{tenths} {}", UNITS[unit]) }
}

/// "1 table", "2 tables".
pub(crate) fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
