//! Jobs: work on an engine, on a thread that may block.
//!
//! The engine stands behind a mutex that a job locks for its time. When a caller drops its future, the job is told to
//! stop and the engine stays where it is; the next call waits at the mutex until it really has stopped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::control::Control;
use super::engine::Engine;
use crate::connector::ResourceState;
use crate::crypto::exit_gate;
use crate::errand;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::sqlcipher::errors::another_key_later;
use crate::sqlcipher::ffi::commits;
use crate::sqlcipher::opening::reading::changed;

/// What a job takes along to its thread.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) control: Arc<Control>,
    pub(crate) engine: Mutex<Engine>,
}

/// What a job leaves behind.
#[derive(Debug)]
pub(crate) struct Done<T> {
    pub(crate) outcome: Result<T>,
    pub(crate) state: ResourceState,
}

impl Shared {
    pub(crate) fn new(control: Arc<Control>, engine: Engine) -> Self {
        Self { control, engine: Mutex::new(engine) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` while a job has it.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, Engine>> {
        match self.engine.try_lock() {
            Ok(engine) => Some(engine),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Whether the file was moved, replaced or deleted under a connection that is idle.
    pub(crate) fn has_moved(&self) -> bool {
        let _pass = exit_gate::enter();
        self.try_lock().is_some_and(|engine| !engine.watch.is_in_memory() && engine.has_moved())
    }

    /// Whether an idle connection would read what is there now.
    pub(crate) fn is_still(&self) -> bool {
        self.try_lock().is_none_or(|engine| engine.is_still())
    }

    /// Runs a job on this thread.
    pub(crate) fn work<T>(&self, job: u64, work: impl FnOnce(&mut Engine) -> Result<T>) -> Done<T> {
        let _pass = exit_gate::enter();
        let mut engine = self.lock();
        engine.begin_work();
        let done = self.work_on(&mut engine, job, work);
        let (told, news) = (engine.tell(), engine.take_news());
        drop(engine);
        if let Some(feed) = told {
            feed.wake();
        }
        if let Some(news) = news {
            news.tell();
        }
        done
    }

    fn work_on<T>(&self, engine: &mut Engine, job: u64, work: impl FnOnce(&mut Engine) -> Result<T>) -> Done<T> {
        engine.end_snapshot();
        if engine.keeps_snapshot() {
            let error = Error::new(ErrorKind::Connection, "a read transaction could not be ended");
            return Done { outcome: Err(error.because(Reason::Broken).transient()), state: ResourceState::Broken };
        }
        let Some(running) = self.control.start(job) else {
            return Done { outcome: Err(stopped()), state: state_of(engine) };
        };
        let (began, inside) = (Instant::now(), engine.in_transaction());
        let commits = commits::count(&engine.connection);
        let outcome = catch_unwind(AssertUnwindSafe(|| work(engine)));
        let outcome =
            outcome.map(|outcome| outcome.and_then(|done| engine.is_still().then_some(done).ok_or_else(changed)));
        drop(running);
        if inside {
            engine.worked += began.elapsed();
        }
        if outcome.as_ref().is_ok_and(Result::is_ok) {
            engine.checkpoint_if_due();
        }
        match outcome {
            Ok(outcome) => {
                let mut outcome = engine.stiffen().and(outcome);
                let broken = outcome.as_mut().is_err_and(|error| engine.complete_error(error));
                if commits::count(&engine.connection) != commits {
                    outcome = outcome.map_err(another_key_later);
                }
                let state = if broken { ResourceState::Broken } else { state_of(engine) };
                Done { outcome, state }
            }
            Err(_) => Done { outcome: Err(Error::panicked("closure or SQL function")), state: ResourceState::Broken },
        }
    }
}

pub(crate) fn state_of(engine: &Engine) -> ResourceState {
    let open = engine.in_transaction();
    match (open, engine.session.is_altered()) {
        _ if engine.session.has_lost_transaction(open) => ResourceState::Failed,
        (true, _) => ResourceState::InTransaction,
        (false, true) => ResourceState::Altered,
        (false, false) => ResourceState::Idle,
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Cancelled, "the call was stopped before it began")
}

/// Tells a job to stop when its caller goes away.
#[derive(Debug)]
pub(crate) struct StopOnDrop {
    control: Arc<Control>,
    job: Option<u64>,
}

impl StopOnDrop {
    pub(crate) fn new(control: &Arc<Control>, job: u64) -> Self {
        Self { control: Arc::clone(control), job: Some(job) }
    }

    pub(crate) fn disarm(mut self) {
        self.job = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(job) = self.job {
            self.control.cancel(job);
        }
    }
}

/// Runs `work` on a thread that may block.
pub(crate) async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    errand::send(work).await.map_err(|_| Error::panicked("engine"))
}

impl Done<()> {
    /// The job panicked.
    pub(crate) fn lost() -> Self {
        Self { outcome: Err(Error::panicked("engine")), state: ResourceState::Broken }
    }

    pub(crate) fn take_outcome(&mut self) -> Result<()> {
        std::mem::replace(&mut self.outcome, Ok(()))
    }
}

/// Waits until nobody else has the engine: a job whose caller went away was told to stop, and a look at kept snapshots
/// is short.
pub(crate) fn unshared(mut shared: Arc<Shared>) -> Engine {
    loop {
        match Arc::try_unwrap(shared) {
            Ok(alone) => return alone.engine.into_inner().unwrap_or_else(PoisonError::into_inner),
            Err(still_shared) => shared = still_shared,
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}
