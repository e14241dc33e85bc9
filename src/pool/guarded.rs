//! Running other people's code so that its panics and hangs stay where they are.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout_at};

use crate::{Error, ErrorKind, Result};

/// Runs `future` until `deadline`. A panic becomes an error that names `who`, and so does running out of time.
pub(super) async fn guarded<T>(who: &str, deadline: Instant, future: impl Future<Output = Result<T>>) -> Result<T> {
    let mut future = pin!(AssertUnwindSafe(future).catch_unwind());
    // Most health checks answer at once, so the timer is made only for those that do not.
    let first = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
    let outcome = match first {
        Poll::Ready(outcome) => Ok(outcome),
        Poll::Pending => timeout_at(deadline, future).await,
    };
    match outcome {
        Ok(Ok(result)) => result,
        Ok(Err(_payload)) => Err(Error::panicked(who)),
        Err(_elapsed) => Err(Error::new(ErrorKind::Timeout, format!("the {who} did not finish in time")).transient()),
    }
}

/// Calls `function`; `None` if it panics.
pub(super) fn caught<T>(function: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(function)).ok()
}
