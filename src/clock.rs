//! Time, and the runtime that keeps it.
//!
//! A tokio timer belongs to the runtime on which it was made, and panics when it is polled after that has ended. Work
//! that moves from one runtime to another ([`Chores`](crate::pool::Chores)) waits by the timers of this room, which move
//! along. A runtime without timers, or none at all, is found out by [`check`], before anything has begun.

use std::any::Any;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::catch_unwind;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};

/// Time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// Waits until `at`, on whatever runtime it is polled.
pub(crate) async fn sleep_until(at: Instant) {
    loop {
        let home = runtime();
        let mut sleep = pin!(tokio::time::sleep_until(at));
        let came =
            poll_fn(|cx| if runtime() == home { sleep.as_mut().poll(cx).map(|()| true) } else { Poll::Ready(false) });
        if came.await {
            return;
        }
    }
}

/// Waits for so long; for ever, if that is beyond all clocks.
pub(crate) async fn sleep(pause: Duration) {
    match Instant::now().checked_add(pause) {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Runs `work` until `at`.
pub(crate) async fn timeout_at<T>(at: Instant, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut work = pin!(work);
    // Whatever share of the thread's time the work has used up, the time is told.
    let mut late = pin!(unconstrained(sleep_until(at)));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => late.as_mut().poll(cx).map(|()| Err(Elapsed)),
    })
    .await
}

fn runtime() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

/// Whether this code runs in a tokio runtime that has timers.
///
/// # Errors
/// [`ErrorKind::Config`], which says what is missing.
pub(crate) fn check() -> Result<()> {
    thread_local! {
        /// The last one that had them.
        static GOOD: Cell<Option<Id>> = const { Cell::new(None) };
    }
    let here = present()?.id();
    if GOOD.get() != Some(here) {
        // tokio has no other way to ask.
        catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).map_err(|_panic| without("timers", "enable_time"))?;
        GOOD.set(Some(here));
    }
    Ok(())
}

/// The runtime in which this code runs.
///
/// # Errors
/// [`ErrorKind::Config`] outside of any.
pub(crate) fn present() -> Result<Handle> {
    Handle::try_current().map_err(|_none| {
        Error::new(ErrorKind::Config, "this call was made outside of a tokio runtime")
            .hint("call it from #[tokio::main], Runtime::block_on or a spawned task, or enter one by Handle::enter")
    })
}

/// The error of code that panicked because its runtime lacks something; `None` for other panics.
pub(crate) fn lacking(panic: &(dyn Any + Send)) -> Option<Error> {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str))?;
    if text.contains("IO is disabled") {
        Some(without("I/O", "enable_io"))
    } else if text.contains("timers are disabled") {
        Some(without("timers", "enable_time"))
    } else {
        None
    }
}

#[cold]
fn without(what: &str, how: &str) -> Error {
    Error::new(ErrorKind::Config, format!("the tokio runtime of this call has no {what}"))
        .hint(format!("build it with {how}() or enable_all()"))
}
