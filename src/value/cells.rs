//! Many values in a few runs of memory, however many there are.

use std::fmt;

use crate::value::ValueRef;

/// Values of fixed size; texts and blobs stand one behind another beside them.
#[derive(Clone, Default)]
pub(crate) struct Cells {
    fixed: Vec<Cell>,
    texts: String,
    blobs: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Cell {
    Null,
    Bool(bool),
    Integer(i64),
    Real(f64),
    Text { length: u32, start: u64 },
    Blob { length: u32, start: u64 },
    List { length: u32, start: u64 },
}

impl Cells {
    /// Appends a value.
    ///
    /// # Panics
    /// When a text or blob is longer than 4 GiB, which no supported engine can store.
    #[inline]
    pub(crate) fn push(&mut self, value: ValueRef<'_>) {
        let cell = match value {
            ValueRef::Null => Cell::Null,
            ValueRef::Bool(value) => Cell::Bool(value),
            ValueRef::Integer(value) => Cell::Integer(value),
            ValueRef::Real(value) => Cell::Real(value),
            ValueRef::Text(text) => {
                let (length, start) = self.push_text(text);
                Cell::Text { length, start }
            }
            ValueRef::List(text) => {
                let (length, start) = self.push_text(text);
                Cell::List { length, start }
            }
            ValueRef::Blob(blob) => {
                let start = self.blobs.len() as u64;
                self.blobs.extend_from_slice(blob);
                Cell::Blob { length: length(blob.len()), start }
            }
        };
        self.fixed.push(cell);
    }

    fn push_text(&mut self, text: &str) -> (u32, u64) {
        let start = self.texts.len() as u64;
        self.texts.push_str(text);
        (length(text.len()), start)
    }

    /// Forgets everything, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.fixed.clear();
        self.texts.clear();
        self.blobs.clear();
    }

    /// Forgets all but the first `count` values.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.fixed.truncate(count);
    }

    pub(crate) fn len(&self) -> usize {
        self.fixed.len()
    }

    /// Whether the same values stand in the same order, to the bit.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let same = |one: ValueRef<'_>, other: ValueRef<'_>| match (one, other) {
            (ValueRef::Real(one), ValueRef::Real(other)) => one.to_bits() == other.to_bits(),
            (one, other) => one == other,
        };
        self.len() == other.len() && (0..self.len()).all(|index| same(self.get(index), other.get(index)))
    }

    /// How much memory the values take.
    pub(crate) fn bytes(&self) -> usize {
        self.fixed.len() * size_of::<Cell>() + self.texts.len() + self.blobs.len()
    }

    /// # Panics
    /// When there are not so many.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the range was taken from a buffer in this address space")]
    pub(crate) fn get(&self, index: usize) -> ValueRef<'_> {
        match self.fixed[index] {
            Cell::Null => ValueRef::Null,
            Cell::Bool(value) => ValueRef::Bool(value),
            Cell::Integer(value) => ValueRef::Integer(value),
            Cell::Real(value) => ValueRef::Real(value),
            Cell::Text { length, start } => ValueRef::Text(&self.texts[start as usize..][..length as usize]),
            Cell::List { length, start } => ValueRef::List(&self.texts[start as usize..][..length as usize]),
            Cell::Blob { length, start } => ValueRef::Blob(&self.blobs[start as usize..][..length as usize]),
        }
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("no engine has values of 4 GiB")
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cells({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_sixteen_bytes() {
        assert_eq!(size_of::<Cell>(), 16);
    }
}
