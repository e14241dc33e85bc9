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
    /// Most rows are no wider, and need no memory for their cells.
    const FEW: usize = 12;

    let (mut few, mut many) = ([ValueRef::Null; FEW], Vec::new());
    let cells = if columns.len() <= FEW {
        &mut few[..columns.len()]
    } else {
        many.resize(columns.len(), ValueRef::Null);
        &mut many[..]
    };
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
