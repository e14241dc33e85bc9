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

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::clock::{Elapsed, timeout_at};
use crate::lock::{Lock, foreign};

/// Work that was woken, and has not run for this long, is taken over. By the clock on the wall, also in tests that pause
/// tokio's.
const NEGLECT: Duration = Duration::from_millis(10);

/// Whoever waits looks for such work after this pause, then after twice that, and so on up to the second.
const LOOKS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(320)];

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The background work of one pool.
#[derive(Default)]
pub(super) struct Chores {
    known: Lock<Vec<Weak<Chore>>>,
    /// Work whose runtime has ended, while somebody waited.
    left: Lock<Vec<Left>>,
    any_left: AtomicBool,
    /// How many wait, and will look.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Chore(Lock<State>);

#[derive(Default)]
struct State {
    /// Taken out while it is polled, and when it is done.
    work: Option<Work>,
    /// To be polled once more by who polls it now.
    again: bool,
    /// Since when it has been waiting to be polled.
    woken: Option<time::Instant>,
    keeper: Option<Waker>,
    done: bool,
    /// Numbers the keepers; only the last one counts.
    turn: u64,
}

impl Chores {
    /// Runs `work` on `runtime`, or wherever somebody waits.
    pub(super) fn begin(self: &Arc<Self>, runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) {
        let state = State { work: Some(Box::pin(work)), woken: Some(time::Instant::now()), ..State::default() };
        let chore = Arc::new(Chore(Lock::new(state)));
        {
            let mut known = self.known.lock();
            known.retain(|chore| chore.strong_count() > 0);
            known.push(Arc::downgrade(&chore));
        }
        foreign();
        runtime.spawn(Keeper { chores: Arc::clone(self), chore, turn: 0 });
    }

    /// Takes over what does not get on. Called in a runtime, by those who wait.
    pub(super) fn look_after(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut neglected: Vec<_> = self.take_left().into_iter().map(|left| left.chore).collect();
        let known: Vec<_> = self.known.lock().iter().filter_map(Weak::upgrade).collect();
        neglected.extend(known.into_iter().filter(|chore| chore.is_neglected()));
        for chore in neglected {
            let turn = chore.next_turn();
            runtime.spawn(Keeper { chores: Arc::clone(self), chore, turn });
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
    fn leave(&self, left: Left) {
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

    fn take_left(&self) -> Vec<Left> {
        self.any_left.store(false, SeqCst);
        std::mem::take(&mut *self.left.lock())
    }
}

/// Stands for a caller who waits.
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

/// Work without a runtime, and the turn of its last keeper.
struct Left {
    chore: Arc<Chore>,
    turn: u64,
}

impl Left {
    /// Drops the work, unless somebody has taken it over. What it waits for holds its waker, and so the chore: to let go
    /// of that would not be enough.
    fn give_up(self) {
        let mut state = self.chore.0.lock();
        let work = if state.turn == self.turn { state.work.take() } else { None };
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

    fn next_turn(&self) -> u64 {
        let mut state = self.0.lock();
        state.turn += 1;
        state.woken = Some(time::Instant::now());
        state.turn
    }

    /// Makes `keeper` the one who is woken. False: it has been replaced.
    fn keep(&self, keeper: &Waker, turn: u64) -> bool {
        let keeper = keeper.clone();
        let mut state = self.0.lock();
        let is_current = state.turn == turn;
        let old = if is_current { state.keeper.replace(keeper) } else { Some(keeper) };
        drop(state);
        drop(old);
        is_current
    }

    fn poll(self: &Arc<Self>) -> Poll<()> {
        let waker = Waker::from(Arc::clone(self));
        loop {
            let mut state = self.0.lock();
            state.woken = None;
            let Some(mut work) = state.work.take() else {
                state.again = true;
                return if state.done { Poll::Ready(()) } else { Poll::Pending };
            };
            drop(state);
            foreign();
            if work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                drop(work);
                // Whoever took it over meanwhile has nothing to do.
                let mut state = self.0.lock();
                state.done = true;
                let keeper = state.keeper.take();
                drop(state);
                if let Some(keeper) = keeper {
                    keeper.wake();
                }
                return Poll::Ready(());
            }
            let mut state = self.0.lock();
            state.work = Some(work);
            if !std::mem::take(&mut state.again) {
                return Poll::Pending;
            }
        }
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
struct Keeper {
    chores: Arc<Chores>,
    chore: Arc<Chore>,
    turn: u64,
}

impl Future for Keeper {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.chore.keep(cx.waker(), self.turn) { self.chore.poll() } else { Poll::Ready(()) }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let state = self.chore.0.lock();
        let is_left = state.turn == self.turn && state.work.is_some();
        drop(state);
        if is_left {
            self.chores.leave(Left { chore: Arc::clone(&self.chore), turn: self.turn });
        }
    }
}
