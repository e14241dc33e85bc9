//! Free capacity, and the calls that wait for it or for a connection.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::demand::Demand;
use super::sync::{Arc, Lock, foreign};

pub(super) struct Queue<G> {
    state: Lock<State<G>>,
    demand: Arc<Demand>,
}

struct State<G> {
    /// Capacity that nothing is opened for. None while a call waits that could use it.
    free: usize,
    waiting: VecDeque<Waiting<G>>,
    next: u64,
}

struct Waiting<G> {
    number: u64,
    need: Need,
    answer: oneshot::Sender<G>,
}

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pool) enum Need {
    /// A connection or the permit to open one.
    Any,
    /// A connection, because opening one has failed. Such a call has come before all those that wait for any.
    Connection,
}

/// The lane is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pool) struct Closed;

/// A call in the queue. When it is dropped, it has left, and what it was granted goes back.
pub(in crate::pool) struct Ticket<'a, G> {
    queue: &'a Queue<G>,
    number: u64,
    grant: oneshot::Receiver<G>,
}

impl<G> Queue<G> {
    pub(super) fn new(free: usize, demand: &Arc<Demand>) -> Self {
        let state = State { free, waiting: VecDeque::new(), next: 0 };
        Self { state: Lock::new(state), demand: Arc::clone(demand) }
    }

    pub(super) fn free(&self) -> usize {
        self.state.lock().free
    }

    pub(super) fn take_capacity(&self) -> Result<bool, Closed> {
        let mut state = self.state.lock();
        if self.demand.is_closed() {
            return Err(Closed);
        }
        let is_free = state.free > 0;
        state.free -= usize::from(is_free);
        Ok(is_free)
    }

    pub(super) fn enter(&self, need: Need) -> Result<Option<Ticket<'_, G>>, Closed> {
        let (answer, grant) = oneshot::channel();
        let mut state = self.state.lock();
        if self.demand.is_closed() {
            return Err(Closed);
        }
        if need == Need::Any && state.free > 0 {
            state.free -= 1;
            return Ok(None);
        }
        let number = state.next;
        state.next += 1;
        let at = match need {
            Need::Any => state.waiting.len(),
            Need::Connection => state.waiting.partition_point(|waiting| waiting.need == Need::Connection),
        };
        state.waiting.insert(at, Waiting { number, need, answer });
        self.demand.rise();
        Ok(Some(Ticket { queue: self, number, grant }))
    }

    /// The first call that waits; it has left the queue.
    pub(super) fn first_for_connection(&self) -> Option<oneshot::Sender<G>> {
        let mut state = self.state.lock();
        self.leave(&mut state, 0)
    }

    /// The first call that waits for any; if there is none, capacity is free again.
    pub(super) fn first_for_capacity(&self) -> Option<oneshot::Sender<G>> {
        let mut state = self.state.lock();
        let first = state.waiting.iter().position(|waiting| waiting.need == Need::Any);
        let first = first.and_then(|at| self.leave(&mut state, at));
        state.free += usize::from(first.is_none());
        first
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        self.demand.close();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        foreign();
        drop(waiting);
    }

    fn leave(&self, state: &mut State<G>, at: usize) -> Option<oneshot::Sender<G>> {
        let waiting = state.waiting.remove(at)?;
        self.demand.fall();
        Some(waiting.answer)
    }
}

impl<G> Ticket<'_, G> {
    /// Waits for what the call is granted.
    ///
    /// Cancel safe: the ticket keeps a grant that has come.
    pub(in crate::pool) async fn granted(&mut self) -> Result<G, Closed> {
        let grant = (&mut self.grant).await;
        // What was on its way when the lane was closed is for whoever closes it.
        if self.queue.demand.is_closed() { Err(Closed) } else { grant.map_err(|_gone| Closed) }
    }
}

impl<G> Drop for Ticket<'_, G> {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        let at = state.waiting.iter().position(|waiting| waiting.number == self.number);
        let left = at.and_then(|at| self.queue.leave(&mut state, at));
        drop(state);
        foreign();
        drop(left);
    }
}
