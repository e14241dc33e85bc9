//! Rows from the driver to [`Rows`].

use std::sync::Arc;

use futures_util::StreamExt;
use tokio_postgres::{Row, RowStream};

use super::words::Shape;
use crate::error::Result;
use crate::postgres::values::push_row;
use crate::postgres::wire::Fault;
use crate::row::{Changes, RowSink, Rows, RowsBuilder};

/// Gathers rows under one header.
pub(crate) struct Collector {
    /// Known from preparing, or else from the first row.
    header: Option<Arc<[Arc<str>]>>,
    rows: RowsBuilder,
}

impl Collector {
    pub(crate) fn new(header: Option<Arc<[Arc<str>]>>) -> Self {
        let rows = RowsBuilder::with_header(header.clone().unwrap_or_default());
        Self { header, rows }
    }

    /// Whether this is enough to be handed on; see [`RowsBuilder::is_chunk`].
    pub(crate) fn is_chunk(&self, rows: usize) -> bool {
        self.rows.is_chunk(rows)
    }

    pub(crate) fn push(&mut self, row: &Row) -> Result<()> {
        if self.header.is_none() {
            let header: Arc<[Arc<str>]> = row.columns().iter().map(|column| column.name().into()).collect();
            self.rows = RowsBuilder::with_header(Arc::clone(&header));
            self.header = Some(header);
        }
        push_row(&mut self.rows, row)
    }

    /// Hands out what has been gathered and goes on empty.
    pub(crate) fn take(&mut self) -> Rows {
        let empty = RowsBuilder::with_header(self.rows.header());
        std::mem::replace(&mut self.rows, empty).finish()
    }

    /// Gathers everything, or shows each row to `sink` as it arrives, for as long as it wants them.
    ///
    /// A row that cannot be read ends nothing: the session is free once the answer is through, and only then it is known
    /// whether a statement that writes has taken effect.
    pub(crate) async fn all(
        mut self,
        stream: RowStream,
        shape: &Shape,
        mut sink: Option<&mut dyn RowSink>,
    ) -> Result<Rows, Fault> {
        let mut stream = std::pin::pin!(stream);
        if let Some(sink) = &mut sink {
            sink.begin();
        }
        let (mut wanted, mut unread) = (true, None);
        while let Some(row) = stream.next().await {
            let row = row?;
            if !wanted {
                continue;
            }
            if let Err(error) = self.push(&row) {
                (wanted, unread) = (false, Some(error));
                continue;
            }
            if let Some(sink) = &mut sink {
                wanted = self.rows.show_to(*sink);
            }
        }
        if let Some(error) = unread {
            return Err(Fault::Own(if shape.reads { error } else { error.about_the_answer() }));
        }
        let affected = if shape.counts_changes { stream.rows_affected().unwrap_or(0) } else { 0 };
        self.rows.changes(Changes::new(affected, None));
        Ok(self.take())
    }
}
