//! A connection, and how work gets to its engine: as a numbered job on a thread, or on the caller's task if it is short.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use super::errors;
use super::log::alone::Alone;
use super::opening::abandoned::Connected;
use super::opening::opened::Opened;
use super::running::control::Control;
use super::running::engine::Engine;
use super::running::inline::InlineRights;
use super::running::job::{Shared, StopOnDrop, on_thread, state_of, unshared};
use super::running::stream::OpenStream;
use super::running::transaction::Boundary;
use super::running::turns::{TURN, Turns};
use crate::clock;
use crate::connector::{Access, Canceller, Resource, ResourceState};
use crate::crypto::exit_gate;
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::lock::foreign;

/// A connection to a SQLite or SQLCipher database.
///
/// Reached through the guards of the pool and the database; [`interact`](SqlCipherConnection::interact) gives all of
/// rusqlite.
pub struct SqlCipherConnection {
    pub(super) shared: Arc<Shared>,
    pub(super) opened: Arc<Opened>,
    pub(super) access: Access,
    pub(super) may: InlineRights,
    pub(super) state: ResourceState,
    pub(super) job: u64,
    pub(super) stream: Option<OpenStream>,
    turns: Turns,
    /// Tells the other connections that there is one that writes.
    writer: Option<Arc<()>>,
}

impl SqlCipherConnection {
    pub(super) async fn open(opened: Arc<Opened>, access: Access) -> Result<Self> {
        let opens = Arc::clone(&opened);
        let work = move || {
            let control = Arc::new(Control::default());
            let engine = opens.connect(access, &control)?;
            let may = opens.inline(access, engine.session.index().is_some(), engine.still.is_some());
            let turns = Turns::new(if access == Access::Write { engine.data_version() } else { None });
            let shared = Arc::new(Shared::new(control, engine));
            if may.keep {
                opens.snapshots().register(&shared);
            }
            Ok((shared, may, turns))
        };
        let is_fit = |(shared, ..): &Connected| !shared.has_moved() && opened.refuse_emptied().is_ok();
        let (shared, may, turns) = opened.abandoned().connect(access, is_fit, work).await?;
        let writer = (access == Access::Write).then(|| opened.writer());
        Ok(Self { shared, opened, access, may, state: ResourceState::Idle, job: 0, stream: None, turns, writer })
    }

    /// Runs `work` on a thread that may block. Dropping the future stops it.
    pub(super) async fn job<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Engine) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.opened.refuse_child()?;
        self.end_stream().await;
        self.refuse_unsynced()?;
        let (job, guard) = self.next_job();
        let shared = Arc::clone(&self.shared);
        let done = on_thread(move || shared.work(job, work)).await?;
        guard.disarm();
        self.state = done.state;
        self.worked();
        done.outcome
    }

    /// Work on a thread is done. If it was a writer's, the log may have become long.
    fn worked(&mut self) {
        if self.access == Access::Write {
            self.turns.worked();
            let frames = self.shared.try_lock().map_or(0, |engine| engine.frames_to_copy());
            self.opened.look_after_log(frames);
        }
    }

    /// Before a write: leaves the lock to another process for a while, if that is its turn. Nothing has begun yet.
    pub(super) async fn take_turns(&mut self) {
        let Self { access: Access::Write, state: ResourceState::Idle, turns, shared, .. } = self else { return };
        if turns.is_over(|| shared.try_lock()?.data_version()) && clock::check().is_ok() {
            Box::pin(clock::sleep(TURN)).await;
        }
    }

    /// Does short work on this task, if nobody else is at it. The work says whether it spoiled the connection.
    pub(super) fn here<T>(
        &mut self,
        work: impl FnOnce(&mut Engine, &Control) -> Option<(T, bool)>,
    ) -> thread::Result<Option<T>> {
        if self.stream.is_some() || self.opened.refuse_child().is_err() || self.refuse_unsynced().is_err() {
            return Ok(None);
        }
        let _pass = exit_gate::enter();
        let Some(mut engine) = self.shared.try_lock() else { return Ok(None) };
        engine.begin_work();
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut engine, &self.shared.control)));
        let spoiled = done.as_ref().map_or(true, |done| done.as_ref().is_some_and(|(_, spoiled)| *spoiled));
        // A reader commits nothing that would have to be synced, or copied.
        let writes = self.access == Access::Write;
        let is_broken = spoiled || writes && engine.stiffen().is_err();
        self.state = if is_broken { ResourceState::Broken } else { state_of(&engine) };
        let (keeps, told) = (engine.keeps_snapshot(), engine.tell());
        let frames = if writes { engine.frames_to_copy() } else { 0 };
        let news = engine.take_news();
        // What follows may start a thread, or wake somebody.
        drop(engine);
        if let Some(feed) = told {
            feed.wake();
        }
        if let Some(news) = news {
            news.tell();
        }
        if keeps {
            self.opened.snapshots().sweep();
        } else if writes {
            self.opened.look_after_log(frames);
        }
        Ok(done?.map(|(outcome, _)| outcome))
    }

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

    /// Refuses a writer while commits before it may be missing on the disk.
    pub(super) fn refuse_unsynced(&self) -> Result<()> {
        if self.access == Access::Write && self.opened.log().syncs().have_failed() {
            let error = Error::new(ErrorKind::Storage, "a sync of the log failed, and it has to be written anew first");
            return Err(error.because(Reason::Io).hint("give the connection back; the next one does that").transient());
        }
        Ok(())
    }

    /// What a job takes along to have the file to itself, where that matters.
    pub(super) fn alone(&self) -> Alone {
        Alone::new(&self.opened, self.access)
    }

    /// Numbers a job. Until it is done, nobody can say what state the connection is in.
    pub(super) fn next_job(&mut self) -> (u64, StopOnDrop) {
        self.job += 1;
        self.state = ResourceState::Unknown;
        (self.job, StopOnDrop::new(&self.shared.control, self.job))
    }

    pub(super) async fn end_stream(&mut self) {
        // The stream leaves its place only once it has ended, so that dropping this future loses nothing.
        if let Some(stream) = &mut self.stream {
            self.state = ResourceState::Unknown;
            self.state = stream.end().await;
            self.stream = None;
            self.worked();
        }
    }
}

