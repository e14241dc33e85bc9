//! Blocking work of engines and key sources, on a thread that may block.
//!
//! That is one of the runtime's threads for blocking work, so that tests which pause tokio's clock see the work. But the
//! runtime may end before it comes to it, or all its threads may be taken, by streams or by code that waits for this very
//! work. It is then done on a thread of its own: a caller that waits for it waits for nothing else.

use std::collections::VecDeque;
use std::process;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::lock::{Lock, foreign};

/// Work that no thread of the runtime has begun within this time gets one of its own.
const PATIENCE: Duration = Duration::from_millis(50);

type ErrandWork = Box<dyn FnOnce() + Send>;

/// Work that waits for a thread.
struct Errand(Lock<Option<ErrandWork>>);

/// Sends `work` to a thread that may block. The answer is lost only if the work panics.
pub(crate) fn send<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    foreign();
    let (sender, answer) = oneshot::channel();
    let caller = tracing::Span::current();
    let work = move || {
        let done = caller.in_scope(work);
        // Before the waiting caller goes on, so that nobody sees it open afterwards.
        drop(caller);
        // Nobody may be waiting any more.
        drop(sender.send(done));
    };
    let errand = Arc::new(Errand(Lock::new(Some(Box::new(work)))));
    match Handle::try_current() {
        Ok(runtime) => {
            watch(&errand);
            let turn = ErrandTurn(errand);
            runtime.spawn_blocking(move || turn.0.run());
        }
        Err(_outside) => errand.run_apart(),
    }
    answer
}

/// The runtime's promise to do the work; dropped undone when the runtime ends.
struct ErrandTurn(Arc<Errand>);

impl Drop for ErrandTurn {
    fn drop(&mut self) {
        self.0.run_apart();
    }
}

impl Errand {
    fn take(&self) -> Option<ErrandWork> {
        self.0.lock().take()
    }

    fn run(&self) {
        if let Some(work) = self.take() {
            work();
        }
    }

    /// Does the work, if nobody has begun it, on a thread of its own, or without that on this one.
    fn run_apart(&self) {
        let Some(work) = self.take() else { return };
        let errand = Arc::new(Self(Lock::new(Some(work))));
        let taken = Arc::clone(&errand);
        foreign();
        if let Err(error) = thread::Builder::new().name("strongroom-errand".into()).spawn(move || taken.run()) {
            tracing::warn!(%error, "no thread for the work that blocks; it is done on this one");
            errand.run();
        }
    }
}

/// Errands in the order in which they were sent, until they are due.
#[derive(Default)]
struct ErrandWatch {
    sent: Lock<VecDeque<(Instant, Weak<Errand>)>>,
    thread: OnceLock<Thread>,
}

/// Sees to it that the errand is run in time.
fn watch(errand: &Arc<Errand>) {
    static WATCH: OnceLock<(u32, Arc<ErrandWatch>)> = OnceLock::new();
    let (process, watch) = WATCH.get_or_init(|| (process::id(), Arc::default()));
    if *process != process::id() {
        // In the child of a fork: the thread that watches is the parent's, and may have had the list at the fork.
        return;
    }
    let mut sent = watch.sent.lock();
    let was_empty = sent.is_empty();
    sent.push_back((Instant::now(), Arc::downgrade(errand)));
    drop(sent);
    if was_empty {
        watch.wake();
    }
}

impl ErrandWatch {
    fn wake(self: &Arc<Self>) {
        foreign();
        if self.thread.get().is_none() {
            let watch = Arc::clone(self);
            match thread::Builder::new().name("strongroom-watch".into()).spawn(move || watch.keep()) {
                // Two may have begun at once; both do, and one of them sleeps.
                Ok(started) => drop(self.thread.set(started.thread().clone())),
                Err(error) => tracing::warn!(%error, "no thread to watch over work that blocks"),
            }
        }
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn keep(&self) {
        loop {
            let first = self.sent.lock().front().map(|(since, _)| *since);
            match first.map(|since| PATIENCE.saturating_sub(since.elapsed())) {
                None => thread::park(),
                Some(Duration::ZERO) => self.late().into_iter().for_each(|errand| errand.run_apart()),
                Some(pause) => thread::sleep(pause),
            }
        }
    }

    /// Takes off the list what is due, and gives what nobody has begun.
    fn late(&self) -> Vec<Arc<Errand>> {
        let mut sent = self.sent.lock();
        let due = sent.partition_point(|(since, _)| since.elapsed() >= PATIENCE);
        let due: Vec<_> = sent.drain(..due).collect();
        drop(sent);
        due.iter().filter_map(|(_, errand)| errand.upgrade()).collect()
    }
}
