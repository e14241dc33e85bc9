//! Whether what arrives is what a server of PostgreSQL says: messages of known letters, of lengths that can be.
//!
//! The driver looks at few letters only. It would take a spoilt one for a part of the answer it stands in, and go on: if
//! that was the end of an answer, each later answer would go to the call before its own. So a stream that is out of step
//! ends here. libpq does the same ("lost synchronization with server", `fe-protocol3.c`).

use std::{fmt, io};

use super::described::{Described, Describing};
use super::reported::Reported;

/// Letters of messages that may be long, by the protocol: rows and what describes them, copies, errors, notices,
/// notifications, parameters and answers of functions.
const LONG: &[u8] = b"DTtdENASV";
/// Letters of all others.
const SHORT: &[u8] = b"RKZC123snIGHWcv";

/// The longest message that a server makes has a gibibyte.
const LONGEST: u32 = 1 << 30;
/// libpq's limit for a message that is not of the long ones.
const LONGEST_SHORT: u32 = 30_000;

/// Where in a message the next byte stands.
pub(super) struct InStep {
    reported: Reported,
    describing: Describing,
    letter: u8,
    length: u32,
    /// Bytes of the letter and the length that are still to come.
    header: u8,
    /// Bytes of the rest that are still to come.
    rest: usize,
}

impl InStep {
    pub(super) fn new(reported: Reported, described: Described) -> Self {
        Self { reported, describing: Describing::new(described), letter: 0, length: 0, header: 5, rest: 0 }
    }

    /// Moves over what has arrived, and takes out of it what the driver is not told.
    pub(super) fn look(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        loop {
            let over = self.rest.min(bytes.len());
            if over > 0 && self.letter == b'Z' && !self.reported.ends(bytes[0]) {
                return Err(no_message(format_args!("the state '{}'", bytes[0].escape_ascii())));
            }
            let (rest, behind) = bytes.split_at_mut(over);
            self.describing.look(rest);
            self.rest -= over;
            let Some((&mut byte, left)) = behind.split_first_mut() else { return Ok(()) };
            bytes = left;
            match self.header {
                5 => self.letter = byte,
                _ => self.length = self.length << 8 | u32::from(byte),
            }
            self.header -= 1;
            if self.header == 0 {
                self.rest = self.rest_of()?;
                if self.letter == b'E' {
                    self.reported.fails();
                }
                self.describing.begin(self.letter);
                (self.length, self.header) = (0, 5);
            }
        }
    }

    fn rest_of(&self) -> io::Result<usize> {
        let longest = match self.letter {
            // The state of the transaction is one byte.
            b'Z' if self.length != 5 => 0,
            letter if LONG.contains(&letter) => LONGEST,
            letter if SHORT.contains(&letter) => LONGEST_SHORT,
            _ => 0,
        };
        let rest = self.length.checked_sub(4).filter(|_| self.length <= longest);
        let rest = rest.and_then(|rest| usize::try_from(rest).ok());
        rest.ok_or_else(|| no_message(format_args!("type '{}', {} bytes", self.letter.escape_ascii(), self.length)))
    }
}

#[cold]
fn no_message(what: fmt::Arguments<'_>) -> io::Error {
    let said = format!("what arrived is no message of PostgreSQL's protocol ({what})");
    io::Error::new(io::ErrorKind::InvalidData, said)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::postgres::wire::SessionTransaction;

    fn message(letter: u8, rest: usize) -> Vec<u8> {
        if letter == b'Z' {
            return b"Z\0\0\0\x05T".to_vec();
        }
        let length = u32::try_from(rest + 4).unwrap().to_be_bytes();
        [&[letter][..], &length, &vec![b'x'; rest]].concat()
    }

    fn looked(bytes: &[u8], piece: usize) -> io::Result<()> {
        let mut at = InStep::new(Reported::default(), Described::default());
        bytes.to_vec().chunks_mut(piece).try_for_each(|bytes| at.look(bytes))
    }

    proptest! {
        #[test]
        fn what_is_in_step_passes_however_it_is_cut_and_what_follows_a_spoilt_letter_does_not(
            sizes in proptest::collection::vec((0..24_usize, 0..40_usize), 1..6),
            piece in 1..30_usize,
            spoilt in prop::sample::select(b"\0\x7fXQyz\xc4".to_vec()),
        ) {
            let letters = [LONG, SHORT].concat();
            let mut bytes: Vec<u8> =
                sizes.iter().flat_map(|(letter, size)| message(letters[*letter], *size)).collect();
            prop_assert!(looked(&bytes, piece).is_ok());
            bytes.extend(message(spoilt, 3));
            prop_assert!(looked(&bytes, piece).is_err());
        }
    }

    #[test]
    fn the_state_of_the_transaction_is_heard_and_no_other_than_there_are() {
        let reported = Reported::default();
        for (status, said) in [
            (b'I', Some(SessionTransaction::None)),
            (b'T', Some(SessionTransaction::Open)),
            (b'E', Some(SessionTransaction::Failed)),
        ] {
            let mut at = InStep::new(reported.clone(), Described::default());
            at.look(&mut message(b'E', 9)).unwrap();
            assert_eq!(reported.transaction(), None, "the end of a failed answer is to come");
            at.look(&mut [b'Z', 0, 0, 0, 5, status]).unwrap();
            assert_eq!(reported.transaction(), said);
        }
        assert!(looked(b"Z\0\0\0\x05i", 1).is_err());
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        for (letter, length, fine) in [
            (b'Z', 5, true),
            (b'Z', 4, false),
            (b'Z', 6, false),
            (b'1', 4, true),
            (b'1', 3, false),
            (b'C', LONGEST_SHORT, true),
            (b'C', LONGEST_SHORT + 1, false),
            (b'D', LONGEST, true),
            (b'D', LONGEST + 1, false),
            (b'D', u32::MAX, false),
            (b'D', 0, false),
        ] {
            let head = [&[letter][..], &length.to_be_bytes()].concat();
            assert_eq!(looked(&head, 1).is_ok(), fine, "{} {length}", letter.escape_ascii());
        }
    }
}
