//! Letting go of everything for a while.
//!
//! Whoever suspends collects all capacity, like a caller who wants every connection at once: it waits in the queues, so
//! that calls under way end, and those that come later sit it out. A call that has one connection and waits for another
//! would never end that way; it is let by. What was collected goes back when the future is dropped.

use std::future::Future;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::close_report::CloseReport;
use super::guarded::{caught, guarded};
use super::holders::{Exhaustion, LaneId, MAIN};
use super::inner::{CLOSE_LIMIT, Grant, Lane, Permit, PoolInner, SleepStage};
use super::supply::Need;
use super::suspend_options::SuspendOptions;
use crate::clock::{self, timeout_at};
use crate::connector::Connector;
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::lock::foreign;
use crate::turn;

/// Calls that have to be let by are looked for this often.
const LOOK: Duration = Duration::from_millis(5);

/// A suspension that waits for longer is waited for no longer.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long calls may still take to end once they were stopped: a rollback is short.
const GRACE: Duration = Duration::from_secs(1);

/// A suspension under way. Dropped, the pool is awake again.
pub(super) struct Falling<'a, C: Connector> {
    pool: &'a Arc<PoolInner<C>>,
    resumes: u64,
}

impl<C: Connector> PoolInner<C> {
    pub(super) async fn suspend(
        self: &Arc<Self>,
        options: SuspendOptions,
        location: &'static Location<'static>,
    ) -> Result<CloseReport> {
        self.connector.usable()?;
        clock::check()?;
        self.refuse_inside()?;
        let resumes = self.sleep.state.lock().resumes;
        self.unless_called_off(resumes, self.fall_asleep(options, location, resumes)).await
    }

    /// Refuses a caller that has a connection, and would wait for itself.
    pub(super) fn refuse_inside(&self) -> Result<()> {
        if self.registry.is_inside() { Err(self.exhaustion(MAIN).deadlock(&self.name)) } else { Ok(()) }
    }

