//! Calls whose connect failed while the pool has other connections: a role, a server or a pooler may allow fewer than the
//! pool does.
//!
//! Such a call asks for a connection that comes back. It comes before those who wait for a permit, because it came
//! before them: without that, a pool under load would keep it until its timeout.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::inner::Inner;
use super::lease::{Lease, give_back};
use super::shelf::{Kept, Shelf};
use super::waiting::Waiting;
use crate::connector::Connector;
use crate::error::{Error, Phase, Result};
use crate::lock::{Lock, foreign};

/// The calls of one shelf that ask.
pub(super) struct Refused<C: Connector> {
    state: Lock<State<C>>,
    /// Wakes those who ask.
    news: Notify,
}

struct State<C: Connector> {
    asking: usize,
    /// For those who ask; never more than they are.
    handed: Vec<Kept<C>>,
    /// How many connections are being opened.
    dialing: usize,
}

/// A call that asks.
struct Asking<'a, C: Connector>(&'a Shelf<C>);

/// A connection that is being opened.
pub(super) struct Dialing<'a, C: Connector>(&'a Refused<C>);

impl<C: Connector> Refused<C> {
    pub(super) fn new() -> Self {
        Self { state: Lock::new(State { asking: 0, handed: Vec::new(), dialing: 0 }), news: Notify::new() }
    }

    /// Hands a slot that came back to a call that asks; gives it back if there is none.
    pub(super) fn hand(&self, kept: Kept<C>) -> Result<(), Kept<C>> {
        let mut state = self.state.lock();
        if state.handed.len() == state.asking {
            return Err(kept);
        }
        state.handed.push(kept);
        drop(state);
        foreign();
        self.news.notify_waiters();
        Ok(())
    }

    /// Has those who ask look again.
    pub(super) fn tell(&self) {
        if self.state.lock().asking > 0 {
            foreign();
            self.news.notify_waiters();
        }
    }

    pub(super) fn dial(&self) -> Dialing<'_, C> {
        self.state.lock().dialing += 1;
        Dialing(self)
    }
}

impl<C: Connector> Drop for Dialing<'_, C> {
    fn drop(&mut self) {
        self.0.state.lock().dialing -= 1;
        self.0.tell();
    }
}

impl<'a, C: Connector> Asking<'a, C> {
    fn new(shelf: &'a Shelf<C>) -> Self {
        shelf.refused.state.lock().asking += 1;
        // From now on nothing is kept warm, and what comes back is handed over.
        shelf.warm.want();
        Self(shelf)
    }

    fn take(&self) -> Option<Kept<C>> {
        self.0.refused.state.lock().handed.pop()
    }
}

impl<C: Connector> Drop for Asking<'_, C> {
    fn drop(&mut self) {
        self.0.warm.want_no_more();
        let mut state = self.0.refused.state.lock();
        state.asking -= 1;
        let spare = if state.handed.len() > state.asking { state.handed.pop() } else { None };
        drop(state);
        if let Some((slot, permit)) = spare {
            give_back(slot, permit, None);
        }
    }
}

impl<C: Connector> Inner<C> {
    /// Waits for a connection of `shelf` that is idle or comes back, as long as it takes.
    ///
    /// Cancel safe: what was handed over, and not taken, goes back.
    pub(super) async fn another(self: &Arc<Self>, shelf: &Shelf<C>) -> Lease<C> {
        let asking = Asking::new(shelf);
        loop {
            let mut news = pin!(shelf.refused.news.notified());
            news.as_mut().enable();
            if let Some(kept) = asking.take() {
                return Lease::of(kept);
            }
            if let Some(lease) = Lease::warm(shelf) {
                return lease;
            }
            // Asked first: an empty slot that was taken in vain would be news to the others.
            if shelf.has_idle()
                && let Ok(Some(permit)) = self.try_permit(shelf)
                && let Ok(lease) = Lease::new(permit).await
                && lease.opened().is_some()
            {
                return lease;
            }
            news.await;
        }
    }

    /// The same until `deadline`, after the last attempt to connect failed with `refusal`.
    ///
    /// # Errors
    /// `refusal` as it is, once no connection can come back; [`AllInUse`](crate::Reason::AllInUse) because of it when the
    /// acquire timeout has passed.
    pub(super) async fn another_until(
        self: &Arc<Self>,
        shelf: &Shelf<C>,
        deadline: Instant,
        refusal: Error,
    ) -> Result<Lease<C>> {
        let waiting = Waiting::begin(self, shelf.lane, deadline)?;
        tokio::select! {
            biased;
            outcome = waiting.until(self.another(shelf)) => outcome.map_err(|error| {
                let error = error.context(refusal.message());
                let hint = refusal.advice().map(str::to_owned);
                let error = error.caused_by(refusal);
                match hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            }),
            () = self.none_left(shelf) => Err(refusal.permanent().during(Phase::Connect)),
        }
    }

    /// Waits until no connection of `shelf` can come back.
    async fn none_left(&self, shelf: &Shelf<C>) {
        loop {
            let (mut news, mut gone) = (pin!(shelf.refused.news.notified()), pin!(self.registry.gone.notified()));
            news.as_mut().enable();
            gone.as_mut().enable();
            let dialing = shelf.refused.state.lock().dialing;
            if dialing == 0 && !self.registry.can_come_back(shelf.lane) {
                return;
            }
            tokio::select! {
                () = news => {}
                () = gone => {}
            }
        }
    }
}
