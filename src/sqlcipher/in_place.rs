//! Waiting for the disk on the caller's thread, where the caller has asked for it and the runtime can do without that
//! thread.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use super::connection::SqlCipherConnection;
use super::running::control::Control;
use super::running::engine::Engine;
use super::running::inline::InlineRights;
use crate::lock::foreign;

impl SqlCipherConnection {
    /// What may run on this task now: a commit that waits for the disk only on a runtime with several threads.
    pub(super) fn may_now(&self) -> InlineRights {
        let several = || Handle::try_current().is_ok_and(|now| now.runtime_flavor() == RuntimeFlavor::MultiThread);
        let in_place = self.may.in_place && several();
        InlineRights { in_place, writes: self.may.writes || in_place, ..self.may }
    }

    /// Does short work on this task, as [`here`](Self::here) does. If it may commit in place, the runtime is told that
    /// this thread waits.
    ///
    /// In a `LocalSet` the runtime refuses that, which cannot be seen beforehand; it is not asked again.
    pub(super) fn here_or_in_place<T>(
        &mut self,
        in_place: bool,
        work: impl FnOnce(&mut Engine, &Control) -> Option<(T, bool)>,
    ) -> thread::Result<Option<T>> {
        if !in_place {
            return self.here(work);
        }
        foreign();
        let mut work = Some(work);
        let done = catch_unwind(AssertUnwindSafe(|| block_in_place(|| work.take().map(|work| self.here(work)))));
        match done {
            Ok(done) => done.unwrap_or(Ok(None)),
            Err(panic) if work.is_none() => resume_unwind(panic),
            Err(_refused) => {
                tracing::warn!("commits are not made in place: the runtime cannot do without this thread");
                self.may.in_place = false;
                Ok(None)
            }
        }
    }
}
