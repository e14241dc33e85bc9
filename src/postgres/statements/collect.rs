//! Rows from the driver to [`Rows`].

use std::sync::Arc;

use futures_util::StreamExt;
use tokio_postgres::types::Type;
use tokio_postgres::{Row, RowStream};

use super::types::Types;
use super::words::Shape;
use crate::error::{Error, Result};
use crate::postgres::values::push_row;
use crate::postgres::wire::{Fault, stranger};
use crate::row::{Changes, RowSink, Rows, RowsBuilder};

/// Names and types of the columns, shared by all results.
pub(crate) type ColumnHeader = (Arc<[Arc<str>]>, Arc<[Type]>);

/// Gathers rows under one header.
pub(crate) struct Collector {
    /// Known from preparing, or else from the first row.
    types: Option<Arc<[Type]>>,
    rows: RowsBuilder,
}

/// An answer that is through.
pub(crate) enum WireAnswer {
    Rows(Rows),
    /// The types of its columns have to be looked up first.
    UnreadRows(UnreadRows),
}

pub(crate) struct UnreadRows {
    collector: Collector,
    rows: Vec<Row>,
    affected: u64,
}

impl Collector {
    pub(crate) fn new(header: Option<&ColumnHeader>) -> Self {
        let (names, types) = header.cloned().unzip();
        Self { types, rows: RowsBuilder::with_header(names.unwrap_or_default()) }
    }

    /// Whether this is enough to be handed on; see [`RowsBuilder::is_chunk`].
    pub(crate) fn is_chunk(&self, rows: usize) -> bool {
        self.rows.is_chunk(rows)
    }

    pub(crate) fn push(&mut self, row: &Row, types: &Types) -> Result<()> {
        let types = self.types.get_or_insert_with(|| {
            self.rows = RowsBuilder::with_header(row.columns().iter().map(|column| column.name().into()).collect());
            types.of(row.columns()).into()
        });
        push_row(&mut self.rows, row, types)
    }

    /// Hands out what has been gathered and goes on empty.
    pub(crate) fn take(&mut self) -> Rows {
        let empty = RowsBuilder::with_header(self.rows.header());
        std::mem::replace(&mut self.rows, empty).finish()
    }

    /// Gathers everything, or shows each row to `sink` as it arrives, for as long as it wants them.
    ///
    /// A row that cannot be read ends nothing: the session is free once the answer is through, and only then it is known
    /// whether a statement that writes has taken effect. Nor can the catalog be asked before that.
    pub(crate) async fn all(
        mut self,
        stream: RowStream,
        shape: &Shape,
        types: &Types,
        sink: Option<&mut dyn RowSink>,
    ) -> Result<WireAnswer, Fault> {
        let mut stream = std::pin::pin!(stream);
        let (mut taker, mut unread) = (Taker::begin(sink), Vec::new());
        while let Some(row) = stream.next().await {
            let row = row?;
            let unknown = || row.columns().iter().filter_map(stranger).any(|number| !types.knows(number));
            if !unread.is_empty() || self.types.is_none() && unknown() {
                unread.push(row);
            } else {
                taker.take(&mut self, &row, types);
            }
        }
        let affected = if shape.counts_changes { stream.rows_affected().unwrap_or(0) } else { 0 };
        if !unread.is_empty() {
            return Ok(WireAnswer::UnreadRows(UnreadRows { collector: self, rows: unread, affected }));
        }
        Ok(WireAnswer::Rows(taker.end(self, shape, affected)?))
    }
}

impl UnreadRows {
    /// The numbers of the types to look up.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.rows.first().into_iter().flat_map(Row::columns).filter_map(stranger)
    }

    /// Reads it, now that its types are known.
    pub(crate) fn read(mut self, shape: &Shape, types: &Types, sink: Option<&mut dyn RowSink>) -> Result<Rows> {
        let mut taker = Taker::begin(sink);
        for row in &self.rows {
            taker.take(&mut self.collector, row, types);
        }
        taker.end(self.collector, shape, self.affected)
    }
}

/// Whoever wants the rows, as long as they can be read.
struct Taker<'s> {
    sink: Option<&'s mut dyn RowSink>,
    wanted: bool,
    failed: Option<Error>,
}

impl<'s> Taker<'s> {
    fn begin(mut sink: Option<&'s mut dyn RowSink>) -> Self {
        if let Some(sink) = &mut sink {
            sink.begin();
        }
        Self { sink, wanted: true, failed: None }
    }

    fn take(&mut self, collector: &mut Collector, row: &Row, types: &Types) {
        if !self.wanted {
            return;
        }
        if let Err(error) = collector.push(row, types) {
            (self.wanted, self.failed) = (false, Some(error));
        } else if let Some(sink) = &mut self.sink {
            self.wanted = collector.rows.show_to(*sink);
        }
    }

    fn end(self, mut collector: Collector, shape: &Shape, affected: u64) -> Result<Rows> {
        if let Some(error) = self.failed {
            return Err(if shape.reads { error } else { error.about_the_answer() });
        }
        collector.rows.changes(Changes::new(affected, None));
        Ok(collector.take())
    }
}
