//! Running other people's code so that its panics and hangs stay where they are.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use crate::clock::{self, timeout_at};
use crate::error::{Error, ErrorKind, Result};

/// Runs `future` until `deadline`. A panic becomes an error that names `who`, and so does running out of time.
pub(super) async fn guarded<T>(who: &str, deadline: Instant, future: impl Future<Output = Result<T>>) -> Result<T> {
    let mut future = pin!(AssertUnwindSafe(future).catch_unwind());
    // Most health checks answer at once, so the clock and the timer are only for those that do not.
    let outcome = match poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => {
            let limit = deadline.saturating_duration_since(Instant::now());
            let late = |_| {
                Error::new(ErrorKind::Timeout, format!("the {who} did not finish within {limit:.1?}"))
                    .hint("look at what it waits for, or give it more time")
                    .transient()
            };
            timeout_at(deadline, future).await.map_err(late)?
        }
    };
    outcome.unwrap_or_else(|panic| Err(clock::lacking(&*panic).unwrap_or_else(|| Error::panicked(who))))
}

/// Calls `function`; `None` if it panics.
pub(super) fn caught<T>(function: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(function)).ok()
}
