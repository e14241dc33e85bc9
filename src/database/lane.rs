//! The write lane: single statements that wait for the one writer go to it together.
//!
//! A statement that finds the writer free takes it. Otherwise it joins a batch, and the first of a batch sends a driver
//! into the queue for the writer, where transactions and raw connections wait too. A batch takes statements only until
//! somebody queues behind its driver; who comes later opens the next one. So nobody is overtaken, and what waits side by
//! side shares a commit ([`Connection::run_group`]).

use std::future::pending;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::oneshot::{self, error::RecvError};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::call::Call;
use super::call::{Deadline, Stage, stop, within};
use super::grouped::{Observed, efforts, note};
use super::queue::Batches;
use super::{observed, route, spans};
use crate::clock::sleep_until;
use crate::connector::{
    Access, Canceller, Connection, Connector, Resource as _, ResourceState, Statement, StatementEffort,
    StatementSummary,
};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{Guard, Lock, foreign};
use crate::pool::{Pool, Pooled};
use crate::row::Rows;
use crate::turn;

/// How many statements share a transaction at most: enough to share the cost of a commit, few enough that nobody waits
/// long for an answer.
const GROUP: usize = 64;

/// The batches of one database.
#[derive(Debug, Default)]
pub(super) struct WriteLane {
    queue: Lock<Batches<QueuedWrite>>,
}

/// How often a statement joins a batch at most, because the runtime of the driver of each ended before it came to it.
const JOINS: usize = 8;

/// What the caller of a statement is told.
#[derive(Debug)]
enum Told {
    Ran {
        result: Result<Rows>,
        /// When it began to run, and what it does, for a caller that is observed.
        began: Option<Instant>,
        summary: Option<StatementSummary>,
        effort: Option<StatementEffort>,
    },
    /// It did not run, and will not.
    Refused(Error),
    /// It did not run, because the runtime of its driver has ended.
    Left(Statement),
}

impl Told {
    /// What a driver answered, or that it ended without an answer.
    fn of(answer: Result<Self, RecvError>) -> Result<Self> {
        answer.map_err(|_ended| {
            Error::new(
                ErrorKind::OutcomeUnknown,
                "the write lane ended while it ran this statement; it may have taken effect",
            )
            .hint("the runtime was shut down; look in the database before trying again")
        })
    }
}

/// A statement and the caller that waits for its result.
#[derive(Debug)]
struct QueuedWrite {
    statement: Statement,
    answer: oneshot::Sender<Told>,
    deadline: Option<Deadline>,
    observed: Option<Observed>,
}

