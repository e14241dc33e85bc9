//! A change of key, for which nothing may be open.

use std::future::Future;
use std::panic::Location;
use std::sync::Arc;

use tokio::time::Instant;

use super::guarded::guarded;
use super::handle::Pool;
use super::inner::{PoolInner, SleepStage};
use super::suspend_options::SuspendOptions;
use super::suspending::LONGEST;
use crate::clock;
use crate::connector::{Connector, RekeyReport, Rekeying, TellProgress};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeySource;

impl<C: Connector> Pool<C> {
    /// Has the connector prepare a change of key, while everybody works.
    pub(crate) async fn prepare_rekey(
        &self,
        source: Box<dyn KeySource>,
        progress: Option<TellProgress>,
    ) -> Result<Rekeying> {
        self.inner().prepare_rekey(source, progress).await
    }

    /// Makes the change that was prepared, once everything was let go of, on behalf of a caller further up.
    pub(crate) async fn rekey_at(
        &self,
        change: Rekeying,
        options: SuspendOptions,
        location: &'static Location<'static>,
    ) -> Result<RekeyReport> {
        self.inner().emptied(options, location, change).await
    }
}

impl<C: Connector> PoolInner<C> {
    async fn prepare_rekey(&self, source: Box<dyn KeySource>, progress: Option<TellProgress>) -> Result<Rekeying> {
        self.connector.usable()?;
        clock::check()?;
        self.refuse_inside()?;
        if self.is_closed() {
            return Err(self.closed_error());
        }
        self.refuse_held()?;
        let prepared = async { self.connector.rekey(source, progress).await };
        guarded("connector's change of key", Instant::now() + LONGEST, prepared).await
    }

    /// Runs `work` while nothing is open and calls wait. A resume or a close meanwhile come too late to call it off.
    async fn emptied<T>(
        self: &Arc<Self>,
        options: SuspendOptions,
        location: &'static Location<'static>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let _attendant = self.chores.attend();
        let (end, resumes) = (options.end(), self.sleep.state.lock().resumes);
        let falls = async {
            let alone = self.alone(options, end).await?;
            self.refuse_held()?;
            self.empty(options, location, resumes, end).await.map(|empty| (alone, empty))
        };
        let fallen = self.unless_called_off(resumes, falls).await;
        let (_alone, (falling, _report, permits)) = fallen.map_err(|error| error.context("the key was not changed"))?;
        let outcome = guarded("change of key", falling.lasts(), work).await;
        drop(falling);
        drop(permits);
        outcome
    }

    /// Refuses to open anything before somebody resumes.
    fn refuse_held(&self) -> Result<()> {
        if !matches!(self.sleep.state.lock().stage, SleepStage::Held(_)) {
            return Ok(());
        }
        let message = format!("the pool \"{}\" is suspended until somebody resumes", self.name);
        Err(Error::new(ErrorKind::Busy, message).hint("call resume() first"))
    }
}
