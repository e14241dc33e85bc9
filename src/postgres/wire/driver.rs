//! What reads and writes the socket: whoever waits for an answer.
//!
//! tokio-postgres keeps the socket in a future apart from its client. In a task of its own, each call would wake that
//! task, and be woken by it. So a call polls that future itself while it waits ([`Driver::wait`]), on the task that made
//! it. The [`keeper`](Driver::keep) is a task that does so while no call waits: for notifications, for what is left of a
//! dropped call, for users of the client, to say goodbye, and to see that the server hung up.
//!
//! All poll it with the same waker, that of [`Waiting`], which knows whom to wake. So nothing is handed over when a call
//! begins or ends, and the keeper sleeps through calls.
//!
//! To poll a future, and to clone, use or drop a waker, is foreign code, which runs under no lock: whoever polls the
//! socket takes it out for that long, and tells whoever missed it meanwhile.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_util::FutureExt;
use tokio::task::coop::poll_proceed;

use crate::lock::{Lock, foreign};

/// The socket's future and whoever polls it.
pub(crate) struct Driver {
    socket: Lock<Socket>,
    waiting: Arc<Waiting>,
    /// That of `waiting`.
    waker: Waker,
}

type ReadingConnection = Pin<Box<dyn Future<Output = ()> + Send>>;

enum Socket {
    Open(ReadingConnection),
    /// Somebody has it in hand; `missed` if somebody else wanted to poll it meanwhile.
    Polled {
        missed: bool,
    },
    /// Which closes the client.
    Ended,
}

impl Socket {
    /// Hands it out to be polled, if it is here.
    fn take(&mut self) -> Option<ReadingConnection> {
        match std::mem::replace(self, Self::Polled { missed: true }) {
            Self::Open(connection) => {
                *self = Self::Polled { missed: false };
                Some(connection)
            }
            Self::Polled { .. } => None,
            Self::Ended => {
                *self = Self::Ended;
                None
            }
        }
    }
}

impl Driver {
    /// `socket` ends when the connection does.
    pub(crate) fn new(socket: impl Future<Output = ()> + Send + 'static) -> Self {
        // A panic in it is nobody's fault who happens to poll it.
        let socket = AssertUnwindSafe(socket).catch_unwind().map(|outcome| {
            outcome.unwrap_or_else(|_panic| tracing::error!("the driver panicked, which ends its connection"));
        });
        // It has not been polled yet.
        let tasks = Tasks { woken: true, ..Tasks::default() };
        let waiting = Arc::new(Waiting(Lock::new(tasks)));
        let waker = Arc::clone(&waiting).into();
        Self { socket: Lock::new(Socket::Open(Box::pin(socket))), waiting, waker }
    }

    /// Awaits an answer that comes from the socket and from nowhere else, and drives the socket meanwhile.
    ///
    /// Only one call at a time may do so. Dropped, it leaves the rest of the answer to the keeper.
    pub(crate) async fn wait<T>(&self, mut answer: Pin<&mut impl Future<Output = T>>) -> T {
        let _call = ServedCall(&self.waiting);
        // Each time the socket has been polled, be it by the keeper, the answer is looked at: it has nobody to wake.
        let mut look = || answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        // The keeper may be at it when the call begins, and move the answer unseen.
        let mut begins = true;
        poll_fn(|cx| {
            self.waiting.begin(cx.waker());
            if begins && let Poll::Ready(answer) = look() {
                return Poll::Ready(answer);
            }
            loop {
                // When tokio wants other tasks to run, the socket gives nothing more, and wakes at once.
                drop(ready!(poll_proceed(cx)));
                if !self.waiting.was_woken(std::mem::take(&mut begins)) {
                    return Poll::Pending;
                }
                let socket = self.socket.lock().take();
                if let Some(socket) = socket {
                    let _ended = self.poll(socket);
                }
                if let Poll::Ready(answer) = look() {
                    return Poll::Ready(answer);
                }
            }
        })
        .await
    }

    /// Drives the socket while no call does, until the connection ends. Dropped, it ends the connection.
    pub(crate) async fn keep(self: Arc<Self>) {
        let keeper = Keeper(self);
        poll_fn(|cx| {
            let waker = cx.waker().clone();
            let mut socket = keeper.0.socket.lock();
            // Asked under the lock of the socket: a call that begins now finds it taken, and is told.
            let (alone, old) = keeper.0.waiting.keep(waker);
            let taken = if alone { socket.take() } else { None };
            let ended = matches!(*socket, Socket::Ended);
            drop(socket);
            drop(old);
            match taken {
                Some(socket) => keeper.0.poll(socket),
                None if ended => Poll::Ready(()),
                None => Poll::Pending,
            }
        })
        .await;
    }

