//! Statements: from the text to rows.
//!
//! [`calls`] is the contract that a database uses. [`words`] reads the text, [`sending`] prepares it, with [`cache`], and
//! sends it; [`collect`] gathers the rows, of [`types`] that the driver may not know. Many sets of one statement are sent ahead of their answers ([`bulk`]), or
//! travel as one COPY ([`copy`]). [`sizes`] asks the server how large it all is.

mod bulk;
mod cache;
mod calls;
mod collect;
mod copy;
mod sending;
mod sizes;
mod types;
mod words;

pub(crate) use cache::Cache;
pub(crate) use calls::Open;
pub use calls::PostgresBulk;
pub(crate) use copy::Copying;
pub(crate) use types::Types;
pub(crate) use words::{Traces, reads};
