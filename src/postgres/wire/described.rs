//! Types that the driver does not know, taken out of what the server describes.
//!
//! The driver asks the server for each type that is not built in, in the middle of a call: with statements that it keeps
//! prepared, which a pooler or `DISCARD ALL` takes from it; and for a statement that was not prepared, while the rows
//! behind the description fill its channel, so that the answer never comes. So in what our own calls receive, the number
//! of such a type is replaced by that of a type that no value has. The number itself goes where the driver hands it on
//! unread: for a column, in place of the modifier of its type; for parameters, beside the message.
//!
//! Source: `RowDescription` and `ParameterDescription` in "Message Formats" of PostgreSQL's reference.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_postgres::Column;
use tokio_postgres::types::Type;

use crate::lock::Lock;

/// Types have numbers below this if they are built in. The server gives out higher ones while a cluster is made, and to
/// types of users. Source: `FirstGenbkiObjectId`, 10000; none of those in between is in use.
const FIRST_STRANGE: u32 = 0x2700;
/// Rows of `pg_type`, `pg_attribute`, `pg_proc` and `pg_class`: built in, and yet unknown to the driver. Those of five more
/// catalogs, which have few rows, it asks for.
const CATALOGS: [u32; 4] = [71, 75, 81, 83];
/// `anyelement` and `pg_ddl_command`: no value has such a type. Each byte of the first can be told from the bytes up to it.
const NOBODY: [u8; 2] = [0x08, 0xeb];
const NOBODY_LOW: u8 = 32;

/// Shared by a session and its socket.
#[derive(Clone, Default)]
pub(crate) struct Described(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// The driver's client is lent, and its user wants types as they are.
    lent: AtomicBool,
    /// The parameters described next are those of our own statement. The driver's questions in the middle of a call have some,
    /// too.
    asked: AtomicBool,
    parameters: Lock<Vec<u32>>,
}

impl Described {
    /// Whether descriptions are for a user of the driver's client from now on, and go as they come.
    pub(crate) fn lend(&self, lent: bool) {
        self.0.lent.store(lent, Ordering::Release);
    }

    /// A statement is about to be described whose parameters are asked for.
    pub(crate) fn ask(&self) {
        self.0.asked.store(true, Ordering::Release);
    }

    /// The types of its parameters, where the driver was not told: 0 where it was.
    pub(crate) fn parameters(&self) -> Vec<u32> {
        std::mem::take(&mut self.0.parameters.lock())
    }
}

/// The number of a column's type, if the driver was not told.
pub(crate) fn stranger(column: &Column) -> Option<u32> {
    matches!(*column.type_(), Type::ANYELEMENT | Type::PG_DDL_COMMAND).then(|| column.type_modifier().cast_unsigned())
}

/// Where in a description the next byte stands.
pub(super) struct Describing {
    described: Described,
    letter: u8,
    /// Bytes of the count that are still to come.
    count: u8,
    in_name: bool,
    /// Which byte of what has a fixed length.
    at: usize,
    number: u32,
    replaced: bool,
    /// The parameters are those that were asked for.
    asked: bool,
}

/// Behind a column's name: table, number, type, size, modifier, format.
const TYPE: usize = 6;
const MODIFIER: usize = 12;
const COLUMN: usize = 18;

impl Describing {
    pub(super) fn new(described: Described) -> Self {
        Self { described, letter: 0, count: 0, in_name: false, at: 0, number: 0, replaced: false, asked: false }
    }

    /// A message begins.
    pub(super) fn begin(&mut self, letter: u8) {
        self.letter = letter;
        if !matches!(letter, b'T' | b't') {
            return;
        }
        if self.described.0.lent.load(Ordering::Acquire) {
            self.letter = 0;
        }
        (self.count, self.in_name, self.at) = (2, letter == b'T', 0);
        self.asked = letter == b't' && self.described.0.asked.swap(false, Ordering::AcqRel);
        if self.asked {
            drop(self.described.parameters());
        }
    }

    /// Goes on with the rest of the message.
    pub(super) fn look(&mut self, bytes: &mut [u8]) {
        if !matches!(self.letter, b'T' | b't') {
            return;
        }
        for byte in bytes {
            if self.count > 0 {
                self.count -= 1;
            } else if self.letter == b't' {
                self.replace(self.at, byte);
                self.at = (self.at + 1) % size_of::<u32>();
                if self.at == 0 && self.asked {
                    self.described.0.parameters.lock().push(if self.replaced { self.number } else { 0 });
                }
            } else if self.in_name {
                self.in_name = *byte != 0;
            } else {
                match self.at {
                    TYPE..10 => self.replace(self.at - TYPE, byte),
                    MODIFIER..16 if self.replaced => *byte = self.number.to_be_bytes()[self.at - MODIFIER],
                    _ => {}
                }
                self.at = (self.at + 1) % COLUMN;
                self.in_name = self.at == 0;
            }
        }
    }

    /// A byte of the number of a type, of which the next may not have arrived.
    fn replace(&mut self, index: usize, byte: &mut u8) {
        self.number = if index == 0 { 0 } else { self.number << 8 } | u32::from(*byte);
        match index {
            0 | 1 => *byte = 0,
            2 => {
                self.replaced = self.number >= FIRST_STRANGE >> 8;
                if self.replaced {
                    *byte = NOBODY[0];
                }
            }
            _ if self.replaced => *byte = NOBODY[1],
            _ if CATALOGS.contains(&self.number) => (self.replaced, *byte) = (true, NOBODY_LOW),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn column(name: &str, number: u32, modifier: u32) -> Vec<u8> {
        let number = number.to_be_bytes();
        [name.as_bytes(), b"\0\0\0\x40\0\0\x01", &number, &[0, 8], &modifier.to_be_bytes(), &[0, 0]].concat()
    }

    proptest! {
        #[test]
        fn what_the_driver_does_not_know_is_kept_from_it_however_it_is_cut(
            columns in proptest::collection::vec(("[a-z]{0,4}", any::<u32>(), prop::bool::ANY), 0..6),
            piece in 1..30_usize,
        ) {
            let number = |number: u32, built_in: bool| if built_in { number % 9000 } else { number };
            let count = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
            let (mut rows, mut told, mut parameters, mut kept) = (count.clone(), count.clone(), count, Vec::new());
            for (name, any, built_in) in &columns {
                let number = number(*any, *built_in);
                rows.extend(column(name, number, 7));
                parameters.extend(number.to_be_bytes());
                let replaced = number >= FIRST_STRANGE || CATALOGS.contains(&number);
                let low = CATALOGS.contains(&number);
                let (instead, modifier) = if replaced { (if low { 32 } else { 2283 }, number) } else { (number, 7) };
                told.extend(column(name, instead, modifier));
                kept.push(if replaced { number } else { 0 });
            }
            let described = Described::default();
            described.ask();
            let mut at = Describing::new(described.clone());
            // The driver asks, too, while it prepares ours.
            let mut of_the_driver = [0, 1, 0, 0, 0, 26];
            for (letter, message) in [(b't', &mut parameters[..]), (b't', &mut of_the_driver[..]), (b'T', &mut rows[..])] {
                at.begin(letter);
                message.chunks_mut(piece).for_each(|bytes| at.look(bytes));
            }
            prop_assert_eq!(&rows, &told);
            prop_assert_eq!(described.parameters(), kept);
            described.lend(true);
            at.begin(b'T');
            at.look(&mut rows);
            prop_assert_eq!(rows, told);
        }
    }
}
