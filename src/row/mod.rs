//! Results: rows of values under one header.
//!
//! Floor 0. A result is a few runs of memory, however many cells it has. Rows are views.

mod builder;
mod column_name;
mod decode;
mod deserialize;
mod mismatch;
mod offers;
mod sink;

use std::fmt;
use std::sync::Arc;

pub use builder::RowsBuilder;
pub(crate) use sink::{Decoding, Gathered, made};
pub use sink::{RowRef, RowSink};

use crate::error::{Error, ErrorKind, Reason, Result};
use crate::value::Cells;
use crate::value::{FromValue, ValueRef};

/// The rows that a statement produced. Cheap to clone.
///
/// ```
/// use strongroom::engine::RowsBuilder;
/// use strongroom::values::ValueRef;
///
/// let mut builder = RowsBuilder::new(["id", "name"]);
/// builder.push(ValueRef::Integer(1));
/// builder.push(ValueRef::Text("alice"));
/// let rows = builder.finish();
/// assert_eq!(rows.len(), 1);
/// for row in &rows {
///     assert_eq!(row.get::<i64>("id")?, 1);
///     assert_eq!(row.get::<String>(1)?, "alice");
/// }
/// # Ok::<(), strongroom::Error>(())
/// ```
#[derive(Clone)]
pub struct Rows(Arc<Data>);

/// One row: a view into the [`Rows`] it came from, which it keeps alive.
#[derive(Clone)]
pub struct Row {
    rows: Arc<Data>,
    index: usize,
}

/// The header and the cells that rows look into.
struct Data {
    columns: Arc<[Arc<str>]>,
    cells: Cells,
    rows: usize,
    changes: Changes,
}

/// What a statement changed, beside the rows it gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// How many rows were inserted, updated or deleted.
    pub rows_affected: u64,
    /// The identity of the last row that this statement itself inserted, where the engine tells it. In SQLite: its rowid;
    /// `None` when it only updated (`ON CONFLICT DO UPDATE`) or ignored, and for tables `WITHOUT ROWID`.
    pub last_insert_id: Option<i64>,
}

impl Changes {
    /// States what a statement changed; for connectors.
    pub fn new(rows_affected: u64, last_insert_id: Option<i64>) -> Self {
        Self { rows_affected, last_insert_id }
    }

    /// Adds what the next statement changed.
    pub(crate) fn add(&mut self, next: Self) {
        self.rows_affected += next.rows_affected;
        self.last_insert_id = next.last_insert_id.or(self.last_insert_id);
    }
}

impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.0.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names of the columns, in order; names may repeat.
    pub fn columns(&self) -> &[Arc<str>] {
        &self.0.columns
    }

    /// What the statement changed.
    pub fn changes(&self) -> Changes {
        self.0.changes
    }

    /// The row at `index`.
    pub fn row(&self, index: usize) -> Option<Row> {
        (index < self.len()).then(|| Row { rows: Arc::clone(&self.0), index })
    }

    /// Whether the same values stand under the same names; what the statements changed does not count.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.columns() == other.columns() && self.len() == other.len() && self.0.cells.same_as(&other.0.cells)
    }

    /// The first row.
    pub fn first(&self) -> Option<Row> {
        self.row(0)
    }

    /// Goes through the rows in order.
    pub fn iter(&self) -> RowsIter {
        self.clone().into_iter()
    }
}

/// Iterator over [`Rows`].
#[derive(Clone, Debug)]
pub struct RowsIter {
    rows: Rows,
    next: usize,
}

impl Iterator for RowsIter {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let row = self.rows.row(self.next)?;
        self.next += 1;
        Some(row)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.rows.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for RowsIter {}

impl IntoIterator for Rows {
    type Item = Row;
    type IntoIter = RowsIter;

    fn into_iter(self) -> RowsIter {
        RowsIter { rows: self, next: 0 }
    }
}

impl IntoIterator for &Rows {
    type Item = Row;
    type IntoIter = RowsIter;

