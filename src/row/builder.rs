//! Filling a result, cell by cell.

use std::sync::Arc;

use super::{Changes, Data, Rows};
use crate::{Value, ValueRef};

/// A value of fixed size; text and bytes stand in the buffer behind the cells.
#[derive(Clone, Copy)]
pub(super) enum Cell {
    Null,
    Bool(bool),
    Integer(i64),
    Real(f64),
    Text { length: u32, start: u64 },
    Blob { length: u32, start: u64 },
}

impl Cell {
    pub(super) fn read(self, bytes: &[u8]) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Bool(value) => ValueRef::Bool(value),
            Self::Integer(value) => ValueRef::Integer(value),
            Self::Real(value) => ValueRef::Real(value),
            // The builder copied these bytes from a `str`, so there is nothing to lose; checking again costs less
            // than a line of `unsafe`.
            Self::Text { length, start } => {
                ValueRef::Text(std::str::from_utf8(slice(bytes, start, length)).unwrap_or_default())
            }
            Self::Blob { length, start } => ValueRef::Blob(slice(bytes, start, length)),
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the range was taken from a buffer in this address space")]
fn slice(bytes: &[u8], start: u64, length: u32) -> &[u8] {
    &bytes[start as usize..][..length as usize]
}

/// Builds [`Rows`]; for connectors.
///
/// Push the cells of a row from left to right, row after row.
#[derive(Debug)]
pub struct RowsBuilder {
    columns: Arc<[Arc<str>]>,
    cells: Vec<Cell>,
    bytes: Vec<u8>,
    changes: Changes,
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cell")
    }
}

impl RowsBuilder {
    /// Starts a result with these column names.
    pub fn new<N: Into<Arc<str>>>(columns: impl IntoIterator<Item = N>) -> Self {
        Self::with_header(columns.into_iter().map(Into::into).collect())
    }

    /// Starts a result with a header shared with other results.
    pub fn with_header(columns: Arc<[Arc<str>]>) -> Self {
        Self { columns, cells: Vec::new(), bytes: Vec::new(), changes: Changes::default() }
    }

    /// Appends one cell.
    ///
    /// # Panics
    /// When a text or blob is longer than 4 GiB, which no supported engine can produce.
    pub fn push(&mut self, value: ValueRef<'_>) {
        let cell = match value {
            ValueRef::Null => Cell::Null,
            ValueRef::Bool(value) => Cell::Bool(value),
            ValueRef::Integer(value) => Cell::Integer(value),
            ValueRef::Real(value) => Cell::Real(value),
            ValueRef::Text(text) => {
                let (length, start) = self.keep(text.as_bytes());
                Cell::Text { length, start }
            }
            ValueRef::Blob(blob) => {
                let (length, start) = self.keep(blob);
                Cell::Blob { length, start }
            }
        };
        self.cells.push(cell);
    }

    /// Appends a whole row.
    pub fn push_row<'v>(&mut self, row: impl IntoIterator<Item = &'v Value>) {
        row.into_iter().for_each(|value| self.push(value.as_ref()));
    }

    /// How many complete rows there are so far.
    pub fn len(&self) -> usize {
        self.cells.len().checked_div(self.columns.len()).unwrap_or(0)
    }

    /// Whether there is no complete row yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header, to be shared with further results of the same statement.
    pub fn header(&self) -> Arc<[Arc<str>]> {
        Arc::clone(&self.columns)
    }

    /// States what the statement changed.
    pub fn changes(&mut self, changes: Changes) -> &mut Self {
        self.changes = changes;
        self
    }

    /// Ends the result.
    ///
    /// # Panics
    /// When the last row is incomplete: a defect of the connector.
    pub fn finish(self) -> Rows {
        let rows = self.len();
        assert_eq!(rows * self.columns.len(), self.cells.len(), "the last row is incomplete");
        let Self { columns, cells, bytes, changes } = self;
        Rows(Arc::new(Data { columns, cells, bytes, rows, changes }))
    }

    fn keep(&mut self, bytes: &[u8]) -> (u32, u64) {
        let start = self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        (u32::try_from(bytes.len()).expect("no engine has values of 4 GiB"), start)
    }
}

impl Rows {
    /// A result without rows that says what was changed; for connectors.
    pub fn changed(changes: Changes) -> Self {
        let mut builder = RowsBuilder::with_header(Arc::from([]));
        builder.changes(changes);
        builder.finish()
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
