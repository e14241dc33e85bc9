//! The calls that every handle has, written once, and what they give.
//!
//! A handle offers `reading` and `writing`, which run one statement each; everything else is what callers want to see of
//! the result.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::observed::{Observing, drive};
use crate::error::Result;

/// Writes the one-liners for a handle whose methods take `$self: $receiver`.
macro_rules! one_liners {
    ($self:ident: $receiver:ty) => {
        /// Runs a statement and says what it changed. A text without a statement (empty, or only comments) has no effect.
        ///
        /// # Errors
        /// As classified by the engine; a failed statement has changed nothing, also where SQL would let it stop half-way
        /// (`OR FAIL`). Only if it was done, and rows that it answered (`RETURNING`) cannot be read, is that an error of
        /// [`Phase::Answer`](crate::engine::Phase::Answer), and what it changed stands, unless a transaction is open, which is
        /// doomed by it. What a statement of PostgreSQL committed in its middle, such as a `CALL`, stands too.
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
            let statement = $crate::connector::Statement::new(sql, params);
            let location = std::panic::Location::caller();
            let observing = $self.observing($crate::observer::CallKind::Execute, &statement, location);
            $crate::database::Answer::observed(observing, async move {
                let statement = statement?;
                let rows = $self.writing(statement, location).await?;
                Ok(rows.changes())
            })
        }

        /// Fetches the first row, if there is one. A statement that reads is stopped there; one that writes runs to its
        /// end.
        ///
        /// # Errors
        /// As [`execute`](Self::execute).
        ///
        /// # Cancel safety
        /// As [`execute`](Self::execute); a statement that only reads leaves nothing behind.
        #[track_caller]
        pub fn fetch_one(
            $self: $receiver,
            sql: &str,
            params: impl $crate::params::IntoParams,
        ) -> $crate::database::Answer<'_, Option<$crate::row::Row>> {
            let statement = $crate::connector::Statement::new(sql, params).map($crate::connector::Statement::first);
            let location = std::panic::Location::caller();
            let observing = $self.observing($crate::observer::CallKind::Fetch, &statement, location);
            $crate::database::Answer::observed(observing, async move {
                let statement = statement?;
                let rows = $self.reading(statement, location, &mut $crate::database::route::Collected).await?;
                Ok(rows.first())
            })
        }

        /// Fetches all rows.
        ///
        /// # Errors
        /// As [`execute`](Self::execute).
        ///
        /// # Cancel safety
        /// As [`execute`](Self::execute); a statement that only reads leaves nothing behind.
        #[track_caller]
        pub fn fetch_all(
            $self: $receiver,
            sql: &str,
            params: impl $crate::params::IntoParams,
        ) -> $crate::database::Answer<'_, $crate::row::Rows> {
            let statement = $crate::connector::Statement::new(sql, params);
            let location = std::panic::Location::caller();
            let observing = $self.observing($crate::observer::CallKind::Fetch, &statement, location);
            $crate::database::Answer::observed(observing, async move {
                let statement = statement?;
                $self.reading(statement, location, &mut $crate::database::route::Collected).await
            })
        }

        /// Fetches the first column of the first row; `None` when there is no row. A NULL is an error unless `T` is an
        /// `Option`. Stops as [`fetch_one`](Self::fetch_one) does.
        ///
        /// # Errors
        /// As classified by the engine; [`Reason::Type`](crate::Reason::Type) when the value does not fit.
        /// What a statement has written stands then, as with [`execute`](Self::execute).
        ///
        /// # Cancel safety
        /// As [`execute`](Self::execute); a statement that only reads leaves nothing behind.
        #[track_caller]
        pub fn fetch_value<T: $crate::value::FromValue + Send + 'static>(
            $self: $receiver,
            sql: &str,
            params: impl $crate::params::IntoParams,
        ) -> $crate::database::Answer<'_, Option<T>> {
            let statement = $crate::connector::Statement::new(sql, params).map($crate::connector::Statement::first);
            let location = std::panic::Location::caller();
            let observing = $self.observing($crate::observer::CallKind::Fetch, &statement, location);
            $crate::database::Answer::observed(observing, async move {
                let statement = statement?;
                let mut sink = $crate::database::route::Shown::to($crate::row::Decoding::<Option<T>>::values());
                $self.reading(statement, location, &mut sink).await?;
                sink.made()
            })
        }

        /// Fetches the first row into a struct (by column names), a tuple or a scalar. Stops as
        /// [`fetch_one`](Self::fetch_one) does.
        ///
        /// # Errors
        /// As classified by the engine; [`Reason::Type`](crate::Reason::Type) when the row does not fit.
        /// What a statement has written stands then, as with [`execute`](Self::execute).
        ///
        /// # Cancel safety
        /// As [`execute`](Self::execute); a statement that only reads leaves nothing behind.
        #[track_caller]
        pub fn fetch_one_as<T: for<'de> serde::Deserialize<'de> + Send + 'static>(
            $self: $receiver,
            sql: &str,
            params: impl $crate::params::IntoParams,
        ) -> $crate::database::Answer<'_, Option<T>> {
            let statement = $crate::connector::Statement::new(sql, params).map($crate::connector::Statement::first);
            let location = std::panic::Location::caller();
            let observing = $self.observing($crate::observer::CallKind::Fetch, &statement, location);
            $crate::database::Answer::observed(observing, async move {
                let statement = statement?;
                let mut sink = $crate::database::route::Shown::to($crate::row::Decoding::<Option<T>>::rows());
                $self.reading(statement, location, &mut sink).await?;
                sink.made()
            })
        }

        /// Fetches all rows into structs (by column names), tuples or scalars. They are decoded while the statement runs,
        /// perhaps on another thread; [`Rows::decode`](crate::Rows::decode) does it afterwards, and also for types that
        /// cannot be sent. A panic of the type's own code comes out of this call.
        ///
        /// # Errors
        /// As classified by the engine; [`Reason::Type`](crate::Reason::Type) when a row does not fit.
        /// What a statement has written stands then, as with [`execute`](Self::execute).
        ///
        /// # Cancel safety
        /// As [`execute`](Self::execute); a statement that only reads leaves nothing behind.
        #[track_caller]
        pub fn fetch_all_as<T: for<'de> serde::Deserialize<'de> + Send + 'static>(
            $self: $receiver,
            sql: &str,
            params: impl $crate::params::IntoParams,
        ) -> $crate::database::Answer<'_, Vec<T>> {
            let statement = $crate::connector::Statement::new(sql, params);
            let location = std::panic::Location::caller();
            let observing = $self.observing($crate::observer::CallKind::Fetch, &statement, location);
            $crate::database::Answer::observed(observing, async move {
                let statement = statement?;
                let mut sink = $crate::database::route::Shown::to($crate::row::Decoding::<Vec<T>>::rows());
                $self.reading(statement, location, &mut sink).await?;
                sink.made()
            })
        }
    };
}

/// The answer to one statement, as a future: what `execute`, `fetch_all` and their like give.
///
/// It has a name, three words of size, and no trace of the parameters' type, so that it is cheap to move, and a parameter
/// that cannot be bound is one error of the compiler.
///
/// # Cancel safety
/// As the call says that gave it.
#[must_use = "futures do nothing unless polled"]
pub struct Answer<'a, T> {
    running: Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>,
    observing: Observing,
}

impl<'a, T> Answer<'a, T> {
    /// That of a call which observers see, if there are any.
    pub(super) fn observed(observing: Observing, running: impl Future<Output = Result<T>> + Send + 'a) -> Self {
        Self { running: Box::pin(running), observing }
    }
}

impl<T> Future for Answer<'_, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let Self { running, observing } = &mut *self;
        match observing {
            None => running.as_mut().poll(context),
            observing => drive(observing, || running.as_mut().poll(context)),
        }
    }
}

impl<T> fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}
