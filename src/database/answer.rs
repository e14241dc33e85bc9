//! The calls that every handle has, written once, and what they give.
//!
//! A handle offers `reading` and `writing`, which run one statement each; everything else is what callers want to see of
//! the result.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::Result;
use crate::row::Rows;

/// Writes the one-liners for a handle whose methods take `$self: $receiver`.
macro_rules! one_liners {
    ($self:ident: $receiver:ty) => {
        /// Runs a statement and says what it changed. A text without a statement (empty, or only comments) has no effect.
        ///
        /// # Errors
        /// As classified by the engine; a failed statement has changed nothing, also where SQL would let it stop half-way
        /// (`OR FAIL`).
        ///
        /// # Cancel safety
        /// Dropping the future stops the statement. Whether it took effect before is then not known; inside a
        /// transaction it dooms the transaction, and nothing of it takes effect.
        #[track_caller]
        pub fn execute(
            $self: $receiver,
            sql: &str,
            params: impl $crate::params::IntoParams,
        ) -> $crate::database::Answer<'_, $crate::row::Changes> {
            let running = $self.writing($crate::connector::Statement::new(sql, params));
            $crate::database::Answer::new(running, |rows| Ok(rows.changes()))
        }

        /// Fetches the first row, if there is one. A statement that reads is stopped there; one that writes runs to its
        /// end.
        ///
        /// # Errors
        /// As classified by the engine.
        ///
        /// # Cancel safety
        /// As [`execute`](Self::execute); a statement that only reads leaves nothing behind.
        #[track_caller]
        pub fn fetch_one(
            $self: $receiver,
            sql: &str,
            params: impl $crate::params::IntoParams,
        ) -> $crate::database::Answer<'_, Option<$crate::row::Row>> {
            let running =
                $self.reading($crate::connector::Statement::new(sql, params).map($crate::connector::Statement::first));
            $crate::database::Answer::new(running, |rows| Ok(rows.first()))
        }

        /// Fetches all rows.
        ///
        /// # Errors
        /// As classified by the engine.
        ///
        /// # Cancel safety
        /// As [`execute`](Self::execute); a statement that only reads leaves nothing behind.
        #[track_caller]
        pub fn fetch_all(
            $self: $receiver,
            sql: &str,
            params: impl $crate::params::IntoParams,
        ) -> $crate::database::Answer<'_, $crate::row::Rows> {
            $crate::database::Answer::new($self.reading($crate::connector::Statement::new(sql, params)), Ok)
        }

        /// Fetches the first column of the first row; `None` when there is no row. A NULL is an error unless `T` is an
        /// `Option`. Stops as [`fetch_one`](Self::fetch_one) does.
        ///
        /// # Errors
        /// As classified by the engine; [`Reason::Type`](crate::Reason::Type) when the value does not fit.
        ///
        /// # Cancel safety
        /// As [`execute`](Self::execute); a statement that only reads leaves nothing behind.
        #[track_caller]
        pub fn fetch_value<T: $crate::value::FromValue>(
            $self: $receiver,
            sql: &str,
            params: impl $crate::params::IntoParams,
        ) -> $crate::database::Answer<'_, Option<T>> {
            let running =
                $self.reading($crate::connector::Statement::new(sql, params).map($crate::connector::Statement::first));
            $crate::database::Answer::new(running, |rows| rows.first().map(|row| row.get(0)).transpose())
        }

        /// Fetches the first row into a struct (by column names), a tuple or a scalar. Stops as
        /// [`fetch_one`](Self::fetch_one) does.
        ///
        /// # Errors
        /// As classified by the engine; [`Reason::Type`](crate::Reason::Type) when the row does not fit.
        ///
        /// # Cancel safety
        /// As [`execute`](Self::execute); a statement that only reads leaves nothing behind.
        #[track_caller]
        pub fn fetch_one_as<T: serde::de::DeserializeOwned>(
            $self: $receiver,
            sql: &str,
            params: impl $crate::params::IntoParams,
        ) -> $crate::database::Answer<'_, Option<T>> {
            let running =
                $self.reading($crate::connector::Statement::new(sql, params).map($crate::connector::Statement::first));
            $crate::database::Answer::new(running, |rows| rows.first().map(|row| row.decode()).transpose())
        }

        /// Fetches all rows into structs (by column names), tuples or scalars.
        ///
        /// # Errors
        /// As classified by the engine; [`Reason::Type`](crate::Reason::Type) when a row does not fit.
        ///
        /// # Cancel safety
        /// As [`execute`](Self::execute); a statement that only reads leaves nothing behind.
        #[track_caller]
        pub fn fetch_all_as<T: serde::de::DeserializeOwned>(
            $self: $receiver,
            sql: &str,
            params: impl $crate::params::IntoParams,
        ) -> $crate::database::Answer<'_, Vec<T>> {
            let running = $self.reading($crate::connector::Statement::new(sql, params));
            $crate::database::Answer::new(running, |rows| rows.decode())
        }
    };
}

/// A statement under way, whatever handle runs it.
pub(super) type RowsFuture<'a> = Pin<Box<dyn Future<Output = Result<Rows>> + Send + 'a>>;

/// The answer to one statement, as a future: what `execute`, `fetch_all` and their like give.
///
/// It has a name, two words of size, and no trace of the parameters' type, so that it is cheap to move, and a parameter
/// that cannot be bound is one error of the compiler.
///
/// # Cancel safety
/// As the call says that gave it.
#[must_use = "futures do nothing unless polled"]
pub struct Answer<'a, T> {
    running: RowsFuture<'a>,
    read: fn(Rows) -> Result<T>,
}

impl<'a, T> Answer<'a, T> {
    pub(super) fn new(running: RowsFuture<'a>, read: fn(Rows) -> Result<T>) -> Self {
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
