//! The contract of an observer: it is told what the calls and the connections of a database do.
//!
//! Floor 1. An observer is foreign code: it is called under no lock, and its panic stays where it is. Where there is none,
//! nothing is measured and no clock is read.

mod event;
mod histogram;
mod metrics;
mod moments;
mod observers;
mod readings;
mod slow;
#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
mod telemetry;

pub(crate) use event::system;
pub use event::{CallKind, CallOutcome, Event, ObservedCall};
pub use histogram::Histogram;
pub use metrics::{CallMetrics, ConnectionMetrics, Metrics, MetricsRecorder};
pub(crate) use moments::LoanMoments;
pub(crate) use observers::{Observers, PoolObservers};
pub(crate) use readings::ReadingsSource;
pub use readings::{ObservedPool, PoolReadings};
pub(crate) use slow::SlowCalls;
#[cfg(feature = "opentelemetry")]
pub use telemetry::MeterMetrics;
#[cfg(feature = "metrics")]
pub use telemetry::MetricsFacade;

use std::sync::Arc;
use std::time::Duration;

/// Is told what happens in a database: of each call when it begins and when it ends, and of its connections.
///
/// **For implementors.** [`observe`](Observer::observe) runs on the thread of whoever makes the call, which waits for it, so it
/// must be short and never block. It must not call the database that it observes.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// use strongroom::AsyncDatabase;
/// use strongroom::database::{Event, Observer};
///
/// #[derive(Default)]
/// struct Failures(AtomicU64);
///
/// impl Observer for Failures {
///     fn observe(&self, event: &Event<'_>) {
///         if let Event::CallEnded(_, outcome) = event {
///             self.0.fetch_add(u64::from(outcome.error.is_some()), Relaxed);
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// let failures = Arc::new(Failures::default());
/// let db = AsyncDatabase::builder(":memory:").observer(Arc::clone(&failures)).open().await?;
/// db.execute("SELEC 1", ()).await.unwrap_err();
/// assert_eq!(failures.0.load(Relaxed), 1);
/// # Ok(()) }
/// ```
pub trait Observer: Send + Sync {
    /// Something has happened.
    fn observe(&self, event: &Event<'_>);

    /// Of statements that ran for at least so long, [`CallOutcome::effort`] is wanted: the plan, and what the engine had to do.
    /// Asked once, when the database is built; `None`, as provided: of none. Several observers get it from the least time on
    /// that one of them says.
    fn slow(&self) -> Option<Duration> {
        None
    }

    /// An observer for this pool alone, which is told of it in place of this one. Asked once, when the pool is built. An
    /// observer that counts by pools gives one for each; it may keep `pool`, to [read](ObservedPool::readings) the state of it
    /// later. `None`, as provided: this one is told.
    fn for_pool(&self, pool: &ObservedPool) -> Option<Box<dyn Observer>> {
        let _ = pool;
        None
    }
}

impl<O: Observer + ?Sized> Observer for Box<O> {
    fn observe(&self, event: &Event<'_>) {
        (**self).observe(event);
    }

    fn slow(&self) -> Option<Duration> {
        (**self).slow()
    }

    fn for_pool(&self, pool: &ObservedPool) -> Option<Box<dyn Observer>> {
        (**self).for_pool(pool)
    }
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn observe(&self, event: &Event<'_>) {
        (**self).observe(event);
    }

    fn slow(&self) -> Option<Duration> {
        (**self).slow()
    }

    fn for_pool(&self, pool: &ObservedPool) -> Option<Box<dyn Observer>> {
        (**self).for_pool(pool)
    }
}