    /// Polls the socket, which was taken for that, and puts it back.
    fn poll(&self, mut connection: ReadingConnection) -> Poll<()> {
        foreign();
        let polled = connection.as_mut().poll(&mut Context::from_waker(&self.waker));
        let mut socket = self.socket.lock();
        let missed = matches!(*socket, Socket::Polled { missed: true });
        let ended = polled.is_ready() || matches!(*socket, Socket::Ended);
        let left = if ended {
            *socket = Socket::Ended;
            Some(connection)
        } else {
            *socket = Socket::Open(connection);
            None
        };
        drop(socket);
        drop(left);
        if missed {
            self.waker.wake_by_ref();
        }
        if ended {
            self.waiting.wake_keeper();
        }
        polled
    }
}

/// Wakes the call that waits, or else the keeper.
struct Waiting(Lock<Tasks>);

/// Each waker is used once; its task leaves another when it is polled.
#[derive(Default)]
struct Tasks {
    /// A call waits.
    calls: bool,
    caller: Option<Waker>,
    /// The call is looking just now, and needs no waking.
    looking: bool,
    keeper: Option<Waker>,
    /// The socket has something new since it was last polled.
    woken: bool,
}

impl Waiting {
    /// From now on the caller is woken; it looks by itself first.
    fn begin(&self, waker: &Waker) {
        let mut tasks = self.0.lock();
        (tasks.calls, tasks.looking) = (true, true);
        let known = tasks.caller.as_ref().is_some_and(|caller| caller.will_wake(waker));
        drop(tasks);
        if !known {
            let caller = Some(waker.clone());
            let old = std::mem::replace(&mut self.0.lock().caller, caller);
            drop(old);
        }
    }

    /// Whether the socket has to be polled; if not, the caller looks no longer.
    fn was_woken(&self, anyway: bool) -> bool {
        let mut tasks = self.0.lock();
        tasks.looking = anyway | std::mem::take(&mut tasks.woken);
        tasks.looking
    }

    /// From now on the keeper is woken, and polls the socket first, unless a call waits. Gives back the waker it had
    /// before.
    fn keep(&self, waker: Waker) -> (bool, Option<Waker>) {
        let mut tasks = self.0.lock();
        let alone = !tasks.calls;
        tasks.woken &= !alone;
        (alone, tasks.keeper.replace(waker))
    }

    fn wake_keeper(&self) {
        let keeper = self.0.lock().keeper.take();
        wake(keeper);
    }
}

fn wake(waker: Option<Waker>) {
    foreign();
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut tasks = self.0.lock();
        tasks.woken = true;
        let waker = match () {
            () if tasks.looking => None,
            () if tasks.calls => tasks.caller.take(),
            () => tasks.keeper.take(),
        };
        drop(tasks);
        wake(waker);
    }
}

/// Stands for the call that waits.
struct ServedCall<'w>(&'w Waiting);

impl Drop for ServedCall<'_> {
    fn drop(&mut self) {
        let mut tasks = self.0.0.lock();
        (tasks.calls, tasks.looking) = (false, false);
        let caller = tasks.caller.take();
        // What the call was woken for, or saw coming, and did not do.
        let keeper = if tasks.woken { tasks.keeper.take() } else { None };
        drop(tasks);
        drop(caller);
        wake(keeper);
    }
}

struct Keeper(Arc<Driver>);