    fn into_iter(self) -> RowsIter {
        self.iter()
    }
}

impl Row {
    /// Reads a column, by index from 0 or by name. Of several columns with one name the first is read.
    ///
    /// # Errors
    /// [`Reason::NoSuchColumn`], and [`Reason::Type`] when the value has another type or does not fit.
    pub fn get<T: FromValue>(&self, column: impl ColumnIndex) -> Result<T> {
        let index = column.find(self)?;
        self.view().read(index)
    }

    /// Looks at a column without copying its text or bytes.
    ///
    /// # Errors
    /// [`Reason::NoSuchColumn`].
    pub fn value(&self, column: impl ColumnIndex) -> Result<ValueRef<'_>> {
        Ok(self.cell(column.find(self)?))
    }

    /// How many columns there are.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names of the columns, in order; names may repeat.
    pub fn columns(&self) -> &[Arc<str>] {
        &self.rows.columns
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, ValueRef<'_>)> {
        self.rows.columns.iter().enumerate().map(|(index, name)| (&**name, self.cell(index)))
    }

    fn cell(&self, index: usize) -> ValueRef<'_> {
        self.view().cell(index)
    }

    fn view(&self) -> View<'_> {
        self.rows.view(self.index)
    }
}

impl Data {
    fn view(&self, index: usize) -> View<'_> {
        View {
            columns: &self.columns,
            cells: CellsOf::Gathered { cells: &self.cells, first: index * self.columns.len() },
        }
    }
}

/// A row that somebody else keeps alive. Columns have been checked against the header.
#[derive(Clone, Copy)]
struct View<'a> {
    columns: &'a [Arc<str>],
    cells: CellsOf<'a>,
}

/// Where the cells of a row are.
#[derive(Clone, Copy)]
enum CellsOf<'a> {
    /// Among those of a result, from this one on.
    Gathered { cells: &'a Cells, first: usize },
    /// With the engine, which stands at the row.
    Shown(&'a [ValueRef<'a>]),
}

impl<'a> View<'a> {
    fn len(self) -> usize {
        self.columns.len()
    }

    fn name(self, column: usize) -> &'a str {
        &self.columns[column]
    }

    fn cell(self, column: usize) -> ValueRef<'a> {
        match self.cells {
            CellsOf::Gathered { cells, first } => cells.get(first + column),
            CellsOf::Shown(cells) => cells[column],
        }
    }

    fn read<T: FromValue>(self, column: usize) -> Result<T> {
        T::from_value(self.cell(column)).map_err(|error| error.context(format_args!("column {}", self.name(column))))
    }
}

/// How a column is named: an index from 0, or its name.
pub trait ColumnIndex {
    /// Finds the index in the row's header.
    ///
    /// # Errors
    /// [`Reason::NoSuchColumn`].
    fn find(&self, row: &Row) -> Result<usize>;
}

impl ColumnIndex for usize {
    fn find(&self, row: &Row) -> Result<usize> {
        if *self < row.len() { Ok(*self) } else { Err(no_such_column(row.columns(), format_args!("number {self}"))) }
    }
}

impl ColumnIndex for &str {
    fn find(&self, row: &Row) -> Result<usize> {
        let found = row.columns().iter().position(|name| **name == **self);
        found.ok_or_else(|| no_such_column(row.columns(), format_args!("{self}")))
    }
}

impl ColumnIndex for String {
    fn find(&self, row: &Row) -> Result<usize> {
        ColumnIndex::find(&self.as_str(), row)
    }
}

impl ColumnIndex for &String {
    fn find(&self, row: &Row) -> Result<usize> {
        ColumnIndex::find(&self.as_str(), row)
    }
}

#[cold]
fn no_such_column(columns: &[Arc<str>], wanted: fmt::Arguments<'_>) -> Error {
    let message = format!("the row has no column {wanted}");
    let hint = match columns.len() {
        0 => "it has no columns".to_owned(),
        count => format!("it has {count}: {}", columns.join(", ")),
    };
    Error::new(ErrorKind::Query, message).because(Reason::NoSuchColumn).hint(hint)
}

/// Rows hold the data of users, so only their shape is shown.
impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("columns", &self.columns())
            .field("rows", &self.len())
            .field("changes", &self.changes())
            .finish()
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("columns", &self.columns()).finish_non_exhaustive()
    }
}
