//! Asking for a passphrase, without showing what is typed.

use strongroom::Secret;

use crate::failure::ExitCause;

#[cfg(unix)]
pub(crate) fn ask(question: &str) -> Result<Secret, ExitCause> {
    unix::ask(question).map_err(|error| match error.kind() {
        std::io::ErrorKind::Interrupted => ExitCause::Stopped(crate::failure::Signal(2)),
        _ => ExitCause::Said(format!("the passphrase cannot be read: {error}"), "name a source of the key instead"),
    })
}

#[cfg(not(unix))]
pub(crate) fn ask(_: &str) -> Result<Secret, ExitCause> {
    Err(ExitCause::Said("a passphrase cannot be asked for here".into(), "name a source of the key"))
}

#[cfg(unix)]
mod unix {
    use std::io::{self, Write as _};

    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
    use strongroom::Secret;
    use zeroize::Zeroizing;

    /// No passphrase is longer; the buffer never moves.
    const LONGEST: usize = 4096;

    const CTRL_C: u8 = 3;
    const CTRL_D: u8 = 4;
    const BACKSPACE: [u8; 2] = [8, 127];
    const CTRL_U: u8 = 21;

    /// The terminal as it was, put back when dropped.
    struct Quiet(Termios);

    impl Quiet {
        /// Shows nothing, and gives each key at once, also those that would send a signal: so nobody ends in the middle.
        fn begin() -> io::Result<Self> {
            let before = tcgetattr(io::stdin())?;
            let mut quiet = before.clone();
            quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
            tcsetattr(io::stdin(), OptionalActions::Drain, &quiet)?;
            Ok(Self(before))
        }
    }

    impl Drop for Quiet {
        fn drop(&mut self) {
            tcsetattr(io::stdin(), OptionalActions::Drain, &self.0).ok();
            writeln!(io::stderr()).ok();
        }
    }

    pub(super) fn ask(question: &str) -> io::Result<Secret> {
        let _quiet = Quiet::begin()?;
        io::stderr().write_all(question.as_bytes())?;
        let mut typed = Zeroizing::new(Vec::with_capacity(LONGEST));
        loop {
            let mut key = Zeroizing::new([0_u8; 1]);
            // Straight from the system: a buffer in between would keep what was typed.
            if rustix::io::read(io::stdin(), &mut *key)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match key[0] {
                b'\r' | b'\n' => return Ok(Secret::new(typed.as_slice())),
                CTRL_C => return Err(io::ErrorKind::Interrupted.into()),
                CTRL_D if typed.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                CTRL_U => typed.clear(),
                byte if BACKSPACE.contains(&byte) => backspace(&mut typed),
                _ if typed.len() == LONGEST => return Err(io::Error::other("it is too long")),
                byte => typed.push(byte),
            }
        }
    }

    /// Takes the last character away, which may be several bytes of UTF-8.
    fn backspace(typed: &mut Vec<u8>) {
        while let Some(byte) = typed.pop() {
            if byte & 0b1100_0000 != 0b1000_0000 {
                break;
            }
        }
    }
}