    /// Ends `falls` early when somebody resumes or closes.
    pub(super) async fn unless_called_off<T>(&self, resumes: u64, falls: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            outcome = falls => outcome,
            () = self.until(|pool| pool.sleep.state.lock().resumes != resumes) => Err(self.called_off()),
            () = self.when_closed() => Err(self.closed_error()),
        }
    }

    async fn fall_asleep(
        self: &Arc<Self>,
        options: SuspendOptions,
        location: &'static Location<'static>,
        resumes: u64,
    ) -> Result<CloseReport> {
        let end = options.end();
        let _attendant = self.chores.attend();
        let _alone = self.alone(options, end).await?;
        if self.sleeps_already(options.until_resumed) {
            return Ok(CloseReport::default());
        }
        let (falling, report, permits) = self.empty(options, location, resumes, end).await?;
        falling.end(permits, options.until_resumed).map(|()| report)
    }

    /// The right to let go of everything.
    pub(super) async fn alone(&self, options: SuspendOptions, end: Option<Instant>) -> Result<MutexGuard<'_, ()>> {
        let attendant = self.chores.attend();
        attendant.wait(self.sleep.alone.lock(), end).await.map_err(|_elapsed| self.still_lent(options.limit))
    }

    /// Lets go of everything; calls wait as long as what comes back first lives.
    pub(super) async fn empty(
        self: &Arc<Self>,
        options: SuspendOptions,
        location: &'static Location<'static>,
        resumes: u64,
        end: Option<Instant>,
    ) -> Result<(Falling<'_, C>, CloseReport, Vec<Permit<C>>)> {
        let until = Instant::now() + options.limit.min(LONGEST) + GRACE + 2 * CLOSE_LIMIT;
        let falling = Falling::begin(self, location, resumes, until)?;
        // A call that has just looked, and waits for another connection than its own, comes into the queue before this one.
        turn::pass().await;
        let grants = self.drain(options, end).await?;
        let (report, permits) = self.let_go(grants).await?;
        Ok((falling, report, permits))
    }

    /// Everything that the pool has to give, once nobody has any of it.
    async fn drain(self: &Arc<Self>, options: SuspendOptions, end: Option<Instant>) -> Result<Vec<Grant<C>>> {
        let (attendant, mut all) = (self.chores.attend(), pin!(self.collect()));
        match attendant.wait(all.as_mut(), end).await {
            Ok(grants) => return grants,
            Err(_elapsed) if options.stop_late => {}
            Err(_elapsed) => return Err(self.still_lent(options.limit)),
        }
        self.stopping(all).await.unwrap_or_else(|| Err(self.still_lent(options.limit)))
    }

    /// Stops what runs on connections that are lent, and what is begun on them after that, until they are `back`; for a short
    /// while, in which a rollback is done.
    pub(super) async fn stopping<T>(&self, back: impl Future<Output = T>) -> Option<T> {
        let (attendant, end, mut pause) = (self.chores.attend(), Instant::now() + GRACE, LOOK);
        let mut back = pin!(back);
        loop {
            for canceller in self.registry.lent_cancellers() {
                caught(|| canceller.cancel());
            }
            let again = end.min(Instant::now() + pause);
            match attendant.wait(back.as_mut(), Some(again)).await {
                Ok(back) => return Some(back),
                Err(_elapsed) if again == end => return None,
                Err(_elapsed) => pause *= 2,
            }
        }
    }

    async fn collect(self: &Arc<Self>) -> Result<Vec<Grant<C>>> {
        let (mut collected, mut coming) = (Vec::new(), FuturesUnordered::new());
        for lane in self.lanes_in_closing_order() {
            coming.extend((0..lane.size).map(|_| self.one_of(lane)));
        }
        loop {
            match timeout_at(Instant::now() + LOOK, coming.next()).await {
                Ok(Some(grant)) => collected.push(grant?),
                Ok(None) => return Ok(collected),
                Err(_elapsed) => {
                    for lane in self.lanes_in_closing_order() {
                        for grant in Self::let_by(lane, &mut collected) {
                            drop(grant);
                            coming.push(self.one_of(lane));
                        }
                    }
                }
            }
        }
    }

    async fn one_of(self: &Arc<Self>, lane: &Lane<C>) -> Result<Grant<C>> {
        // Seen by the write lane, which lets nobody join a batch that somebody waits behind.
        lane.arrivals.fetch_add(1, Relaxed);
        self.queued(lane, Need::Any).await
    }

    /// What has to go back for the sake of calls that wait for it. Whoever is in the queue came before the suspension, or
    /// has a connection that it waits for; or brings one to somebody of whom the same is true.
    fn let_by(lane: &Lane<C>, collected: &mut Vec<Grant<C>>) -> Vec<Grant<C>> {
        let own = lane.size as usize - collected.iter().filter(|grant| grant.lane() == lane.id).count();
        let others = lane.supply.waiting().saturating_sub(own);
        collected.extract_if(.., |grant| grant.lane() == lane.id).take(others).collect()
    }

    /// Closes what was collected, readers first, and whatever the connector has open beside that.
    async fn let_go(self: &Arc<Self>, grants: Vec<Grant<C>>) -> Result<(CloseReport, Vec<Permit<C>>)> {
        let (mut report, mut permits) = (CloseReport::default(), Vec::new());
        let mut grants = grants;
        for lane in self.lanes_in_closing_order() {
            let mut goodbyes = Vec::new();
            for grant in grants.extract_if(.., |grant| grant.lane() == lane.id) {
                match grant {
                    Grant::Permit(permit) => permits.push(permit),
                    Grant::Connection(lease) => {
                        let (permit, goodbye) = lease.into_opened().part(CLOSE_LIMIT);
                        permits.push(permit);
                        goodbyes.push(goodbye);
                    }
                }
            }
            for outcome in join_all(goodbyes).await {
                report.closed += 1;
                match outcome {
                    Err(error) if error.kind() == ErrorKind::Timeout => return Err(error.during(Phase::Close)),
                    outcome => report.errors.extend(outcome.err().map(|error| error.during(Phase::Close))),
                }
            }
            // Others that had no use any more may still be closing.
            let end = Instant::now() + CLOSE_LIMIT;
            guarded("goodbye of a connection", end, async {
                self.registry.only_lent_left(lane.id).await;
                Ok(())
            })
            .await?;
        }
        let end = Instant::now() + CLOSE_LIMIT;
        guarded("connector's release", end, async { self.connector.release().await }).await?;
        Ok((report, permits))
    }

    /// Ends a suspension, also one that is under way.
    pub(super) fn resume(&self) {
        let mut state = self.sleep.state.lock();
        state.resumes += 1;
        let falls = matches!(state.stage, SleepStage::Falling(_));
        let stage = if falls { None } else { Some(std::mem::replace(&mut state.stage, SleepStage::Awake)) };
        drop(state);
        foreign();
        // Permits that were held go to the waiting calls.
        drop(stage);
        self.sleep.changed.notify_waiters();
    }

    /// Somebody opens a connection.
    pub(super) fn wake(&self) {
        let mut state = self.sleep.state.lock();
        if matches!(state.stage, SleepStage::Asleep) {
            state.stage = SleepStage::Awake;
        }
    }

    /// Whether nothing is open, so that nothing is to be opened for its own sake.
    pub(super) fn is_suspended(&self) -> bool {
        matches!(self.sleep.state.lock().stage, SleepStage::Asleep | SleepStage::Held(_))
    }

    /// Where the suspension was asked for that keeps calls waiting now.
    pub(super) fn suspended_by(&self) -> Option<&'static Location<'static>> {
        let state = self.sleep.state.lock();
        state.by.filter(|_| matches!(state.stage, SleepStage::Falling(_) | SleepStage::Held(_)))
    }

    /// Who has the connections of a lane, and whether it is suspended.
    pub(super) fn exhaustion(&self, lane: LaneId) -> Exhaustion {
        Exhaustion { suspended_by: self.suspended_by(), ..self.registry.exhaustion(lane) }
    }

    /// Whether a suspension keeps calls waiting now, and when to ask again at the latest.
    pub(super) fn suspended_until(&self) -> Option<Instant> {
        match self.sleep.state.lock().stage {
            SleepStage::Awake | SleepStage::Asleep => None,
            // One that is not driven any more keeps nobody.
            SleepStage::Falling(until) => (Instant::now() < until).then_some(until),
            SleepStage::Held(_) => Some(Instant::now() + LONGEST),
        }
    }

    /// Waits until no suspension keeps calls waiting.
    pub(super) async fn awake(&self) {
        self.until(|pool| pool.suspended_until().is_none() || pool.is_closed()).await;
    }

    async fn until(&self, so: impl Fn(&Self) -> bool) {
        loop {
            let mut changed = pin!(self.sleep.changed.notified());
            changed.as_mut().enable();
            if so(self) {
                return;
            }
            changed.await;
        }
    }

    /// Whether there is nothing left to do.
    fn sleeps_already(&self, until_resumed: bool) -> bool {
        match self.sleep.state.lock().stage {
            SleepStage::Asleep => !until_resumed,
            SleepStage::Held(_) => true,
            SleepStage::Awake | SleepStage::Falling(_) => false,
        }
    }

    fn called_off(&self) -> Error {
        let message = format!("suspending the pool \"{}\" was called off: it was resumed meanwhile", self.name);
        Error::new(ErrorKind::Cancelled, message).hint("nothing is suspended, and every call works")
    }

    fn still_lent(&self, limit: Duration) -> Error {
        let lanes = self.lanes_in_opening_order().map(|lane| self.registry.exhaustion(lane.id));
        let lanes: Vec<_> = lanes.filter(|lane| !lane.holders.is_empty()).map(|lane| lane.to_string()).collect();
        let message = format!(
            "the pool \"{}\" was not suspended, because connections were still lent after {limit:?}: {}",
            self.name,
            lanes.join(", and ")
        );
        Error::new(ErrorKind::Timeout, message)
            .because(Reason::StillLent)
            .hint("end transactions, streams and borrowed connections first, or raise the limit; everything works on")
    }
}

