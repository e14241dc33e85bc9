//! A call under way.

use std::future::Future;
use std::panic::Location;
use std::sync::Arc;

use futures_util::future::Either;

use super::deadline::{Deadline, Limit, Stage};
use crate::connector::{Access, Connection, Connector, Resource as _, StatementKind};
use crate::error::Result;
use crate::pool::{Pool, Pooled};

/// Where a call was made, until when it has to be over, and what it is for: handed down from the handle that was asked.
#[derive(Clone, Copy)]
pub(super) struct Call<'l> {
    pub(super) location: &'static Location<'static>,
    pub(super) deadline: Option<Deadline>,
    pub(super) label: Option<&'l Arc<str>>,
}

impl Call<'_> {
    /// A connection for it.
    pub(super) fn lend<C: Connector>(
        self,
        pool: &Pool<C>,
        access: Access,
    ) -> impl Future<Output = Result<Pooled<C>>> + Send + use<'_, C> {
        let lending = pool.get_at(access, self.location);
        match self.deadline {
            None => Either::Left(lending),
            // Boxed, so that calls without a deadline do not carry its state.
            Some(deadline) => Either::Right(Box::pin(deadline.lend(lending, pool, access))),
        }
    }

    /// A connection for it if one is free.
    pub(super) fn lend_if_free<C: Connector>(
        self,
        pool: &Pool<C>,
        access: Access,
    ) -> impl Future<Output = Result<Option<Pooled<C>>>> + Send + use<'_, C> {
        let lending = pool.get_if_free(access, self.location);
        match self.deadline {
            None => Either::Left(lending),
            Some(deadline) => Either::Right(Box::pin(deadline.lend(lending, pool, access))),
        }
    }

    /// What bounds a step of it, of which `stage` says what is lost when the time is up.
    pub(super) fn limit(self, stage: impl FnOnce() -> Stage) -> Limit {
        self.deadline.map(|deadline| (deadline, stage()))
    }

    /// What bounds a statement of it on this connection. The kind says what a stop would lose, so it is asked for
    /// before the statement runs.
    pub(super) fn limit_of<C>(self, lent: &mut Pooled<C>, access: Access, sql: &str) -> Result<Limit>
    where
        C: Connector<Connection: Connection>,
    {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let reads = access == Access::Read || lent.classify(sql)? == StatementKind::Read;
        Ok(Some((deadline, if reads { Stage::Read } else { Stage::Write(lent.canceller()) })))
    }
}
