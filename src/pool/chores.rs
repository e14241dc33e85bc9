//! Background work for which somebody may be waiting.
//!
//! It runs as a task of the runtime on which it was begun. That runtime may end, or stop being driven (a `block_on` that
//! returned), or be blocked by its user, while callers on other runtimes wait for the connection that the work has. So
//! whoever waits in the pool looks after it from time to time, and takes over what does not get on: the same future goes
//! on as a task of its runtime.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{self, Duration};

use scopeguard::{ScopeGuard, guard};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::clock::{Elapsed, timeout_at};
use crate::lock::{Lock, foreign};

/// Work that was woken, and has not run for this long, is taken over. By the clock on the wall, also in tests that pause
/// tokio's.
const NEGLECT: Duration = Duration::from_millis(10);

/// A waiting call looks for such work after this pause, then after twice that, and so on up to the second.
const LOOKS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(320)];

type ChoreWork = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The background work of one pool.
///
/// Who leaves work sets `any_left` and then looks at `waiting`; who waits, or ends to wait, changes `waiting` and then looks at
/// `any_left`. One of the two must see the other, or the work is forgotten: that takes `SeqCst` on both.
#[derive(Default)]
pub(super) struct Chores {
    known: Lock<Vec<Weak<Chore>>>,
    /// Work whose runtime has ended, while somebody waited.
    left: Lock<Vec<LeftChore>>,
    any_left: AtomicBool,
    /// How many wait, and will look.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Chore(Lock<ChoreState>);

#[derive(Default)]
struct ChoreState {
    /// Taken out while it is polled, and when it is done.
    work: Option<ChoreWork>,
    /// To be polled once more by its present keeper.
    again: bool,
    /// Since when it has been waiting to be polled.
    woken: Option<time::Instant>,
    keeper: Option<Waker>,
    /// Nobody keeps it any more: the last keeper has gone while an earlier one polled it.
    alone: bool,
    done: bool,
    /// Numbers the keepers; only the last one counts.
    generation: u64,
}

impl Chores {
    /// Runs `work` on `runtime`, or wherever somebody waits.
    pub(super) fn begin(self: &Arc<Self>, runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) {
        let state =
            ChoreState { work: Some(Box::pin(work)), woken: Some(time::Instant::now()), ..ChoreState::default() };
        let chore = Arc::new(Chore(Lock::new(state)));
        {
            let mut known = self.known.lock();
            known.retain(|chore| chore.strong_count() > 0);
            known.push(Arc::downgrade(&chore));
        }
        foreign();
        runtime.spawn(ChoreKeeper { chores: Arc::clone(self), chore, generation: 0 });
    }

    /// Takes over what does not get on. Called in a runtime, by those who wait.
    pub(super) fn look_after(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut neglected: Vec<_> = self.take_left().into_iter().map(|left| left.chore).collect();
        let known: Vec<_> = self.known.lock().iter().filter_map(Weak::upgrade).collect();
        neglected.extend(known.into_iter().filter(|chore| chore.is_neglected()));
        for chore in neglected {
            let generation = chore.next_generation();
            foreign();
            runtime.spawn(ChoreKeeper { chores: Arc::clone(self), chore, generation });
        }
    }

    /// Somebody waits from now on, and looks after the work from time to time.
    pub(super) fn attend(self: &Arc<Self>) -> Attendant<'_> {
        self.waiting.fetch_add(1, SeqCst);
        if self.any_left.load(SeqCst) {
            self.look_after();
        }
        Attendant(self)
    }

    /// The runtime of `chore` has ended. If nobody will look, it is given up, and its guards give back what they hold.
    fn leave(&self, left: LeftChore) {
        self.left.lock().push(left);
        self.any_left.store(true, SeqCst);
        if self.waiting.load(SeqCst) == 0 {
            self.give_up();
        }
    }

    fn give_up(&self) {
        for left in self.take_left() {
            left.give_up();
        }
    }

