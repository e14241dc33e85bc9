//! The driver of a connection that is made of what each test needs of it.

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
