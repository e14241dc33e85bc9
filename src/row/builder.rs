//! Filling a result, cell by cell.

use std::sync::Arc;

use super::{CellsOf, Changes, Data, RowRef, RowSink, Rows, View};
use crate::value::Cells;
use crate::value::{Value, ValueRef};

/// How much memory a chunk of a stream takes, but for one row more: several of them are under way at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Builds [`Rows`]; for connectors.
///
/// Push the cells of a row from left to right, row after row.
#[derive(Debug)]
pub struct RowsBuilder {
    columns: Arc<[Arc<str>]>,
    cells: Cells,
    changes: Changes,
}

impl RowsBuilder {
    /// Starts a result with these column names.
    pub fn new<N: Into<Arc<str>>>(columns: impl IntoIterator<Item = N>) -> Self {
        Self::with_header(columns.into_iter().map(Into::into).collect())
    }

    /// Starts a result with a header shared with other results.
    pub fn with_header(columns: Arc<[Arc<str>]>) -> Self {
        Self { columns, cells: Cells::default(), changes: Changes::default() }
    }

    /// Appends one cell.
    ///
    /// # Panics
    /// When a text or blob is longer than 4 GiB, which no supported engine can produce.
    pub fn push(&mut self, value: ValueRef<'_>) {
        self.cells.push(value);
    }

    /// Appends a whole row.
    pub fn push_row<'v>(&mut self, row: impl IntoIterator<Item = &'v Value>) {
        row.into_iter().for_each(|value| self.push(value.as_ref()));
    }

    /// Shows the rows so far to `sink` and forgets them; says whether it wants more. For connectors whose driver hands
    /// out rows that do not last: push one, show it, go on.
    ///
    /// ```
    /// use strongroom::engine::{RowRef, RowSink, RowsBuilder};
    /// use strongroom::values::ValueRef;
    ///
    /// struct Count(usize);
    ///
    /// impl RowSink for Count {
    ///     fn begin(&mut self) {
    ///         self.0 = 0;
    ///     }
    ///     fn take(&mut self, _: RowRef<'_>) -> bool {
    ///         self.0 += 1;
    ///         self.0 < 2
    ///     }
    /// }
    ///
    /// let (mut builder, mut sink) = (RowsBuilder::new(["id"]), Count(0));
    /// builder.push(ValueRef::Integer(1));
    /// assert!(builder.show_to(&mut sink));
    /// builder.push(ValueRef::Integer(2));
    /// assert!(!builder.show_to(&mut sink));
    /// assert!(builder.is_empty());
    /// ```
    pub fn show_to(&mut self, sink: &mut dyn RowSink) -> bool {
        let (rows, Self { columns, cells, .. }) = (self.len(), self);
        let row = |index| View { columns, cells: CellsOf::Gathered { cells, first: index * columns.len() } };
        let wanted = (0..rows).all(|index| sink.take(RowRef(row(index))));
        cells.clear();
        wanted
    }

    /// How many complete rows there are so far.
    pub fn len(&self) -> usize {
        self.cells.len().checked_div(self.columns.len()).unwrap_or(0)
    }

    /// Whether there is no complete row yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the rows so far are enough to be handed on, where `rows` are asked for at a time: fewer, where they are wide.
    pub(crate) fn is_chunk(&self, rows: usize) -> bool {
        self.len() >= rows || self.cells.bytes() >= CHUNK_BYTES && !self.is_empty()
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
        let Self { columns, cells, changes } = self;
        Rows(Arc::new(Data { columns, cells, rows, changes }))
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
