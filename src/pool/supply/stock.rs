//! What a lane has to give: idle connections in cells, free capacity, and the queue of the calls that wait for either.
//!
//! There are as many cells as processors; a thread uses the one of its number first. Between two loans on one thread nothing
//! is written that other threads use too. That holds as long as nobody waits: a call raises the demand before it looks into the
//! cells, and the cells ask for the demand under their locks; so what comes back is either found by that call, or not kept.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::sync::{Arc, AtomicUsize, Lock, SeqCst, foreign, thread_number};

/// The supply of one lane. `T` is an idle connection; `G` is what a waiting call is granted: a connection, or the permit
/// to open one. A grant that nobody takes gives itself back when it is dropped.
pub(in crate::pool) struct Supply<T, G> {
    size: usize,
    demand: Arc<Demand>,
    idle: Idle<T>,
    queue: Queue<G>,
}

impl<T, G: From<(T, Arc<IdleCell<T>>)>> Supply<T, G> {
    /// The supply of a lane of `size` connections, none of them open, with idle ones in as many cells.
    pub(in crate::pool) fn new(size: usize, cells: usize) -> Self {
        let demand = Arc::new(Demand::default());
        let (idle, queue) = (Idle::new(cells, &demand), Queue::new(size, &demand));
        Self { size, demand, idle, queue }
    }

    /// An idle connection, if there is one, and the cell that it goes back to.
    pub(in crate::pool) fn take(&self) -> Option<(T, Arc<IdleCell<T>>)> {
        self.idle.take()
    }

    /// The cell of this thread, for a new connection.
    pub(in crate::pool) fn cell(&self) -> Arc<IdleCell<T>> {
        Arc::clone(self.idle.cell())
    }

    /// Capacity that nothing is opened for, if there is some.
    pub(in crate::pool) fn take_capacity(&self) -> Result<bool, Closed> {
        self.queue.take_capacity()
    }

    /// Enters a call that waits. Connections that became idle before are still to be [taken](Self::take); those that come
    /// back from now on are granted in the order of the queue. `None`: there is free capacity after all.
    pub(in crate::pool) fn enter(&self, need: Need) -> Result<Option<Ticket<'_, G>>, Closed> {
        self.queue.enter(need)
    }

    /// Puts a connection back that its cell did not [keep](IdleCell::keep): grants it to the first call that waits. If none
    /// waits, it stays idle, in a closed lane too, for whoever closes that. True: the lane is closed.
    pub(in crate::pool) fn put_back(&self, mut item: T, cell: Arc<IdleCell<T>>) -> bool {
        loop {
            if let Some(first) = self.queue.first_for_connection() {
                foreign();
                // A call that has gone meanwhile lets the grant go, which puts it back.
                let _ = first.send(G::from((item, cell)));
                return false;
            }
            match cell.keep_unless_awaited(item) {
                Ok(closed) => return closed,
                // Somebody has begun to wait.
                Err(back) => item = back,
            }
        }
    }

    /// Takes capacity back, and grants it to the first call that waits for it. True: the lane is closed.
    pub(in crate::pool) fn release(&self, grant: impl FnOnce() -> G) -> bool {
        if let Some(first) = self.queue.first_for_capacity() {
            foreign();
            let _ = first.send(grant());
        }
        self.is_closed()
    }

    /// Refuses all calls, those that wait too, from now on.
    pub(in crate::pool) fn close(&self) {
        self.queue.close();
    }

    pub(in crate::pool) fn is_closed(&self) -> bool {
        self.demand.is_closed()
    }

    /// Takes the idle connections that `choose` names, the coldest of each cell first. It runs under a lock.
    pub(in crate::pool) fn take_if(&self, choose: impl FnMut(&mut T) -> bool) -> Vec<T> {
        self.idle.take_if(choose)
    }

    /// Shows every idle connection to `look`, under a lock.
    pub(in crate::pool) fn for_each(&self, look: impl FnMut(&T)) {
        self.idle.for_each(look);
    }

    /// Whether everything is back: all capacity is free or belongs to an idle connection. Never true too early: capacity
    /// is counted first, and what is idle in a closed lane can only become free capacity.
    pub(in crate::pool) fn is_whole(&self) -> bool {
        let free = self.queue.free();
        free + self.idle.len() == self.size
    }

    /// How many calls wait in the queue.
    pub(in crate::pool) fn waiting(&self) -> usize {
        self.queue.state.lock().waiting.len()
    }

    pub(in crate::pool) fn has_idle(&self) -> bool {
        self.idle.len() > 0
    }
}

struct Idle<T> {
    cells: Box<[Arc<IdleCell<T>>]>,
}

/// Idle connections that a thread of this number looks at first, the one used last at the end; in cache lines of their own.
#[repr(align(128))]
pub(in crate::pool) struct IdleCell<T> {
    items: Lock<Vec<T>>,
    demand: Arc<Demand>,
}

impl<T> Idle<T> {
    fn new(cells: usize, demand: &Arc<Demand>) -> Self {
        let cell = || Arc::new(IdleCell { items: Lock::new(Vec::new()), demand: Arc::clone(demand) });
        Self { cells: (0..cells).map(|_| cell()).collect() }
    }

