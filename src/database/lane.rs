//! The write lane: single statements that wait for the one writer go to it together.
//!
//! A statement that finds the writer free takes it. Otherwise it joins a batch, and the first of a batch sends a driver
//! into the queue for the writer, where transactions and raw connections wait too. A batch takes statements only until
//! somebody queues behind its driver; who comes later opens the next one. So nobody is overtaken, and what waits side by
//! side shares a commit ([`Connection::run_group`]).

use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::queue::Queue;
use super::route;
use crate::StatementKind;
use crate::{Access, Connection, Connector, Error, ErrorKind, Pool, Pooled, Result, Rows, Statement};

/// How many statements share a transaction at most: enough to share the cost of a commit, few enough that nobody waits
/// long for his answer.
const GROUP: usize = 64;

/// The batches of one database.
#[derive(Debug, Default)]
pub(super) struct Lane {
    queue: Mutex<Queue<Job>>,
}

/// A statement and the caller who waits for its result.
#[derive(Debug)]
struct Job {
    statement: Statement,
    answer: oneshot::Sender<Result<Rows>>,
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Queue<Job>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are batches, so that a newcomer has to join the queue.
    fn is_busy(&self) -> bool {
        !self.lock().is_empty()
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
            Err(error) if self.lock().leave(number) => Err(error),
            // It is being run: what becomes of it is the only true answer.
            Err(_) => answer.await.unwrap_or_else(|_| Err(lost())),
        }
    }

    /// Joins the last batch, or opens one behind those who queue for the writer.
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
        let (number, is_first) = queue.join(pool.arrivals(Access::Write), Job { statement, answer: sender });
        if is_first {
            let driver = Driver { lane: Arc::clone(self), batch: number, ended: false };
            let pool = pool.clone();
            tokio::spawn(async move { driver.drive(&pool, location).await });
        }
        (number, answer)
    }
}

/// Brings the writer to a batch. Should it end half-way, with its runtime or by a panic, nobody waits for ever.
struct Driver {
    lane: Arc<Lane>,
    batch: u64,
    ended: bool,
}

impl Driver {
    async fn drive<C>(mut self, pool: &Pool<C>, location: &'static Location<'static>)
    where
        C: Connector<Connection: Connection>,
    {
        loop {
            let mut writer = match pool.get_for_others(Access::Write, location).await {
                Ok(writer) => writer,
                Err(error) => return self.refuse_all(&error),
            };
            writer.label("write lane");
            let mut wanted = true;
            // A group that was stopped leaves the writer in the middle of something; the pool puts it in order.
            while wanted {
                // A caller who has gone away before his statement began does not want it any more.
                let group = self.lane.lock().take(self.batch, GROUP, |job| !job.answer.is_closed());
                if group.is_empty() {
                    self.ended = true;
                    return;
                }
                wanted = run(&mut writer, group).await;
            }
        }
    }

    fn refuse_all(&mut self, error: &Error) {
        self.ended = true;
        for job in self.lane.lock().dissolve(self.batch) {
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

/// Runs a group on the writer and answers everybody. False: everybody had gone away, and it was stopped.
async fn run<C>(writer: &mut Pooled<C>, group: Vec<Job>) -> bool
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
    if statements.is_empty() {
        return true;
    }
    let all_gone = async {
        for answer in &mut answers {
            answer.closed().await;
        }
    };
    let results = tokio::select! {
        biased;
        results = writer.run_group(statements) => results,
        () = all_gone => return false,
    };
    for (answer, result) in answers.into_iter().zip(results) {
        let _ = answer.send(result);
    }
    true
}

fn lost() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "the write lane ended while it ran this statement; it may have taken effect")
        .hint("the runtime was shut down; look in the database before trying again")
}