impl WriteLane {
    fn lock(&self) -> Guard<'_, Batches<QueuedWrite>> {
        self.queue.lock()
    }

    /// Whether there are batches, so that a newcomer has to join the queue.
    fn is_busy(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Runs one statement, alone or with others. At the deadline of its call, what still waits leaves the queue, and what
    /// runs is stopped.
    pub(super) async fn run<C>(self: &Arc<Self>, pool: &Pool<C>, call: Call<'_>, statement: Statement) -> Result<Rows>
    where
        C: Connector<Connection: Connection>,
    {
        pool.connector().usable()?;
        if !self.is_busy()
            && let Some(mut writer) = call.lend_if_free(pool, Access::Write).await?
        {
            let limit = call.limit_of(&mut writer, Access::Write, &statement.sql)?;
            return within(limit, route::run(&mut writer, statement)).await;
        }
        // Boxed, so that the short way does not carry the state of the long one.
        Box::pin(self.run_with_others(pool, call, statement)).await
    }

    async fn run_with_others<C>(
        self: &Arc<Self>,
        pool: &Pool<C>,
        call: Call<'_>,
        mut statement: Statement,
    ) -> Result<Rows>
    where
        C: Connector<Connection: Connection>,
    {
        for _ in 0..JOINS {
            match self.run_in_batch(pool, call, statement).await? {
                Told::Ran { result, began, summary, effort } => {
                    if observed::is_observed() {
                        observed::ran_elsewhere(began, summary, effort, result.as_ref().ok());
                    }
                    return result;
                }
                Told::Refused(error) => return Err(error),
                Told::Left(left) => statement = left,
            }
        }
        Err(Error::new(ErrorKind::Closed, "the write lane ended before it came to this statement"))
    }

    /// Joins a batch with one statement and waits for what becomes of it. The driver of the batch runs where the first of
    /// it called, and that runtime may end while others live: then the statement is left.
    async fn run_in_batch<C>(self: &Arc<Self>, pool: &Pool<C>, call: Call<'_>, statement: Statement) -> Result<Told>
    where
        C: Connector<Connection: Connection>,
    {
        let waiting = pool.wait(Access::Write, call.deadline.map(|deadline| deadline.at)).await?;
        let (number, mut answer) = self.join(pool, call, statement);
        match waiting.until(&mut answer).await {
            Ok((answer, _)) => Told::of(answer),
            Err(late) if self.leave(number) => Err(match call.deadline.filter(|deadline| deadline.is_over()) {
                Some(deadline) => deadline.waited("queued for the writer", pool, Access::Write),
                None => late.in_vain(),
            }),
            // It is being run: what becomes of it is the only true answer. At its deadline the driver stops it.
            Err(late) => {
                drop(late);
                let limit = call.limit(|| Stage::Write(Canceller::none()));
                within(limit, async { Told::of(pool.attend(answer).await) }).await
            }
        }
    }

    /// Joins the last batch, or opens one behind the calls that queue for the writer.
    fn join<C>(self: &Arc<Self>, pool: &Pool<C>, call: Call<'_>, statement: Statement) -> (u64, oneshot::Receiver<Told>)
    where
        C: Connector<Connection: Connection>,
    {
        let (sender, answer) = oneshot::channel();
        let (statement, observed) = Observed::of(statement);
        let write = QueuedWrite { statement, answer: sender, deadline: call.deadline, observed };
        let arrivals = pool.arrivals(Access::Write);
        let (number, is_first) = self.lock().join(arrivals, write);
        if is_first {
            let driver = BatchDriver { lane: Arc::clone(self), batch: number, ended: false };
            let (held, location) = (pool.clone(), call.location);
            pool.background(async move { driver.drive(&held, location).await });
        }
        (number, answer)
    }

    /// Takes a write back; false if it is being run.
    fn leave(&self, number: u64) -> bool {
        // Its parts are dropped after the lock.
        let write = self.lock().leave(number);
        write.is_some()
    }
}

/// Brings the writer to a batch. Should it end half-way, by a panic or with its runtime, the callers are told.
struct BatchDriver {
    lane: Arc<WriteLane>,
    batch: u64,
    ended: bool,
}

impl BatchDriver {
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
            // A group that was stopped, or failed so that the writer is of no use, leaves it to the pool.
            while wanted {
                // What a closed pool has not begun, it refuses, however long the batch is.
                if let Err(closed) = pool.refuse_if_closed() {
                    return self.refuse_all(&closed);
                }
                // A statement whose caller has gone away before it began is not run.
                let (unwanted, group) = self.lane.lock().take(self.batch, GROUP, |write| !write.answer.is_closed());
                drop(unwanted);
                if group.is_empty() {
                    self.ended = true;
                    return;
                }
                writer.resume(location);
                let was_alone = group.len() == 1;
                wanted = run(&mut writer, group).await && writer.state() == ResourceState::Idle;
                // Those who were answered write again, perhaps, and what runs inline never waits. One who writes alone
                // shall find the writer free again, and needs no driver.
                if !was_alone || self.lane.lock().has_jobs(self.batch) {
                    turn::pass().await;
                }
            }
        }
    }

    fn refuse_all(&mut self, error: &Error) {
        self.end(|_| Told::Refused(error.clone()));
    }

    /// Answers what has not begun.
    fn end(&mut self, answer: impl Fn(Statement) -> Told) {
        self.ended = true;
        let writes = self.lane.lock().dissolve(self.batch);
        foreign();
        for write in writes {
            // A caller that has gone away needs no answer.
            let _ = write.answer.send(answer(write.statement));
        }
    }
}

impl Drop for BatchDriver {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Told::Left);
        }
    }
}