impl Drop for Keeper {
    fn drop(&mut self) {
        let ended = std::mem::replace(&mut *self.0.socket.lock(), Socket::Ended);
        drop(ended);
        // A call that waits has to learn of it.
        self.0.waker.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{OnceLock, mpsc};
    use std::time::{Duration, Instant};

    use super::*;

    /// A connection that is made of what a test needs of it.
    #[derive(Debug, Default)]
    struct Wire {
        polls: AtomicUsize,
        waker: OnceLock<Waker>,
        answered: AtomicBool,
    }

    impl Wire {
        /// Its driver; `step` gets the number of the poll, and says whether the connection goes on.
        fn driver(self: &Arc<Self>, mut step: impl FnMut(&Self, usize) -> bool + Send + 'static) -> Arc<Driver> {
            struct Open(Arc<Wire>);
            impl Drop for Open {
                fn drop(&mut self) {
                    // Those who wait learn that nothing comes.
                    self.0.answered.store(true, Ordering::SeqCst);
                }
            }
            let open = Open(Arc::clone(self));
            Arc::new(Driver::new(poll_fn(move |cx| {
                foreign();
                open.0.waker.get_or_init(|| cx.waker().clone());
                let number = open.0.polls.fetch_add(1, Ordering::SeqCst) + 1;
                if step(&open.0, number) { Poll::Pending } else { Poll::Ready(()) }
            })))
        }

        fn ring(&self) {
            self.waker.get().expect("polled").wake_by_ref();
        }

        /// Sends a request, and is ready when the answer is here.
        async fn call(&self) {
            self.ring();
            poll_fn(|_| if self.answered.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }).await;
        }

        async fn polled(&self, times: usize) {
            soon(async {
                while self.polls.load(Ordering::SeqCst) < times {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
    }

    async fn soon<T>(what: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let ended = tokio::time::timeout(Duration::from_secs(5), what).await.expect("it ends");
        // When the time is up, it is polled once more.
        assert!(began.elapsed() < Duration::from_secs(5), "nobody woke it");
        ended
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            foreign();
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_call_drives_the_socket_while_the_keeper_sleeps() {
        let wire = Arc::<Wire>::default();
        let driver = wire.driver(|wire, number| {
            // The answer comes when the socket is looked at again.
            wire.answered.store(number == 3, Ordering::SeqCst);
            true
        });
        let keeper = tokio::spawn(Arc::clone(&driver).keep());
        wire.polled(1).await;
        let answer = async {
            soon(driver.wait(pin!(wire.call()))).await;
        };
        let arrives = async {
            wire.polled(2).await;
            wire.ring();
        };
        tokio::join!(answer, arrives);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(wire.polls.load(Ordering::SeqCst), 3, "the keeper was woken too");
        // Now the keeper has it again.
        wire.ring();
        wire.polled(4).await;
        keeper.abort();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_answer_that_the_keeper_brings_as_the_call_begins_is_not_missed() {
        let wire = Arc::<Wire>::default();
        let ((entered, has_entered), (begun, has_begun)) = (mpsc::channel(), mpsc::channel());
        let driver = wire.driver(move |wire, number| {
            if number == 2 {
                entered.send(()).unwrap();
                has_begun.recv_timeout(Duration::from_secs(10)).unwrap();
                wire.answered.store(true, Ordering::SeqCst);
            }
            true
        });
        tokio::spawn(Arc::clone(&driver).keep());
        wire.polled(1).await;
        wire.ring();
        tokio::task::block_in_place(|| has_entered.recv_timeout(Duration::from_secs(10)).unwrap());
        let mut first = true;
        let answer = poll_fn(|_| {
            if std::mem::take(&mut first) {
                begun.send(()).unwrap();
                return Poll::Pending;
            }
            if wire.answered.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        });
        soon(driver.wait(pin!(answer))).await;
    }

    // Outside its worker threads, tokio wakes the task that shall let others run at once.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_socket_that_always_has_more_lets_other_tasks_run() {
        let (sender, mut messages) = tokio::sync::mpsc::unbounded_channel();
        (0..1000).for_each(|number| sender.send(number).unwrap());
        let wire = Arc::<Wire>::default();
        // Reads as a socket does: after some messages tokio wants the task to let others run, and gives no more before.
        let driver = Arc::new(Driver::new({
            let wire = Arc::clone(&wire);
            poll_fn(move |cx| {
                assert!(wire.polls.fetch_add(1, Ordering::SeqCst) < 1000, "it spins");
                while let Poll::Ready(Some(number)) = messages.poll_recv(cx) {
                    wire.answered.store(number == 999, Ordering::SeqCst);
                }
                Poll::Pending
            })
        }));
        let answer = poll_fn(|_| if wire.answered.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending });
        soon(driver.wait(pin!(answer))).await;
        assert!(wire.polls.load(Ordering::SeqCst) < 20, "{wire:?}");
    }

    #[tokio::test]
    async fn what_a_dropped_call_was_woken_for_is_left_to_the_keeper() {
        let wire = Arc::<Wire>::default();
        let driver = wire.driver(|_, _| true);
        tokio::spawn(Arc::clone(&driver).keep());
        wire.polled(1).await;
        {
            let call = pin!(wire.call());
            let mut call = pin!(driver.wait(call));
            let woken = Arc::<Woken>::default();
            assert!(call.as_mut().poll(&mut Context::from_waker(&Arc::clone(&woken).into())).is_pending());
            assert_eq!(woken.0.load(Ordering::SeqCst), 0, "it wakes itself");
            wire.ring();
            assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        }
        wire.polled(3).await;
    }

    #[tokio::test]
    async fn a_call_learns_that_the_connection_ended_whoever_ended_it() {
        let ends: [fn(&Wire, usize) -> bool; 3] =
            [|_, number| number < 2, |_, number| number < 2 || panic!("so"), |_, _| true];
        for (case, step) in ends.into_iter().enumerate() {
            let wire = Arc::<Wire>::default();
            let driver = wire.driver(step);
            let keeper = tokio::spawn(Arc::clone(&driver).keep());
            wire.polled(1).await;
            if case == 2 {
                // As when its runtime ends.
                let abort = async {
                    wire.polled(2).await;
                    keeper.abort();
                };
                let call = pin!(wire.call());
                tokio::join!(soon(driver.wait(call)), abort);
                continue;
            }
            soon(driver.wait(pin!(wire.call()))).await;
            soon(keeper).await.expect("the keeper ends too, and does not panic");
        }
    }
}
