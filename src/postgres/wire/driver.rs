//! What reads and writes the socket: whoever waits for an answer.
//!
//! tokio-postgres keeps the socket in a future apart from its client. In a task of its own, each call would wake that
//! task, and be woken by it. So a call polls that future itself while it waits ([`Driver::wait`]), on the task that made
//! it. The [`keeper`](Driver::keep) is a task that does so while no call waits: for notifications, for what is left of a
//! dropped call, for users of the client, to say goodbye, and to see that the server hung up.
//!
//! All poll it with the same waker, the [`Bell`], which knows whom to wake. So nothing is handed over when a call begins
//! or ends, and the keeper sleeps through calls.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_util::FutureExt;
use tokio::task::coop::poll_proceed;

/// The socket's future and whoever polls it.
pub(crate) struct Driver {
    /// `None` when it has ended, which closes the client.
    socket: Mutex<Option<Socket>>,
    bell: Arc<Bell>,
    /// That of the bell.
    waker: Waker,
}

type Socket = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Driver {
    /// `socket` ends when the connection does.
    pub(crate) fn new(socket: impl Future<Output = ()> + Send + 'static) -> Self {
        // A panic in it is nobody's fault who happens to poll it.
        let socket = AssertUnwindSafe(socket).catch_unwind().map(|outcome| {
            outcome.unwrap_or_else(|_panic| tracing::error!("the driver panicked, which ends its connection"));
        });
        // It has not been polled yet.
        let bell = Arc::new(Bell(Mutex::new(Ears { rang: true, ..Ears::default() })));
        Self { socket: Mutex::new(Some(Box::pin(socket))), waker: Arc::clone(&bell).into(), bell }
    }

    /// Awaits an answer that comes from the socket and from nowhere else, and drives the socket meanwhile.
    ///
    /// Only one call at a time may do so. Dropped, it leaves the rest of the answer to the keeper.
    pub(crate) async fn wait<T>(&self, mut answer: Pin<&mut impl Future<Output = T>>) -> T {
        let _caller = Caller(&self.bell);
        // Nobody else polls the socket while this call waits, and each time the answer is looked at afterwards: it has
        // nobody to wake.
        let mut look = || answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        // The keeper may be at it when the call begins, and move the answer unseen.
        let mut begins = true;
        poll_fn(|cx| {
            self.bell.begin(cx.waker());
            if begins && let Poll::Ready(answer) = look() {
                return Poll::Ready(answer);
            }
            loop {
                // When tokio wants other tasks to run, the socket gives nothing more, and rings at once.
                drop(ready!(poll_proceed(cx)));
                if !self.bell.rang(std::mem::take(&mut begins)) {
                    return Poll::Pending;
                }
                let _ended = self.poll(self.lock());
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
            let socket = keeper.0.lock();
            // Asked under the lock: a call that begins now polls the socket after this.
            let alone = keeper.0.bell.keep(cx.waker());
            if alone || socket.is_none() { keeper.0.poll(socket) } else { Poll::Pending }
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Socket>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, mut socket: MutexGuard<'_, Option<Socket>>) -> Poll<()> {
        let polled = match &mut *socket {
            Some(future) => future.as_mut().poll(&mut Context::from_waker(&self.waker)),
            None => Poll::Ready(()),
        };
        if polled.is_ready() {
            let ended = socket.take();
            drop(socket);
            drop(ended);
            self.bell.wake_keeper();
        }
        polled
    }
}

/// Wakes the call that waits, or else the keeper.
struct Bell(Mutex<Ears>);

#[derive(Default)]
struct Ears {
    /// The task of the call that waits.
    caller: Option<Waker>,
    /// It is looking just now, and needs no waking.
    looking: bool,
    keeper: Option<Waker>,
    /// It rang since the socket was last polled.
    rang: bool,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Ears> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the caller is woken, who looks for himself first.
    fn begin(&self, waker: &Waker) {
        let mut ears = self.lock();
        ears.looking = true;
        if ears.caller.as_ref().is_none_or(|caller| !caller.will_wake(waker)) {
            drop(ears);
            // Wakers are made and dropped by foreign code.
            let caller = Some(waker.clone());
            let old = std::mem::replace(&mut self.lock().caller, caller);
            drop(old);
        }
    }

    /// Whether the socket has to be polled; if not, the caller looks no longer.
    fn rang(&self, anyway: bool) -> bool {
        let mut ears = self.lock();
        ears.looking = anyway | std::mem::take(&mut ears.rang);
        ears.looking
    }

    /// From now on the keeper is woken, and polls the socket first, unless a call waits.
    fn keep(&self, waker: &Waker) -> bool {
        let mut ears = self.lock();
        ears.keeper = Some(waker.clone());
        let alone = ears.caller.is_none();
        ears.rang &= !alone;
        alone
    }

    fn wake_keeper(&self) {
        let keeper = self.lock().keeper.clone();
        keeper.inspect(Waker::wake_by_ref);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut ears = self.lock();
        ears.rang = true;
        let waker = if ears.looking { None } else { ears.caller.clone().or_else(|| ears.keeper.clone()) };
        drop(ears);
        waker.inspect(Waker::wake_by_ref);
    }
}

/// Stands for the call that waits.
struct Caller<'b>(&'b Bell);

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        let mut ears = self.0.lock();
        let caller = ears.caller.take();
        ears.looking = false;
        // What the call was woken for, or saw coming, and did not do.
        let waker = if ears.rang { ears.keeper.clone() } else { None };
        drop(ears);
        drop(caller);
        waker.inspect(Waker::wake_by_ref);
    }
}

struct Keeper(Arc<Driver>);

impl Drop for Keeper {
    fn drop(&mut self) {
        let ended = self.0.lock().take();
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
        // Now it is his again.
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