    fn take_left(&self) -> Vec<LeftChore> {
        self.any_left.store(false, SeqCst);
        std::mem::take(&mut *self.left.lock())
    }
}

/// Stands for a waiting caller.
pub(super) struct Attendant<'a>(&'a Arc<Chores>);

impl Attendant<'_> {
    /// Waits for `news` until `deadline`, if there is one, and looks after the work meanwhile.
    pub(super) async fn wait<T>(&self, news: impl Future<Output = T>, deadline: Option<Instant>) -> Result<T, Elapsed> {
        let (mut news, mut pause) = (pin!(news), LOOKS[0]);
        loop {
            let look = Instant::now() + pause;
            let end = deadline.map_or(look, |deadline| deadline.min(look));
            match timeout_at(end, news.as_mut()).await {
                Err(Elapsed) if deadline != Some(end) => self.0.look_after(),
                outcome => return outcome,
            }
            pause = LOOKS[1].min(pause * 2);
        }
    }
}

impl Drop for Attendant<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, SeqCst) == 1 && self.0.any_left.load(SeqCst) {
            self.0.give_up();
        }
    }
}

/// Work without a runtime, and the generation of its last keeper.
struct LeftChore {
    chore: Arc<Chore>,
    generation: u64,
}

impl LeftChore {
    /// Drops the work, unless somebody has taken it over. What it waits for holds its waker, and so the chore: to let go
    /// of that would not be enough.
    fn give_up(self) {
        let mut state = self.chore.0.lock();
        let work = if state.generation == self.generation { state.work.take() } else { None };
        state.done |= work.is_some();
        drop(state);
        foreign();
        drop(work);
    }
}

impl Chore {
    fn is_neglected(&self) -> bool {
        let state = self.0.lock();
        state.work.is_some() && state.woken.is_some_and(|since| since.elapsed() >= NEGLECT)
    }

    fn next_generation(&self) -> u64 {
        let mut state = self.0.lock();
        state.generation += 1;
        state.alone = false;
        state.woken = Some(time::Instant::now());
        state.generation
    }

    /// Makes `keeper` the one that is woken. False: it has been replaced.
    fn keep(&self, keeper: &Waker, generation: u64) -> bool {
        let keeper = keeper.clone();
        let mut state = self.0.lock();
        let is_current = state.generation == generation;
        let old = if is_current { state.keeper.replace(keeper) } else { Some(keeper) };
        drop(state);
        drop(old);
        is_current
    }

    fn poll(self: &Arc<Self>) -> Poll<()> {
        let waker = Waker::from(Arc::clone(self));
        loop {
            // When the work has ended, be it by a panic. It is dropped before that.
            let ended = guard(self, |chore| chore.end());
            let mut state = self.0.lock();
            state.woken = None;
            let Some(mut work) = state.work.take() else {
                ScopeGuard::into_inner(ended);
                state.again = true;
                return if state.done { Poll::Ready(()) } else { Poll::Pending };
            };
            drop(state);
            foreign();
            if work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                return Poll::Ready(());
            }
            ScopeGuard::into_inner(ended);
            let mut state = self.0.lock();
            state.work = Some(work);
            if !std::mem::take(&mut state.again) {
                return Poll::Pending;
            }
        }
    }

    /// A keeper that took it over meanwhile has nothing to do.
    fn end(&self) {
        let mut state = self.0.lock();
        state.done = true;
        let keeper = state.keeper.take();
        drop(state);
        if let Some(keeper) = keeper {
            foreign();
            keeper.wake();
        }
    }

    /// Whether the keeper that has just polled it has to keep it again; its generation then.
    fn is_alone(&self) -> Option<u64> {
        let mut state = self.0.lock();
        if !std::mem::take(&mut state.alone) || state.done {
            return None;
        }
        state.generation += 1;
        Some(state.generation)
    }
}