impl<'a, C: Connector> Falling<'a, C> {
    fn begin(
        pool: &'a Arc<PoolInner<C>>,
        by: &'static Location<'static>,
        resumes: u64,
        until: Instant,
    ) -> Result<Self> {
        let mut state = pool.sleep.state.lock();
        if state.resumes != resumes {
            drop(state);
            return Err(pool.called_off());
        }
        (state.stage, state.by) = (SleepStage::Falling(until), Some(by));
        Ok(Self { pool, resumes })
    }

    /// Calls wait for as long as this lives, and until then at the latest.
    pub(super) fn lasts(&self) -> Instant {
        let until = Instant::now() + LONGEST;
        self.pool.sleep.state.lock().stage = SleepStage::Falling(until);
        until
    }

    /// The pool sleeps from now on, unless it is to be awake or closed meanwhile.
    fn end(self, permits: Vec<Permit<C>>, until_resumed: bool) -> Result<()> {
        let mut state = self.pool.sleep.state.lock();
        let refused = if self.pool.is_closed() {
            Some(PoolInner::closed_error as fn(&PoolInner<C>) -> Error)
        } else if state.resumes != self.resumes {
            Some(PoolInner::called_off as fn(&PoolInner<C>) -> Error)
        } else {
            None
        };
        if let Some(refused) = refused {
            drop(state);
            return Err(refused(self.pool));
        }
        if until_resumed {
            state.stage = SleepStage::Held(permits);
            return Ok(());
        }
        state.stage = SleepStage::Asleep;
        drop(state);
        foreign();
        drop(permits);
        Ok(())
    }
}

impl<C: Connector> Drop for Falling<'_, C> {
    fn drop(&mut self) {
        let mut state = self.pool.sleep.state.lock();
        if matches!(state.stage, SleepStage::Falling(_)) {
            state.stage = SleepStage::Awake;
        }
        drop(state);
        foreign();
        self.pool.sleep.changed.notify_waiters();
    }
}
