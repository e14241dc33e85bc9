//! Rows as SQLite stands at them.

use std::sync::Arc;

use rusqlite::types::ValueRef as SqlRef;

use crate::error::{Error, ErrorKind, Reason, Result};
use crate::row::{RowRef, RowSink, RowsBuilder};
use crate::sqlcipher::errors::classify;
use crate::value::ValueRef;

/// Copies one row into the result.
pub(crate) fn push_row(builder: &mut RowsBuilder, row: &rusqlite::Row<'_>) -> Result<()> {
    for index in 0..row.as_ref().column_count() {
        builder.push(cell(row, index)?);
    }
    Ok(())
}

/// Shows one row to a sink; says whether it wants another.
pub(crate) fn show_row(sink: &mut dyn RowSink, columns: &[Arc<str>], row: &rusqlite::Row<'_>) -> Result<bool> {
    // Most rows are narrow, and need no memory for their cells.
    match columns.len() {
        0..=2 => show_in(&mut [ValueRef::Null; 2], sink, columns, row),
        3..=8 => show_in(&mut [ValueRef::Null; 8], sink, columns, row),
        wide => show_in(&mut vec![ValueRef::Null; wide], sink, columns, row),
    }
}

fn show_in<'r>(
    room: &mut [ValueRef<'r>],
    sink: &mut dyn RowSink,
    columns: &'r [Arc<str>],
    row: &'r rusqlite::Row<'_>,
) -> Result<bool> {
    let cells = &mut room[..columns.len()];
    for (index, place) in cells.iter_mut().enumerate() {
        *place = cell(row, index)?;
    }
    Ok(sink.take(RowRef::new(columns, cells)))
}

#[inline]
fn cell<'r>(row: &'r rusqlite::Row<'_>, index: usize) -> Result<ValueRef<'r>> {
    Ok(match row.get_ref(index).map_err(classify)? {
        SqlRef::Null => ValueRef::Null,
        SqlRef::Integer(value) => ValueRef::Integer(value),
        SqlRef::Real(value) => ValueRef::Real(value),
        SqlRef::Blob(value) => ValueRef::Blob(value),
        SqlRef::Text(text) => ValueRef::Text(std::str::from_utf8(text).map_err(|_| not_utf8(index))?),
    })
}

#[cold]
fn not_utf8(index: usize) -> Error {
    let message = format!("column number {index} holds text that is not UTF-8");
    Error::new(ErrorKind::Query, message).because(Reason::Type).hint("select cast(column as blob) to read its bytes")
}
