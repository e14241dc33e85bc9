//! How far something is: one line on a terminal, nothing anywhere else.

use std::io::{self, IsTerminal as _, Write as _};

/// The line is taken away when this is dropped.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    shown: bool,
    terminal: bool,
}

impl ProgressLine {
    pub(crate) fn new() -> Self {
        Self { shown: false, terminal: io::stderr().is_terminal() }
    }

    pub(crate) fn show(&mut self, what: &str, done: u64, total: u64) {
        if !self.terminal {
            return;
        }
        let percent = (done * 100).checked_div(total).unwrap_or(0);
        write!(io::stderr(), "\r\x1b[K{what}: {percent} %").ok();
        self.shown = true;
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.shown {
            write!(io::stderr(), "\r\x1b[K").ok();
        }
    }
}