impl Wake for Chore {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.0.lock();
        state.woken.get_or_insert_with(time::Instant::now);
        let keeper = state.keeper.take();
        drop(state);
        if let Some(keeper) = keeper {
            foreign();
            keeper.wake();
        }
    }
}

/// Runs a chore as a task of one runtime.
struct ChoreKeeper {
    chores: Arc<Chores>,
    chore: Arc<Chore>,
    generation: u64,
}

impl Future for ChoreKeeper {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while self.chore.keep(cx.waker(), self.generation) {
            let polled = self.chore.poll();
            match self.chore.is_alone() {
                Some(generation) => self.generation = generation,
                None => return polled,
            }
        }
        Poll::Ready(())
    }
}

impl Drop for ChoreKeeper {
    fn drop(&mut self) {
        let mut state = self.chore.0.lock();
        let is_last = state.generation == self.generation && !state.done;
        let is_left = is_last && state.work.is_some();
        state.alone |= is_last && !is_left;
        drop(state);
        if is_left {
            self.chores.leave(LeftChore { chore: Arc::clone(&self.chore), generation: self.generation });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc;
    use std::thread;

    use tokio::runtime::{Builder, Runtime};
    use tokio::task::JoinHandle;

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    /// A chore whose first poll, on its own runtime, lasts until it is told to go on: a runtime that is blocked. Then it
    /// ends as `then` says. Another runtime takes it over meanwhile.
    fn taken_over(then: impl Fn(u32) -> Poll<()> + Send + 'static) -> (Runtime, Arc<Chore>, mpsc::Sender<()>) {
        let (first, chores) = (runtime(), Arc::<Chores>::default());
        let (begun, has_begun) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel::<()>();
        let polls = AtomicU32::new(0);
        chores.begin(
            first.handle(),
            poll_fn(move |cx| {
                let poll = polls.fetch_add(1, SeqCst);
                if poll == 0 {
                    begun.send(cx.waker().clone()).unwrap();
                    goes_on.recv().unwrap();
                }
                then(poll)
            }),
        );
        has_begun.recv().unwrap();
        let chore = chores.known.lock()[0].upgrade().unwrap();
        (first, chore, go_on)
    }

    fn keep(chore: &Arc<Chore>, runtime: &Runtime) -> JoinHandle<()> {
        let (chore, chores, generation) = (Arc::clone(chore), Arc::default(), chore.next_generation());
        runtime.spawn(ChoreKeeper { chores, chore, generation })
    }

    fn until(what: &str, happened: impl Fn() -> bool) {
        let end = time::Instant::now() + Duration::from_secs(20);
        while !happened() {
            assert!(time::Instant::now() < end, "{what}: did not happen");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_chore_that_panics_has_ended_for_whoever_took_it_over() {
        let (_first, chore, go_on) = taken_over(|_| panic!("as told"));
        let second = runtime();
        let keeper = keep(&chore, &second);
        until("taking over", || chore.0.lock().again);
        go_on.send(()).unwrap();
        until("the end", || keeper.is_finished());
        assert!(chore.0.lock().done);
    }

    #[test]
    fn a_chore_whose_last_keeper_goes_while_an_earlier_one_polls_it_is_kept_by_that_one() {
        let (done, is_done) = mpsc::channel();
        let (_first, chore, go_on) = taken_over(move |poll| match poll {
            // Woken once more, by the one who came; then by the test.
            0 | 1 => Poll::Pending,
            _ => {
                done.send(()).unwrap();
                Poll::Ready(())
            }
        });
        let second = runtime();
        let keeper = keep(&chore, &second);
        until("taking over", || chore.0.lock().again);
        keeper.abort();
        assert!(second.block_on(keeper).unwrap_err().is_cancelled());
        go_on.send(()).unwrap();
        until("the polls", || {
            let state = chore.0.lock();
            state.done || state.work.is_some()
        });
        thread::sleep(Duration::from_millis(5));
        chore.wake_by_ref();
        is_done.recv_timeout(Duration::from_secs(5)).expect("nobody keeps it");
    }
}