    /// What this thread used last, or else what another one did. Nothing, if the lane is closed.
    fn take(&self) -> Option<(T, Arc<IdleCell<T>>)> {
        let (before, after) = self.cells.split_at(self.number());
        after.iter().chain(before).find_map(|cell| {
            let mut items = cell.items.lock();
            if cell.demand.is_closed() {
                return None;
            }
            let item = items.pop()?;
            drop(items);
            Some((item, Arc::clone(cell)))
        })
    }

    fn cell(&self) -> &Arc<IdleCell<T>> {
        &self.cells[self.number()]
    }

    fn take_if(&self, mut choose: impl FnMut(&mut T) -> bool) -> Vec<T> {
        self.cells.iter().flat_map(|cell| cell.items.lock().extract_if(.., &mut choose).collect::<Vec<_>>()).collect()
    }

    fn for_each(&self, mut look: impl FnMut(&T)) {
        for cell in &self.cells {
            cell.items.lock().iter().for_each(&mut look);
        }
    }

    fn len(&self) -> usize {
        self.cells.iter().map(|cell| cell.items.lock().len()).sum()
    }

    fn number(&self) -> usize {
        thread_number() % self.cells.len()
    }
}

impl<T> IdleCell<T> {
    /// Keeps a connection, if nobody waits and the lane is open.
    #[inline]
    pub(in crate::pool) fn keep(&self, item: T) -> Result<(), T> {
        let mut items = self.items.lock();
        if !self.demand.is_none() {
            return Err(item);
        }
        items.push(item);
        Ok(())
    }

    /// Keeps a connection, if nobody waits. True: the lane is closed, and whoever closed it may have looked here before.
    fn keep_unless_awaited(&self, item: T) -> Result<bool, T> {
        let mut items = self.items.lock();
        if self.demand.is_awaited() {
            return Err(item);
        }
        items.push(item);
        Ok(self.demand.is_closed())
    }
}

struct Queue<G> {
    state: Lock<QueueState<G>>,
    demand: Arc<Demand>,
}

struct QueueState<G> {
    /// Capacity that nothing is opened for. None while a call waits that could use it.
    free: usize,
    waiting: VecDeque<Queued<G>>,
    next: u64,
}

struct Queued<G> {
    number: u64,
    need: Need,
    answer: oneshot::Sender<G>,
}

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pool) enum Need {
    /// A connection or the permit to open one.
    Any,
    /// A connection, because opening one has failed. Such a call comes before all that wait for [`Any`](Self::Any): it asked earlier.
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
    fn new(free: usize, demand: &Arc<Demand>) -> Self {
        let state = QueueState { free, waiting: VecDeque::new(), next: 0 };
        Self { state: Lock::new(state), demand: Arc::clone(demand) }
    }

    fn free(&self) -> usize {
        self.state.lock().free
    }

    fn take_capacity(&self) -> Result<bool, Closed> {
        let mut state = self.state.lock();
        if self.demand.is_closed() {
            return Err(Closed);
        }
        let is_free = state.free > 0;
        state.free -= usize::from(is_free);
        Ok(is_free)
    }

    fn enter(&self, need: Need) -> Result<Option<Ticket<'_, G>>, Closed> {
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
        state.waiting.insert(at, Queued { number, need, answer });
        self.demand.rise();
        Ok(Some(Ticket { queue: self, number, grant }))
    }

    /// The first call that waits; it has left the queue.
    fn first_for_connection(&self) -> Option<oneshot::Sender<G>> {
        let mut state = self.state.lock();
        self.leave(&mut state, 0)
    }

    /// The first call that waits for any; if there is none, capacity is free again.
    fn first_for_capacity(&self) -> Option<oneshot::Sender<G>> {
        let mut state = self.state.lock();
        let first = state.waiting.iter().position(|waiting| waiting.need == Need::Any);
        let first = first.and_then(|at| self.leave(&mut state, at));
        state.free += usize::from(first.is_none());
        first
    }

    fn close(&self) {
        let mut state = self.state.lock();
        self.demand.close();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        foreign();
        drop(waiting);
    }

    fn leave(&self, state: &mut QueueState<G>, at: usize) -> Option<oneshot::Sender<G>> {
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

/// How many calls wait for a lane, and whether it is closed; in cache lines of its own, because every return reads it.
///
/// It is raised, or closed, before the cells are looked through, and read under the lock of a cell. Of a call and a return that
/// meet at one cell, one has its lock first. If that is the return, the call finds what it has put there; if it is the call, the
/// return comes after the raise, and sees it. So the locks order it, on every processor; `SeqCst` costs a load nothing more
/// than that.
#[derive(Default)]
#[repr(align(128))]
struct Demand(AtomicUsize);

const CLOSED: usize = 1 << (usize::BITS - 1);

impl Demand {
    /// Nobody waits, and the lane is open.
    fn is_none(&self) -> bool {
        self.0.load(SeqCst) == 0
    }

    fn is_awaited(&self) -> bool {
        self.0.load(SeqCst) & !CLOSED != 0
    }

    fn is_closed(&self) -> bool {
        self.0.load(SeqCst) & CLOSED != 0
    }

    fn rise(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    fn fall(&self) {
        self.0.fetch_sub(1, SeqCst);
    }

    /// Nobody waits any more, and nobody will.
    fn close(&self) {
        self.0.store(CLOSED, SeqCst);
    }
}
