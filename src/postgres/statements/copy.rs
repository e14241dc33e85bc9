//! Sets of parameters as rows of a COPY.

use std::iter::Peekable;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, CopyInSink, Statement};

use super::cache::{CopyPlan, Prepared};
use crate::error::Result;
use crate::params::{Arranged, ArrangedSets};
use crate::postgres::values::base;
use crate::postgres::values::{put_eight, put_sized};
use crate::postgres::wire::Fault;
use crate::value::ValueRef;

/// Rows are sent in pieces of about this size: the server works on one while the next is made.
const PIECE: usize = 16 * 1024;

/// A COPY that is open; the server gives it up when this is dropped.
pub(crate) struct Copying {
    /// What it stands for.
    pub(crate) prepared: Arc<Prepared>,
    /// How many bytes of rows it has been given.
    pub(crate) sent: usize,
    form: CopyForm,
    sink: Pin<Box<CopyInSink<Bytes>>>,
    /// What those before it have inserted.
    counted: u64,
}

/// Adds all sets to the COPY that is open, or to a new one, which stays open.
///
/// In binary form they are half the work for both sides, but no type is looked at on the way; and what only the server
/// can read has no such form. From the first set that holds such a value on, they go as text, in another COPY.
pub(crate) async fn copy_in(
    client: &Client,
    plan: &CopyPlan,
    mut binary: Option<Statement>,
    prepared: &Arc<Prepared>,
    sets: &ArrangedSets<'_>,
    mut open: Option<Copying>,
) -> Result<Option<Copying>, Fault> {
    let types: Vec<&Type> = prepared.types.iter().map(base).collect();
    let mut sets = sets.iter().peekable();
    while let Some(first) = sets.peek() {
        let copying = if let Some(copying) = &mut open {
            copying
        } else {
            if !CopyForm::Binary.put_row(&types, prepared, first, &mut Vec::new())? {
                binary = None;
            }
            open.insert(Copying::begin(client, plan, binary.as_ref(), prepared).await?)
        };
        copying.send(&types, &mut sets).await?;
        if sets.peek().is_some()
            && let Some(ended) = open.take()
        {
            let counted = ended.finish().await?;
            open.insert(Copying::begin(client, plan, None, prepared).await?).counted = counted;
        }
    }
    Ok(open)
}

impl Copying {
    async fn begin(
        client: &Client,
        plan: &CopyPlan,
        binary: Option<&Statement>,
        prepared: &Arc<Prepared>,
    ) -> Result<Self, Fault> {
        let (form, sink) = match binary {
            Some(copy) => (CopyForm::Binary, client.copy_in(copy).await?),
            None => (CopyForm::Text, client.copy_in(&*plan.copy).await?),
        };
        Ok(Self { prepared: Arc::clone(prepared), sent: 0, form, sink: Box::pin(sink), counted: 0 })
    }

    /// Sends the sets that have its form, up to the first that has not.
    async fn send<'s>(
        &mut self,
        types: &[&Type],
        sets: &mut Peekable<impl Iterator<Item = Arranged<'s>>>,
    ) -> Result<(), Fault> {
        let empty = || Vec::with_capacity(2 * PIECE);
        let mut piece = empty();
        if self.sent == 0 && self.form == CopyForm::Binary {
            piece.extend_from_slice(BINARY_HEADER);
        }
        while let Some(set) = sets.peek() {
            if !self.form.put_row(types, &self.prepared, set, &mut piece)? {
                break;
            }
            sets.next();
            if piece.len() >= PIECE {
                self.sent += piece.len();
                self.sink.send(std::mem::replace(&mut piece, empty()).into()).await?;
            }
        }
        self.sent += piece.len();
        Ok(self.sink.send(piece.into()).await?)
    }

    /// Ends it, and says how many rows were inserted.
    pub(crate) async fn finish(mut self) -> Result<u64, Fault> {
        if self.form == CopyForm::Binary {
            self.sink.send(Bytes::from_static(BINARY_TRAILER)).await?;
        }
        Ok(self.counted + self.sink.as_mut().finish().await?)
    }
}

/// Signature, no flags, no extension.
const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

const BINARY_TRAILER: &[u8] = b"\xff\xff";

#[derive(Clone, Copy, PartialEq)]
enum CopyForm {
    Binary,
    Text,
}

impl CopyForm {
    /// Appends a row; `false`, and nothing appended, if a value of it does not have this form. None of the types is a
    /// domain.
    fn put_row(self, types: &[&Type], prepared: &Prepared, set: &Arranged<'_>, piece: &mut Vec<u8>) -> Result<bool> {
        match self {
            Self::Binary => {
                let start = piece.len();
                let whole = put_binary(types, prepared, set, piece)?;
                if !whole {
                    piece.truncate(start);
                }
                Ok(whole)
            }
            Self::Text => put_text(types, prepared, set, piece).map(|()| true),
        }
    }
}

fn put_binary(types: &[&Type], prepared: &Prepared, set: &Arranged<'_>, piece: &mut Vec<u8>) -> Result<bool> {
    piece.extend_from_slice(&u16::try_from(types.len()).unwrap_or(u16::MAX).to_be_bytes());
    for (index, ty) in types.iter().enumerate() {
        // The first three are what most values are, and go the short way.
        match (set.get(index), *ty) {
            (ValueRef::Integer(integer), &Type::INT8) => put_eight(piece, integer.to_be_bytes()),
            (ValueRef::Real(real), &Type::FLOAT8) => put_eight(piece, real.to_be_bytes()),
            (ValueRef::Text(text), &Type::TEXT) => put_sized(piece, text.as_bytes()),
            (value, ty) => {
                if !prepared.fit(value, ty, index + 1)?.write_binary(piece) {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

fn put_text(types: &[&Type], prepared: &Prepared, set: &Arranged<'_>, piece: &mut Vec<u8>) -> Result<()> {
    for (index, ty) in types.iter().enumerate() {
        if index > 0 {
            piece.push(b'\t');
        }
        prepared.fit(set.get(index), ty, index + 1)?.write_text(piece);
    }
    piece.push(b'\n');
    Ok(())
}
