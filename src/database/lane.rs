//! The write lane: single statements that wait for the one writer go to it together.
//!
//! A statement that finds the writer free takes it. Otherwise it joins a queue, and the first to join sends for the
//! writer; whoever brings it takes all that has come together meanwhile, and the engine commits it as one
//! ([`Connection::run_group`]). Transactions and raw connections wait for the writer itself, and the lane lets them
//! pass between two groups.

use std::collections::VecDeque;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::route;
use crate::StatementKind;
use crate::{Access, Connection, Connector, Error, ErrorKind, Pool, Pooled, Result, Rows, Statement};

/// How many statements share a transaction at most: enough to share the cost of a commit, few enough that nobody waits
/// long for his answer.
const GROUP: usize = 64;

/// The queue of one database.
#[derive(Debug, Default)]
pub(super) struct Lane {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// Somebody has been sent for the writer, or has it.
    driven: bool,
    next: u64,
}

/// A statement and the caller who waits for its result.
#[derive(Debug)]
struct Job {
    number: u64,
    statement: Statement,
    answer: oneshot::Sender<Result<Rows>>,
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether statements are waiting or being driven, so that a newcomer should join them.
    fn is_busy(&self) -> bool {
        self.lock().driven
    }

    /// Runs one statement, alone or with others.
    pub(super) async fn run<C>(
        self: &Arc<Self>,
        pool: &Pool<C>,
        location: &'static Location<'static>,
        statement: Statement,
    ) -> Result<Rows>
    where
        C: Connector<Connection: Connection>,
    {
        if !self.is_busy()
            && let Some(mut writer) = pool.get_if_free(Access::Write, location).await?
        {
            return route::run(&mut writer, statement).await;
        }
        // Boxed, so that the short way does not carry the state of the long one.
        Box::pin(self.run_with_others(pool, location, statement)).await
    }

    async fn run_with_others<C>(
        self: &Arc<Self>,
        pool: &Pool<C>,
        location: &'static Location<'static>,
        statement: Statement,
    ) -> Result<Rows>
    where
        C: Connector<Connection: Connection>,
    {
        let waiting = pool.wait(Access::Write)?;
        let (number, mut answer) = self.join(pool, location, statement);
        match waiting.until(&mut answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(lost())),
            Err(error) if self.leave(number) => Err(error),
            // It is being run: what becomes of it is the only true answer.
            Err(_) => answer.await.unwrap_or_else(|_| Err(lost())),
        }
    }

    /// Joins the queue; the first one sends for the writer.
    fn join<C>(
        self: &Arc<Self>,
        pool: &Pool<C>,
        location: &'static Location<'static>,
        statement: Statement,
    ) -> (u64, oneshot::Receiver<Result<Rows>>)
    where
        C: Connector<Connection: Connection>,
    {
        let (sender, answer) = oneshot::channel();
        let mut queue = self.lock();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.push_back(Job { number, statement, answer: sender });
        let first = !std::mem::replace(&mut queue.driven, true);
        drop(queue);
        if first {
            let driver = Driver { lane: Arc::clone(self), ended: false };
            let pool = pool.clone();
            tokio::spawn(async move { driver.drive(&pool, location).await });
        }
        (number, answer)
    }

    /// Takes a statement back; false if it is gone from the queue already.
    fn leave(&self, number: u64) -> bool {
        let mut queue = self.lock();
        let before = queue.waiting.len();
        queue.waiting.retain(|job| job.number != number);
        queue.waiting.len() < before
    }

    /// The next statements whose callers still wait. Empty: nobody is left, and the lane is not driven any more.
    fn take(&self) -> Vec<Job> {
        let mut queue = self.lock();
        let mut group = Vec::new();
        while group.len() < GROUP {
            let Some(job) = queue.waiting.pop_front() else { break };
            // A caller who has gone away before his statement began does not want it any more.
            if !job.answer.is_closed() {
                group.push(job);
            }
        }
        queue.driven = !group.is_empty();
        group
    }
}

/// Brings the writer to those who wait. Should it end half-way, with its runtime or by a panic, nobody waits for ever.
struct Driver {
    lane: Arc<Lane>,
    ended: bool,
}

impl Driver {
    async fn drive<C>(mut self, pool: &Pool<C>, location: &'static Location<'static>)
    where
        C: Connector<Connection: Connection>,
    {
        while !self.ended {
            match pool.get_for_others(Access::Write, location).await {
                Ok(mut writer) => {
                    writer.label("write lane");
                    self.serve(pool, &mut writer).await;
                }
                Err(error) => self.refuse_all(&error),
            }
        }
    }

    /// Runs group after group, until nobody is left, or somebody else wants the writer and gets it in between.
    async fn serve<C>(&mut self, pool: &Pool<C>, writer: &mut Pooled<C>)
    where
        C: Connector<Connection: Connection>,
    {
        loop {
            let group = self.lane.take();
            if group.is_empty() {
                self.ended = true;
                return;
            }
            run(writer, group).await;
            if pool.is_wanted(Access::Write) {
                return;
            }
        }
    }

    fn refuse_all(&mut self, error: &Error) {
        self.ended = true;
        let mut queue = self.lane.lock();
        queue.driven = false;
        for job in queue.waiting.drain(..) {
            // A caller who has gone away needs no answer.
            let _ = job.answer.send(Err(error.clone()));
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if !self.ended {
            self.refuse_all(&Error::new(ErrorKind::Closed, "the write lane ended before it came to this statement"));
        }
    }
}

/// Runs a group on the writer and answers everybody.
async fn run<C>(writer: &mut Pooled<C>, group: Vec<Job>)
where
    C: Connector<Connection: Connection>,
{
    let (mut statements, mut answers) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
    for Job { statement, answer, .. } in group {
        let refused = match writer.classify(&statement.sql) {
            Ok(StatementKind::Control) => Err(route::refused()),
            Ok(_) => {
                statements.push(statement);
                answers.push(answer);
                continue;
            }
            Err(error) => Err(error),
        };
        let _ = answer.send(refused);
    }
    let results = writer.run_group(statements).await;
    for (answer, result) in answers.into_iter().zip(results) {
        let _ = answer.send(result);
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "the write lane ended while it ran this statement; it may have taken effect")
        .hint("the runtime was shut down; look in the database before trying again")
}
