//! Rows as they come from a running statement, and what callers make of them there.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::decode::Decoder;
use super::{CellsOf, Rows, View, no_such_column};
use crate::error::{Error, ErrorKind, Result};
use crate::value::{FromValue, ValueRef};

/// One row of a running statement, borrowed from the engine.
#[derive(Clone, Copy)]
pub struct RowRef<'a>(pub(super) View<'a>);

impl<'a> RowRef<'a> {
    /// A row under these names; for connectors.
    ///
    /// # Panics
    /// When there is not one cell for each column: a defect of the connector.
    pub fn new(columns: &'a [Arc<str>], cells: &'a [ValueRef<'a>]) -> Self {
        assert_eq!(columns.len(), cells.len(), "the row is incomplete");
        Self(View { columns, cells: CellsOf::Shown(cells) })
    }

    /// The names of the columns, in order; names may repeat.
    pub fn columns(self) -> &'a [Arc<str>] {
        self.0.columns
    }

    /// The values, in order.
    pub fn values(self) -> impl ExactSizeIterator<Item = ValueRef<'a>> {
        (0..self.0.len()).map(move |column| self.0.cell(column))
    }
}

/// The row holds the data of users, so only its shape is shown.
impl fmt::Debug for RowRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowRef").field("columns", &self.0.columns).finish_non_exhaustive()
    }
}

/// What a caller makes of the rows of a statement while it runs; see
/// [`Connection::run_into`](crate::Connection::run_into).
pub trait RowSink: Any + Send {
    /// The statement begins, perhaps anew: what was made of earlier rows is forgotten.
    fn begin(&mut self);

    /// Takes the next row; false: no more are wanted, and none may be shown before the next
    /// [`begin`](RowSink::begin). Never panics for what the caller's own code does with the row.
    fn take(&mut self, row: RowRef<'_>) -> bool;

    /// How many rows it has made something of since [`begin`](RowSink::begin), for those who observe the call.
    fn taken(&self) -> usize {
        0
    }
}

/// The sink that wants nothing: it stands where another one was taken from.
impl RowSink for () {
    fn begin(&mut self) {}

    fn take(&mut self, _: RowRef<'_>) -> bool {
        false
    }
}

impl Rows {
    /// Shows every row to `sink`, as long as it wants them.
    pub(crate) fn show_to(&self, sink: &mut dyn RowSink) {
        sink.begin();
        for index in 0..self.len() {
            if !sink.take(RowRef(self.0.view(index))) {
                break;
            }
        }
    }
}

/// Where decoded rows go: all of them, or the first.
pub(crate) trait Gathered: Default + Send + 'static {
    type Item;

    /// Adds one; says whether another is wanted.
    fn add(&mut self, item: Self::Item) -> bool;

    fn count(&self) -> usize;
}

impl<T: Send + 'static> Gathered for Vec<T> {
    type Item = T;

    fn add(&mut self, item: T) -> bool {
        self.push(item);
        true
    }

    fn count(&self) -> usize {
        self.len()
    }
}

impl<T: Send + 'static> Gathered for Option<T> {
    type Item = T;

    fn add(&mut self, item: T) -> bool {
        *self = Some(item);
        false
    }

    fn count(&self) -> usize {
        usize::from(self.is_some())
    }
}

/// Decodes rows with the caller's types. What goes wrong there is the caller's: the engine sees only that no more rows
/// are wanted.
pub(crate) struct Decoding<G: Gathered> {
    read: fn(&mut Decoder, View<'_>) -> Result<G::Item>,
    decoder: Decoder,
    gathered: G,
    failed: Option<Spoilt>,
}

enum Spoilt {
    Error(Error),
    Panic(Box<dyn Any + Send>),
}

impl<G: Gathered> Decoding<G> {
    fn by(read: fn(&mut Decoder, View<'_>) -> Result<G::Item>) -> Box<dyn RowSink> {
        Box::new(Self { read, decoder: Decoder::default(), gathered: G::default(), failed: None })
    }

    /// Decodes each row whole.
    pub(crate) fn rows() -> Box<dyn RowSink>
    where
        G::Item: DeserializeOwned,
    {
        Self::by(Decoder::decode)
    }

    /// Reads the first column of each row.
    pub(crate) fn values() -> Box<dyn RowSink>
    where
        G::Item: FromValue,
    {
        Self::by(|_, row| match row.len() {
            0 => Err(no_such_column(row.columns, format_args!("number 0"))),
            _ => row.read(0),
        })
    }
}

impl<G: Gathered> RowSink for Decoding<G> {
    fn begin(&mut self) {
        (self.decoder, self.failed) = (Decoder::default(), None);
        let forgotten = std::mem::take(&mut self.gathered);
        // The caller's code too.
        drop(catch_unwind(AssertUnwindSafe(|| drop(forgotten))));
    }

    fn take(&mut self, RowRef(row): RowRef<'_>) -> bool {
        // After a panic nothing reads from the decoder before it is replaced.
        let item = catch_unwind(AssertUnwindSafe(|| (self.read)(&mut self.decoder, row)));
        let failed = match item {
            Ok(Ok(item)) => return self.gathered.add(item),
            Ok(Err(error)) => Spoilt::Error(error),
            Err(panic) => Spoilt::Panic(panic),
        };
        self.failed = Some(failed);
        false
    }

    fn taken(&self) -> usize {
        self.gathered.count()
    }
}

/// What was made of the rows. A panic of the caller's code goes on here, with the caller.
///
/// # Errors
/// The first row that did not fit.
pub(crate) fn made<G: Gathered>(sink: Box<dyn RowSink>) -> Result<G> {
    let sink: Box<dyn Any> = sink;
    let Ok(decoding) = sink.downcast::<Decoding<G>>() else {
        return Err(Error::new(ErrorKind::Query, "the engine did not give back what was made of the rows"));
    };
    match decoding.failed {
        None => Ok(decoding.gathered),
        Some(Spoilt::Error(error)) => Err(error),
        Some(Spoilt::Panic(panic)) => resume_unwind(panic),
    }
}
