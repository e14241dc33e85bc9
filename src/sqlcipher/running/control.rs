//! What the engine's callbacks look at while a job runs: whether it is to stop.
//!
//! Jobs on one connection are numbered. Cancelling names a number, so a cancel that comes late hits nothing: the next
//! job has another one. This replaces `sqlite3_interrupt`, which hits whatever runs at that moment.
//!
//! A statement that runs inline, on the caller's own task, has a budget instead: it may not wait for locks, and is
//! stopped when it turns out to be long.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::time::{Duration, Instant};

use crate::connector::Cancel;
use crate::crypto::exit_gate;

/// The numbers of the running and the cancelled jobs of one connection.
///
/// `running` and `budget` are written by the thread that has the engine's lock, which hands them on. From outside comes
/// `cancelled` alone, which only grows, and names its job: seen late, it stops late. A cancel before [`start`](Self::start) is
/// seen by it, as the number of the job was handed out before, and given to the canceller.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// The job that runs; 0 between jobs.
    running: AtomicU64,
    /// Jobs up to this number are to stop.
    cancelled: AtomicU64,
    /// What is left of the budget of an inline statement, in questions; see [`NO_BUDGET`] and [`SPENT`].
    budget: AtomicU8,
}

/// Nothing runs inline.
const NO_BUDGET: u8 = 0;

/// The inline statement was stopped.
const SPENT: u8 = 1;

/// What runs inline is not stopped for being long, but waits for no lock either.
const ENDLESS: u8 = u8::MAX;

/// SQLite counts the steps of a prepared statement over all its runs, so the first question may come at once. The
/// second one within a run means that a whole interval has passed.
const BUDGET: u8 = 3;

/// Between two looks whether a lock is free. SQLite's own pauses grow to 100 ms. Most that is waited for here is our own
/// copying of the log, which has the lock for two syncs of the disk. Another process that writes all the time leaves the lock
/// for microseconds only, which is met by looking often. A cancelled caller does not wait for more than one pause.
const QUICK_PAUSE: Duration = Duration::from_micros(100);
const QUICK_LOOKS: u32 = 50;
const LONG_PAUSE: Duration = Duration::from_millis(3);

impl Control {
    /// Marks the job as running until the guard is dropped. `None`: it was cancelled before it began.
    pub(crate) fn start(&self, job: u64) -> Option<Running<'_>> {
        self.running.store(job, SeqCst);
        let running = Running(self);
        (self.cancelled.load(SeqCst) < job).then_some(running)
    }

    /// Runs `work` inline. The second answer says whether it was stopped for being long.
    pub(crate) fn inline<T>(&self, work: impl FnOnce() -> T) -> (T, bool) {
        self.inline_beyond(0, work)
    }

    /// The same for what is known to take so many questions, and may.
    pub(crate) fn inline_beyond<T>(&self, known: u32, work: impl FnOnce() -> T) -> (T, bool) {
        self.budget.store(BUDGET.saturating_add(known.try_into().unwrap_or(u8::MAX)), Relaxed);
        let done = work();
        (done, self.budget.swap(NO_BUDGET, Relaxed) == SPENT)
    }

    /// Runs `work` inline that must come to its end and takes no lock that another process may have.
    pub(crate) fn inline_to_the_end<T>(&self, work: impl FnOnce() -> T) -> T {
        self.budget.store(ENDLESS, Relaxed);
        let done = work();
        self.budget.store(NO_BUDGET, Relaxed);
        done
    }

    /// Gives the next statement of inline work a budget of its own; false if the last one was stopped.
    pub(crate) fn renew(&self) -> bool {
        let going = self.budget.load(Relaxed) != SPENT;
        if going {
            self.budget.store(BUDGET, Relaxed);
        }
        going
    }

    /// Asks one job, and those before it, to stop.
    pub(crate) fn cancel(&self, job: u64) {
        self.cancelled.fetch_max(job, SeqCst);
    }

    /// The progress handler: whether what runs now is to stop.
    pub(crate) fn should_stop(&self) -> bool {
        match self.budget.load(Relaxed) {
            NO_BUDGET => self.is_cancelled() || exit_gate::is_closed(),
            SPENT => true,
            ENDLESS => false,
            left => {
                self.budget.store(left - 1, Relaxed);
                left - 1 == SPENT
            }
        }
    }

    /// Between jobs nothing is cancelled: what runs then is our own (a statement being prepared, a kept snapshot being
    /// ended) and must not be stopped for an earlier job.
    pub(crate) fn is_cancelled(&self) -> bool {
        let running = self.running.load(SeqCst);
        running != 0 && self.cancelled.load(SeqCst) >= running
    }

    /// The busy handler: waits a little for the holder of the lock and says whether to try again. `tries` counts from 0. The
    /// patience is with other processes; `is_ours` tells whether the lock may be ours, which is always waited for.
    pub(crate) fn wait_for_lock(
        &self,
        tries: u32,
        patience: Duration,
        since: &mut Option<Instant>,
        is_ours: impl FnOnce() -> bool,
    ) -> bool {
        if self.budget.load(Relaxed) != NO_BUDGET {
            return false;
        }
        if tries == 0 {
            *since = Some(Instant::now());
        }
        if self.should_stop() || since.is_none_or(|since| since.elapsed() >= patience) && !is_ours() {
            return false;
        }
        std::thread::sleep(if tries < QUICK_LOOKS { QUICK_PAUSE } else { LONG_PAUSE });
        true
    }
}

impl Cancel for Control {
    fn cancel(&self) {
        Self::cancel(self, self.running.load(SeqCst));
    }
}

/// Says that a job is running.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Control);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.store(0, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_cancel_does_not_hit_the_next_job() {
        let control = Control::default();
        drop(control.start(1).unwrap());
        control.cancel(1);
        let running = control.start(2);
        assert!(running.is_some() && !control.should_stop());
    }

    #[test]
    fn what_is_prepared_between_jobs_is_not_stopped_by_an_earlier_cancel() {
        let control = Control::default();
        drop(control.start(1).unwrap());
        control.cancel(1);
        assert!(!control.should_stop());
    }

    #[test]
    fn a_cancelled_job_never_starts() {
        let control = Control::default();
        control.cancel(7);
        assert!(control.start(7).is_none());
    }

    #[test]
    fn cancelling_while_nothing_runs_has_no_effect() {
        let control = Control::default();
        Cancel::cancel(&control);
        assert!(control.start(1).is_some() && !control.should_stop());
    }

    #[test]
    fn only_the_second_question_ends_an_inline_statement() {
        let control = Control::default();
        let (answers, stopped) = control.inline(|| [control.should_stop(), control.should_stop()]);
        assert_eq!((answers, stopped), ([false, true], true));
        assert!(!control.inline(|| control.should_stop()).1);
    }

    #[test]
    fn what_must_come_to_its_end_is_not_stopped_and_waits_for_no_lock() {
        let control = Control::default();
        let asked = control.inline_to_the_end(|| {
            let stopped = (0..1000).any(|_| control.should_stop());
            (stopped, control.wait_for_lock(0, Duration::from_secs(60), &mut None, || true))
        });
        assert_eq!(asked, (false, false));
    }

    #[test]
    fn an_inline_statement_never_waits_for_a_lock() {
        let control = Control::default();
        let waits = control.inline(|| control.wait_for_lock(0, Duration::from_secs(60), &mut None, || true)).0;
        assert!(!waits);
    }
}