impl Resource for SqlCipherConnection {
    fn state(&self) -> ResourceState {
        if self.stream.is_some() {
            ResourceState::Unknown
        } else if self.state == ResourceState::Idle && self.may.change && !self.shared.is_still() {
            // Somebody has begun to write to what it takes for unchanging.
            ResourceState::Broken
        } else if self.refuse_unsynced().is_err() {
            // The next writer begins with writing the log anew.
            ResourceState::Broken
        } else {
            self.state
        }
    }

    fn canceller(&self) -> Canceller {
        Canceller::new(Arc::clone(&self.shared.control))
    }

    async fn ping(&mut self) -> Result<()> {
        let opened = Arc::clone(&self.opened);
        let pinged = self
            .job(move |engine| {
                if !opened.is_memory() && engine.has_moved() {
                    return Err(Error::new(ErrorKind::Storage, "the file was moved, replaced or deleted")
                        .because(Reason::Moved));
                }
                opened.refuse_emptied()?;
                if engine.is_given_up() {
                    return Err(
                        Error::new(ErrorKind::Storage, "the connection met a damaged page").because(Reason::Damaged)
                    );
                }
                engine.raw().query_row("SELECT 1", (), |_| Ok(())).map_err(errors::classify)
            })
            .await;
        pinged.map_err(|error| error.during(Phase::Health))
    }

    async fn reset(&mut self) -> Result<()> {
        self.cross(Boundary::Rollback).await.map(drop)
    }

    fn baseline(&mut self) {
        let Some(mut engine) = self.shared.try_lock() else {
            // The hook has given a call up that is still at work: it is not idle, and is closed.
            return self.state = ResourceState::Unknown;
        };
        if engine.baseline() {
            // Of other files nobody knows when they change, and their commits may wait for the disk.
            self.may = InlineRights { keep: false, writes: false, in_place: false, ..self.may };
        }
        self.state = state_of(&engine);
        drop(engine);
        if self.may.keep {
            // The hook had the native connection, and is over.
            self.opened.snapshots().register(&self.shared);
        }
    }

    async fn close(mut self) -> Result<()> {
        self.opened.refuse_child()?;
        self.end_stream().await;
        if self.access == Access::Write {
            // Of two connections that close at once, each leaves the log for the other to remove.
            self.opened.log_is_left_alone().await;
        }
        self.shared.control.cancel(self.job);
        let (alone, writes) = (self.alone(), self.access == Access::Write);
        let (shared, opened, writer) = (Arc::clone(&self.shared), Arc::clone(&self.opened), self.writer.take());
        drop(self);
        let closed = on_thread(move || {
            let _pass = exit_gate::enter();
            let mut engine = unshared(shared);
            engine.begin_work();
            engine.end_snapshot();
            let settled = if writes {
                let _alone = alone.always();
                engine.settle()
            } else if opened.has_writer() {
                Ok(())
            } else {
                engine.settle_for_writer()
            };
            let kept = engine.keep_log_if_distrusted();
            if let Some(feed) = engine.tell() {
                feed.wake();
            }
            let news = engine.take_news();
            let closed = engine.close();
            drop(writer);
            if let Some(news) = news {
                news.tell();
            }
            settled.and(kept.and(closed).map_err(errors::classify))
        });
        closed.await?.map_err(|error| error.during(Phase::Close))
    }
}

impl Drop for SqlCipherConnection {
    fn drop(&mut self) {
        if self.opened.refuse_child().is_err() {
            // Closing it would disturb the parent, so the child never does.
            std::mem::forget((Arc::clone(&self.shared), Arc::clone(&self.opened), self.stream.take()));
        }
    }
}

impl fmt::Debug for SqlCipherConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlCipherConnection")
            .field("access", &self.access)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
