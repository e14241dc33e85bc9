//! The future of a call that runs one statement.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::Result;
use crate::row::Rows;

/// A statement under way, whatever handle runs it.
pub(super) type Running<'a> = Pin<Box<dyn Future<Output = Result<Rows>> + Send + 'a>>;

/// The answer to one statement, as a future: what `execute`, `fetch_all` and their like give.
///
/// It has a name, two words of size, and no trace of the parameters' type, so that it is cheap to move, and a parameter
/// that cannot be bound is one error of the compiler.
///
/// # Cancel safety
/// As the call says that gave it.
#[must_use = "futures do nothing unless polled"]
pub struct Answer<'a, T> {
    running: Running<'a>,
    read: fn(Rows) -> Result<T>,
}

impl<'a, T> Answer<'a, T> {
    pub(super) fn new(running: Running<'a>, read: fn(Rows) -> Result<T>) -> Self {
        Self { running, read }
    }
}

impl<T> Future for Answer<'_, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let read = self.read;
        self.running.as_mut().poll(context).map(|rows| rows.and_then(read))
    }
}

impl<T> fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}
