//! The supply in the small: its own code over shuttle's primitives, callers as threads, and their steps in as many orders
//! as there is time for. Connections and permits give themselves back when they are dropped, as those of the pool do.

mod sync {
    pub(super) use shuttle::sync::Arc;
    pub(super) use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use shuttle::sync::{Mutex, MutexGuard};

    shuttle::thread_local! {
        pub(super) static NUMBER: std::cell::Cell<usize> = std::cell::Cell::new(0);
    }

    pub(super) fn thread_number() -> usize {
        NUMBER.with(std::cell::Cell::get)
    }

    pub(super) struct Lock<T>(Mutex<T>);

    impl<T> Lock<T> {
        pub(super) fn new(data: T) -> Self {
            Self(Mutex::new(data))
        }

        pub(super) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    pub(super) fn foreign() {}
}

#[allow(clippy::duplicate_mod, dead_code, unused_imports, reason = "the same code over other primitives is the point")]
#[path = "stock.rs"]
mod stock;

use shuttle::future::block_on;
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use stock::{Closed, IdleCell, Need, Supply};
use sync::{Arc, AtomicUsize, SeqCst};

struct Lane {
    size: usize,
    supply: Supply<Connection, Grant>,
    /// How many connections are open.
    open: AtomicUsize,
    late: (Mutex<()>, Condvar),
}

struct Permit(Arc<Lane>);

struct Connection(Permit);

/// Dropped, it goes back.
struct Lease(Option<(Connection, Arc<IdleCell<Connection>>)>);

enum Grant {
    Connection(Lease),
    Permit(Permit),
}

impl From<(Connection, Arc<IdleCell<Connection>>)> for Grant {
    fn from(taken: (Connection, Arc<IdleCell<Connection>>)) -> Self {
        Self::Connection(Lease(Some(taken)))
    }
}

impl Connection {
    fn open(permit: Permit) -> Lease {
        let lane = Arc::clone(&permit.0);
        let open = lane.open.fetch_add(1, SeqCst) + 1;
        assert!(open <= lane.size, "{open} of {} are open", lane.size);
        Lease(Some((Self(permit), lane.supply.cell())))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, SeqCst);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.0.supply.release(|| Grant::Permit(Self(Arc::clone(&self.0)))) {
            self.0.came_back_late();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some((connection, cell)) = self.0.take() else { return };
        if let Err(connection) = cell.keep(connection) {
            let lane = Arc::clone(&connection.0.0);
            if lane.supply.put_back(connection, cell) {
                lane.came_back_late();
            }
        }
    }
}

/// What a caller does.
#[derive(Clone, Copy)]
enum Call {
    /// Borrows and gives back.
    Borrow,
    /// Borrows, and the connection breaks.
    Break,
    /// Enters the queue, and goes away without waiting.
    Leave,
    /// Has a permit, cannot connect, and waits for a connection.
    Refused,
}

impl Lane {
    fn new(size: usize) -> Arc<Self> {
        let late = (Mutex::new(()), Condvar::new());
        Arc::new(Self { size, supply: Supply::new(size, 2), open: AtomicUsize::new(0), late })
    }

    fn came_back_late(&self) {
        let _guard = self.late.0.lock().unwrap();
        self.late.1.notify_all();
    }

    /// As `PoolInner::free` does it.
    fn free(self: &Arc<Self>) -> Result<Option<Grant>, Closed> {
        match self.supply.take() {
            Some(idle) => Ok(Some(Grant::from(idle))),
            None => Ok(self.supply.take_capacity()?.then(|| Grant::Permit(Permit(Arc::clone(self))))),
        }
    }

    /// As `PoolInner::queued` does it.
    fn queued(self: &Arc<Self>, need: Need, waits: bool) -> Result<Option<Grant>, Closed> {
        let Some(mut ticket) = self.supply.enter(need)? else {
            return Ok(Some(Grant::Permit(Permit(Arc::clone(self)))));
        };
        match self.supply.take() {
            Some(idle) => Ok(Some(Grant::from(idle))),
            None if waits => block_on(ticket.granted()).map(Some),
            None => {
                thread::yield_now();
                Ok(None)
            }
        }
    }

    fn call(self: &Arc<Self>, call: Call) -> Result<(), Closed> {
        let grant = match (self.free()?, call) {
            (Some(Grant::Permit(permit)), Call::Refused) => {
                let other = self.queued(Need::Connection, true)?;
                drop(permit);
                other
            }
            (Some(grant), _) => Some(grant),
            (None, Call::Leave) => self.queued(Need::Any, false)?,
            (None, _) => self.queued(Need::Any, true)?,
        };
        let mut lease = match grant {
            None => return Ok(()),
            Some(Grant::Connection(lease)) => lease,
            Some(Grant::Permit(permit)) => Connection::open(permit),
        };
        thread::yield_now();
        if let Call::Break = call {
            drop(lease.0.take());
        }
        Ok(())
    }

    /// As `PoolInner::close` does it.
    fn close(&self) {
        self.supply.close();
        let mut guard = self.late.0.lock().unwrap();
        while !self.supply.is_whole() {
            guard = self.late.1.wait(guard).unwrap();
        }
        drop(guard);
        drop(self.supply.take_if(|_| true));
    }
}

fn play(size: usize, callers: &'static [Call], calls: usize, closes: bool) {
    let lane = Lane::new(size);
    // A call that is refused waits for this one at least.
    let first = lane.free().unwrap_or_else(|_| unreachable!());
    let first = first.map(|grant| match grant {
        Grant::Permit(permit) => Connection::open(permit),
        Grant::Connection(lease) => lease,
    });
    let threads: Vec<_> = callers
        .iter()
        .enumerate()
        .map(|(number, call)| {
            let lane = Arc::clone(&lane);
            thread::spawn(move || {
                sync::NUMBER.with(|own| own.set(number));
                for _ in 0..calls {
                    if lane.call(*call).is_err() {
                        assert!(lane.supply.is_closed());
                        return;
                    }
                }
            })
        })
        .collect();
    drop(first);
    if closes {
        lane.close();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    lane.close();
    assert!(lane.supply.is_whole() && !lane.supply.has_idle(), "capacity was lost, or made up");
    assert_eq!(lane.open.load(SeqCst), 0);
}

const MIXED: &[Call] = &[Call::Borrow, Call::Break, Call::Leave, Call::Borrow];
const REFUSED: &[Call] = &[Call::Borrow, Call::Refused, Call::Leave, Call::Refused];

/// Other processors are emulated where this is run for each change, and the orders are the model's, whatever the processor.
const SHARE: usize = if cfg!(target_arch = "x86_64") { 1 } else { 10 };

#[test]
fn in_the_orders_of_two_callers_for_one_connection_none_waits_for_ever() {
    for closes in [false, true] {
        for callers in [&MIXED[..2], &MIXED[1..3]] {
            shuttle::check_dfs(move || play(1, callers, 1, closes), Some(10_000 / SHARE));
        }
    }
}

#[test]
fn in_many_orders_of_four_callers_none_waits_for_ever_and_nothing_is_lost() {
    for size in [1, 2] {
        for closes in [false, true] {
            for callers in [MIXED, REFUSED] {
                shuttle::check_random(move || play(size, callers, 3, closes), 300 / SHARE);
                shuttle::check_pct(move || play(size, callers, 3, closes), 300 / SHARE, 3);
            }
        }
    }
}
