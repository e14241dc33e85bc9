//! Rows from the driver to [`Rows`].

use std::sync::Arc;

use futures_util::StreamExt;
use tokio_postgres::{Row, RowStream};

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

    /// Gathers everything, or shows each row to `sink` as it arrives, for as long as it wants them; `counts` if the number
    /// the server reports is one of changes.
    pub(crate) async fn all(
        mut self,
        stream: RowStream,
        counts: bool,
        mut sink: Option<&mut dyn RowSink>,
    ) -> Result<Rows, Fault> {
        let mut stream = std::pin::pin!(stream);
        if let Some(sink) = &mut sink {
            sink.begin();
        }
        let mut wanted = true;
        while let Some(row) = stream.next().await {
            let row = row?;
            if !wanted {
                continue;
            }
            self.push(&row)?;
            if let Some(sink) = &mut sink {
                wanted = self.rows.show_to(*sink);
            }
        }
        let affected = if counts { stream.rows_affected().unwrap_or(0) } else { 0 };
        self.rows.changes(Changes::new(affected, None));
        Ok(self.take())
    }
}
