//! How a handle runs one statement: on a reader if it only reads, or else through the lane.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;

use super::call::Call;
use super::call::within;
use super::handle::AsyncDatabase;
use super::observed::{self, Observing, driven, observe, observe_span, observe_told, observed};
use super::route;
use super::route::Yields;
use crate::connector::{Access, Connection, Connector, Outcome, Statement};
use crate::error::{Reason, Result};
use crate::observer::CallKind;
use crate::row::Rows;
use crate::turn;

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// A call that is about to begin, where there are observers; of a span it asks itself.
    #[inline]
    pub(super) fn observing(
        &self,
        kind: CallKind,
        statement: &Result<Statement>,
        location: &'static Location<'static>,
    ) -> Observing {
        observe_told(self.pool().observers(), kind, &statement.as_ref().ok()?.sql, location)
    }

    /// Runs a statement that only reads on a reader; one that turns out to write goes to the writer.
    pub(super) fn reading<'a, Y: Yields>(
        &'a self,
        statement: Statement,
        location: &'static Location<'static>,
        yields: &'a mut Y,
    ) -> impl Future<Output = Result<Y::Made>> + Send + use<'a, C, Y> {
        self.read::<Y, true>(statement, location, yields)
    }

    /// The same on a server that has what was committed, where some readers may not have it yet.
    pub(super) async fn reading_newest<Y: Yields>(
        &self,
        statement: Statement,
        location: &'static Location<'static>,
        yields: &mut Y,
    ) -> Result<Y::Made> {
        let observing = observe(self.pool().observers(), CallKind::Fetch, Some(&statement.sql), location);
        observed!(observing, async {
            if self.capabilities().reads_elsewhere {
                Ok(yields.collected(self.write(statement, self.call(location)).await?))
            } else {
                self.read::<Y, false>(statement, location, yields).await
            }
        })
    }

    /// The same in a future of its own, with a span.
    #[cold]
    fn read_observed<'a, Y: Yields>(
        &'a self,
        observing: Observing,
        statement: Statement,
        location: &'static Location<'static>,
        yields: &'a mut Y,
    ) -> Pin<Box<dyn Future<Output = Result<Y::Made>> + Send + 'a>> {
        Box::pin(driven(observing, self.read::<Y, false>(statement, location, yields)))
    }

    /// One future for what nobody observes: every layer around it would cost a read a hundredth.
    #[allow(clippy::manual_async_fn, reason = "an async fn has room for its arguments twice")]
    fn read<'a, Y: Yields, const ASKS: bool>(
        &'a self,
        statement: Statement,
        location: &'static Location<'static>,
        yields: &'a mut Y,
    ) -> impl Future<Output = Result<Y::Made>> + Send + 'a {
        async move {
            if ASKS {
                let observing = observe_span(self.pool().observers(), CallKind::Fetch, &statement.sql, location);
                if observing.is_some() {
                    return self.read_observed(observing, statement, location, yields).await;
                }
            }
            turn::take().await;
            let call = self.call(location);
            let access = route::read_access(self.capabilities());
            let statement = if access == Access::Write && self.capabilities().single_writer {
                statement
            } else {
                let mut reader = call.lend(self.pool(), access).await?;
                let limit = call.limit_of(&mut reader, access, &statement.sql)?;
                // Boxed, because mostly nothing is kept.
                let kept = self.capabilities().reads_elsewhere.then(|| Box::new(statement.clone()));
                match within(limit, route::run_in(&mut reader, statement, access, yields)).await {
                    Ok(Outcome::Ran(made)) => return Ok(made),
                    Ok(Outcome::Refused(_, statement)) => statement,
                    // A function that writes, of which its words say nothing: a standby has changed nothing.
                    Err(error) if error.reason() == Reason::NotWritable => *kept.ok_or(error)?,
                    Err(error) => return Err(error),
                }
            };
            observed::waits_again();
            // Boxed, like everything off the short way, so that a read does not carry its state.
            Ok(yields.collected(Box::pin(self.write(statement, call)).await?))
        }
    }

    pub(super) async fn writing(&self, statement: Statement, location: &'static Location<'static>) -> Result<Rows> {
        let observing = observe_span(self.pool().observers(), CallKind::Execute, &statement.sql, location);
        observed!(observing, async {
            turn::take().await;
            self.write(statement, self.call(location)).await
        })
    }

    /// Runs a statement that may write: through the lane, where statements that wait for the one writer share a commit.
    async fn write(&self, statement: Statement, call: Call<'_>) -> Result<Rows> {
        if self.capabilities().single_writer && self.capabilities().group_commit {
            return self.inner.lane.run(self.pool(), call, statement).await;
        }
        let mut writer = call.lend(self.pool(), Access::Write).await?;
        let limit = call.limit_of(&mut writer, Access::Write, &statement.sql)?;
        within(limit, route::run(&mut writer, statement)).await
    }
}
