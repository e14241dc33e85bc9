//! The pool in the small: the code of `warm.rs` over shuttle's primitives, callers as threads, the semaphore as a number,
//! and their steps in as many orders as there is time for.

mod sync {
    pub(super) use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    pub(super) use shuttle::sync::{Arc, Mutex, MutexGuard};
    pub(super) use std::sync::PoisonError;

    shuttle::thread_local! {
        pub(super) static NUMBER: std::cell::Cell<usize> = std::cell::Cell::new(0);
    }

    pub(super) fn thread_number() -> usize {
        NUMBER.with(std::cell::Cell::get)
    }
}

#[allow(clippy::duplicate_mod, reason = "the same code over other primitives is the point")]
#[path = "warm.rs"]
mod warm;

use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;

use warm::{Place, Warm};

/// A connection with its permit; there are as many as permits.
#[derive(Debug, PartialEq)]
struct Slot;

struct Shelf {
    warm: Warm<Slot>,
    permits: Mutex<usize>,
    news: Condvar,
    lent: sync::AtomicUsize,
    size: usize,
}

impl Shelf {
    fn new(size: usize) -> Arc<Self> {
        let (permits, news, lent) = (Mutex::new(size), Condvar::new(), sync::AtomicUsize::new(0));
        Arc::new(Self { warm: Warm::new(2), permits, news, lent, size })
    }

    /// As `Inner::checkout` does it.
    fn borrow(&self) -> (Slot, Option<Arc<Place<Slot>>>) {
        if let Some((slot, place)) = self.warm.take() {
            return (slot, Some(place));
        }
        if self.try_permit() {
            return (Slot, None);
        }
        self.warm.want();
        let found = self.warm.take();
        let slot = if let Some((slot, place)) = found {
            (slot, Some(place))
        } else {
            let mut permits = self.permits.lock().unwrap();
            while *permits == 0 {
                permits = self.news.wait(permits).unwrap();
            }
            *permits -= 1;
            (Slot, None)
        };
        self.warm.want_no_more();
        slot
    }

    fn try_permit(&self) -> bool {
        let mut permits = self.permits.lock().unwrap();
        let free = *permits > 0;
        *permits -= usize::from(free);
        free
    }

    /// As `Lease::drop` does it.
    fn give_back(&self, slot: Slot, place: Option<Arc<Place<Slot>>>) {
        let place = place.unwrap_or_else(|| self.warm.own());
        if place.keep(slot).is_err() {
            *self.permits.lock().unwrap() += 1;
            self.news.notify_one();
        }
    }

    fn call(&self) {
        let (slot, place) = self.borrow();
        let lent = self.lent.fetch_add(1, sync::SeqCst) + 1;
        assert!(lent <= self.size, "{lent} of {} are lent", self.size);
        thread::yield_now();
        self.lent.fetch_sub(1, sync::SeqCst);
        self.give_back(slot, place);
    }

    /// As `Inner::cool` does it: all permits are back then.
    fn close(&self) {
        self.warm.want();
        while self.warm.take().is_some() {
            *self.permits.lock().unwrap() += 1;
            self.news.notify_one();
        }
    }
}

fn play(size: usize, callers: usize, calls: usize, closes: bool) {
    let shelf = Shelf::new(size);
    let threads: Vec<_> = (0..callers)
        .map(|number| {
            let shelf = Arc::clone(&shelf);
            thread::spawn(move || {
                sync::NUMBER.with(|own| own.set(number));
                (0..calls).for_each(|_| shelf.call());
            })
        })
        .collect();
    if closes {
        shelf.close();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    if !closes {
        shelf.close();
    }
    assert_eq!(*shelf.permits.lock().unwrap(), size, "permits were lost, or made up");
}

#[test]
fn in_the_orders_of_two_callers_for_one_connection_none_waits_for_ever() {
    for closes in [false, true] {
        shuttle::check_dfs(move || play(1, 2, 1, closes), Some(20_000));
    }
}

#[test]
fn in_many_orders_of_four_callers_none_waits_for_ever_and_no_permit_is_lost() {
    for size in [1, 2] {
        for closes in [false, true] {
            shuttle::check_random(move || play(size, 4, 3, closes), 500);
            shuttle::check_pct(move || play(size, 4, 3, closes), 500, 3);
        }
    }
}
