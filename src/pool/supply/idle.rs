//! Idle connections, in as many cells as there are processors; a thread uses the one of its number first.
//!
//! Between two loans on one thread nothing is written that other threads use too. That holds as long as nobody waits: a
//! call raises the demand before it looks here, and the cells ask for the demand under their locks; so what comes back
//! is either found by that call, or not kept.

use super::demand::Demand;
use super::sync::{Arc, Lock, thread_number};

pub(super) struct Idle<T> {
    cells: Box<[Arc<Cell<T>>]>,
}

/// Idle connections that a thread of this number looks at first, the one used last at the end; in cache lines of their own.
#[repr(align(128))]
pub(in crate::pool) struct Cell<T> {
    items: Lock<Vec<T>>,
    demand: Arc<Demand>,
}

impl<T> Idle<T> {
    pub(super) fn new(cells: usize, demand: &Arc<Demand>) -> Self {
        let cell = || Arc::new(Cell { items: Lock::new(Vec::new()), demand: Arc::clone(demand) });
        Self { cells: (0..cells).map(|_| cell()).collect() }
    }

    /// What this thread used last, or else what another one did. Nothing, if the lane is closed.
    pub(super) fn take(&self) -> Option<(T, Arc<Cell<T>>)> {
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

    pub(super) fn cell(&self) -> &Arc<Cell<T>> {
        &self.cells[self.number()]
    }

    pub(super) fn take_if(&self, mut choose: impl FnMut(&mut T) -> bool) -> Vec<T> {
        self.cells.iter().flat_map(|cell| cell.items.lock().extract_if(.., &mut choose).collect::<Vec<_>>()).collect()
    }

    pub(super) fn for_each(&self, mut look: impl FnMut(&T)) {
        for cell in &self.cells {
            cell.items.lock().iter().for_each(&mut look);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.cells.iter().map(|cell| cell.items.lock().len()).sum()
    }

    fn number(&self) -> usize {
        thread_number() % self.cells.len()
    }
}

impl<T> Cell<T> {
    /// Keeps a connection, if nobody waits and the lane is open.
    pub(in crate::pool) fn keep(&self, item: T) -> Result<(), T> {
        let mut items = self.items.lock();
        if !self.demand.is_none() {
            return Err(item);
        }
        items.push(item);
        Ok(())
    }

    /// Keeps a connection, if nobody waits. True: the lane is closed, and whoever closed it may have looked here before.
    pub(super) fn keep_unless_awaited(&self, item: T) -> Result<bool, T> {
        let mut items = self.items.lock();
        if self.demand.is_awaited() {
            return Err(item);
        }
        items.push(item);
        Ok(self.demand.is_closed())
    }
}
