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

    /// Whether the connection is over, so that no answer comes any more.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(*self.socket.lock(), Socket::Ended)
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
mod tests;
