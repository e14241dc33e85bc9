//! The supply of a lane, as the pool sees it.

use super::demand::Demand;
use super::idle::{Cell, Idle};
use super::queue::{Closed, Need, Queue, Ticket};
use super::sync::{Arc, foreign};

/// The supply of one lane. `T` is an idle connection; `G` is what a waiting call is granted: a connection, or the permit
/// to open one. A grant that nobody takes gives itself back when it is dropped.
pub(in crate::pool) struct Supply<T, G> {
    size: usize,
    demand: Arc<Demand>,
    idle: Idle<T>,
    queue: Queue<G>,
}

impl<T, G: From<(T, Arc<Cell<T>>)>> Supply<T, G> {
    /// The supply of a lane of `size` connections, none of them open, with idle ones in as many cells.
    pub(in crate::pool) fn new(size: usize, cells: usize) -> Self {
        let demand = Arc::new(Demand::default());
        let (idle, queue) = (Idle::new(cells, &demand), Queue::new(size, &demand));
        Self { size, demand, idle, queue }
    }

    /// An idle connection, if there is one, and the cell that it goes back to.
    pub(in crate::pool) fn take(&self) -> Option<(T, Arc<Cell<T>>)> {
        self.idle.take()
    }

    /// The cell of this thread, for a new connection.
    pub(in crate::pool) fn cell(&self) -> Arc<Cell<T>> {
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

    /// Puts a connection back that its cell did not [keep](Cell::keep): grants it to the first call that waits, or keeps
    /// it for whoever closes the lane. True: the lane is closed.
    pub(in crate::pool) fn put_back(&self, mut item: T, cell: Arc<Cell<T>>) -> bool {
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

    pub(in crate::pool) fn has_idle(&self) -> bool {
        self.idle.len() > 0
    }
}