/// Runs a group on the writer and answers everybody. False: everybody had gone away, and it was stopped.
async fn run<C>(writer: &mut Pooled<C>, group: Vec<QueuedWrite>) -> bool
where
    C: Connector<Connection: Connection>,
{
    let mut writes = group;
    while !writes.is_empty() {
        match run_once(writer, writes).await {
            Some(again) => writes = again,
            None => return false,
        }
    }
    true
}

/// Runs writes together until all have an answer, or one of them is late. Gives back those that are to run again, because
/// they were stopped for the sake of a late one. `None`: nobody waited any more, and all were stopped.
async fn run_once<C>(writer: &mut Pooled<C>, writes: Vec<QueuedWrite>) -> Option<Vec<QueuedWrite>>
where
    C: Connector<Connection: Connection>,
{
    let deadline = writes.iter().fold(None, |first, write| Deadline::earlier(first, write.deadline));
    // Only for the sake of a late one is anything run again, so only then is it kept.
    let kept: Vec<_> = writes.iter().filter(|_| deadline.is_some()).map(|write| write.statement.clone()).collect();
    let (statements, mut callers): (Vec<_>, Vec<_>) = writes.into_iter().map(QueuedWrite::parted).unzip();
    let canceller = writer.canceller();
    let span = if callers.len() > 1 && observed::are_wanted() {
        spans::of_group(writer.observers(), callers.iter_mut().map(|caller| caller.observed.as_mut()?.take_span()))
    } else {
        Span::none()
    };
    let began = Instant::now();
    let (results, stopped) = {
        let mut running = pin!(writer.run_group(statements).instrument(span.clone()));
        tokio::select! {
            biased;
            results = &mut running => (results, false),
            () = all_gone(&mut callers) => return None,
            () = passed(deadline) => (stop(&canceller, running).await, true),
        }
    };
    let (mut again, mut kept, mut answers) = (Vec::new(), kept.into_iter(), Vec::new());
    note(writer.observers(), &results, began, span);
    let observed = callers.iter().map(|caller| caller.observed.as_ref());
    let mut efforts = efforts(&mut **writer, observed, began.elapsed()).into_iter();
    for (Caller { answer, deadline, observed }, result) in callers.into_iter().zip(results) {
        let (statement, effort) = (kept.next(), efforts.next().flatten());
        let result = match (result, statement, deadline) {
            (Err(error), Some(statement), deadline) if stopped && error.kind() == ErrorKind::Cancelled => {
                match deadline.filter(|deadline| deadline.is_over()) {
                    Some(late) => Err(late.passed(&Stage::Write(Canceller::none()), began.elapsed())),
                    None if answer.is_closed() => continue,
                    None => {
                        again.push(QueuedWrite { statement, answer, deadline, observed });
                        continue;
                    }
                }
            }
            (result, ..) => result,
        };
        let summary = observed.and_then(|observed| writer.summary(&observed.sql));
        answers.push((answer, Told::Ran { result, began: Some(began), summary, effort }));
    }
    if again.is_empty() {
        writer.rest();
    }
    tell(answers);
    Some(again)
}

/// Tells callers what became of their statements. When the last of a group learns of it, the writer is not in use for
/// anybody, and not counted as lent.
fn tell(answers: Vec<(oneshot::Sender<Told>, Told)>) {
    foreign();
    for (answer, told) in answers {
        // A caller that has gone away needs no answer.
        let _ = answer.send(told);
    }
}

/// The caller of a statement that runs.
struct Caller {
    answer: oneshot::Sender<Told>,
    deadline: Option<Deadline>,
    observed: Option<Observed>,
}

impl QueuedWrite {
    fn parted(self) -> (Statement, Caller) {
        let Self { statement, answer, deadline, observed } = self;
        (statement, Caller { answer, deadline, observed })
    }
}

async fn all_gone(callers: &mut [Caller]) {
    for caller in callers {
        caller.answer.closed().await;
    }
}

async fn passed(deadline: Option<Deadline>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.at).await,
        None => pending().await,
    }
}
