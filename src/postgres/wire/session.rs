//! What this side knows of a session: its transaction, and the call that is under way or was dropped.
//!
//! The driver throws the server's own word on the transaction away, so the state is kept here, and every call goes
//! through [`Session::during`], which keeps it honest: a call is noted before its first await and crossed out when its
//! answer is here. What is still noted when the next call begins was dropped.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use super::driver::Driver;
use super::link::Link;
use super::reported::SessionTransaction;
use crate::connector::{Access, ResourceState};
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::postgres::error::{broken, classify, sqlstate};
use crate::postgres::statements::Traces;

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionCall {
    /// A statement; `reads` if it cannot have changed anything.
    Statement {
        reads: bool,
    },
    /// A statement whose rows are still being fetched.
    Stream {
        reads: bool,
    },
    /// A text of several statements; `reads` if none of them can have changed anything.
    Script {
        reads: bool,
    },
    Begin {
        writes: bool,
    },
    Commit,
    Rollback,
}

impl SessionCall {
    fn phase(self) -> Phase {
        match self {
            Self::Statement { .. } | Self::Stream { .. } | Self::Script { .. } => Phase::Statement,
            Self::Begin { .. } => Phase::Begin,
            Self::Commit => Phase::Commit,
            Self::Rollback => Phase::Rollback,
        }
    }

    /// Whether the server may be asked to stop it. Not what begins or ends a transaction: stopping a COMMIT only stops
    /// the wait for the standbys, and would turn a late success into an early one that is worth less.
    pub(crate) fn stops(self) -> bool {
        self.phase() == Phase::Statement
    }
}

/// Why a call failed.
pub(crate) enum Fault {
    /// The server or the driver says so.
    Driver(tokio_postgres::Error),
    /// We say so, after the server has done its part.
    Own(Error),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Own(error)
    }
}

/// When a session began, counted in sessions of the same connector that were found broken. One number that says nothing of
/// other memory: whoever was told of a broken session sees it counted.
pub(crate) struct Age {
    breaks: Arc<AtomicUsize>,
    born: usize,
}

impl Age {
    pub(crate) fn of(breaks: &Arc<AtomicUsize>) -> Self {
        Self { breaks: Arc::clone(breaks), born: breaks.load(Ordering::Relaxed) }
    }

    /// Whether another session was found broken since.
    fn in_doubt(&self) -> bool {
        self.breaks.load(Ordering::Relaxed) != self.born
    }
}

#[allow(clippy::struct_excessive_bools, reason = "independent facts, each read by its own caller")]
pub(crate) struct Session {
    pub(crate) link: Arc<Link>,
    pub(crate) driver: Arc<Driver>,
    pub(crate) transaction: SessionTransaction,
    /// The call that is under way, or was dropped.
    pub(crate) call: Option<SessionCall>,
    /// Its settings may no longer be those it began with.
    pub(crate) altered: bool,
    /// The driver's client was lent, so a transaction may have failed or ended without our knowing.
    pub(crate) lent: bool,
    /// It may have been told to keep its warnings to itself.
    pub(crate) silent: bool,
    /// It will not work again.
    pub(crate) lost: bool,
    /// The transaction is our own, around a question about types, and nobody else's business.
    pub(crate) asking: bool,
    age: Age,
    pub(crate) access: Access,
    /// What a transaction may do that is not told.
    habit: Access,
    /// What the open transaction, or the session, may do.
    mode: Access,
}

impl Session {
    pub(crate) fn new(link: Arc<Link>, driver: Arc<Driver>, access: Access, age: Age, silent: bool) -> Self {
        Self {
            link,
            driver,
            transaction: SessionTransaction::None,
            call: None,
            altered: false,
            lent: false,
            silent,
            lost: false,
            asking: false,
            age,
            access,
            habit: access,
            mode: access,
        }
    }

    pub(crate) fn state(&self) -> ResourceState {
        match self.transaction {
            _ if self.lost || self.link.may_be_stopped() => ResourceState::Broken,
            _ if self.call.is_some() => ResourceState::Unknown,
            SessionTransaction::Open => ResourceState::InTransaction,
            SessionTransaction::Failed => ResourceState::Failed,
            SessionTransaction::None
                if !matches!(self.link.reported.transaction(), None | Some(SessionTransaction::None)) =>
            {
                ResourceState::Unknown
            }
            SessionTransaction::None if self.age.in_doubt() => ResourceState::Broken,
            SessionTransaction::None if self.altered => ResourceState::Altered,
            SessionTransaction::None => ResourceState::Idle,
        }
    }

    /// Awaits the answer to a call and draws the conclusions. Dropped on the way, the call stays noted, and the server
    /// is asked to stop it if it is one that stops.
    pub(crate) async fn during<T>(
        &mut self,
        call: SessionCall,
        answer: Pin<&mut (impl Future<Output = Result<T, Fault>> + Send)>,
    ) -> Result<T> {
        self.call = Some(call);
        if !call.stops() {
            // What comes before it in the same call may have been asked to stop.
            self.link.quiet().await;
            self.lost |= self.link.may_be_stopped();
            self.refuse_lost()?;
        }
        let running = call.stops().then(|| self.link.running());
        let answer = self.driver.wait(answer).await;
        if let Some(running) = running {
            running.end();
        }
        match answer {
            Ok(value) => {
                self.call = None;
                if call == SessionCall::Commit {
                    self.ended();
                }
                self.confirmed(call).map(|()| value)
            }
            Err(fault) => Err(self.fails(call, fault).await),
        }
    }

    /// Draws the conclusions from a failure, once it is known whether the session goes on: a server says so behind the
    /// error, and a pooler that gives up hangs up instead.
    pub(crate) async fn fails(&mut self, call: SessionCall, fault: Fault) -> Error {
        let (reported, driver) = (&self.link.reported, &self.driver);
        let from_server = matches!(&fault, Fault::Driver(error) if error.as_db_error().is_some());
        if from_server {
            let over = || reported.transaction().is_some() || driver.has_ended();
            driver.wait(pin!(poll_fn(|_| if over() { Poll::Ready(()) } else { Poll::Pending }))).await;
        }
        let goes_on = from_server && reported.transaction().is_some();
        self.call = None;
        self.failed(call, fault, goes_on)
    }

    /// Refuses to call a success what the server did without waiting for the standbys it is configured to wait for.
    pub(crate) fn confirmed(&mut self, call: SessionCall) -> Result<()> {
        let commits = call == SessionCall::Commit || self.transaction == SessionTransaction::None;
        if self.link.take_unconfirmed() && commits {
            let message = "the server committed without waiting for a standby to confirm";
            let error = Error::new(ErrorKind::OutcomeUnknown, message).during(call.phase());
            return Err(error.hint("it is lost if this server is lost before a standby has it"));
        }
        Ok(())
    }

    /// Draws the conclusions from a failure.
    #[cold]
    fn failed(&mut self, call: SessionCall, fault: Fault, goes_on: bool) -> Error {
        let error = match fault {
            // It had been ended before this was asked.
            Fault::Driver(error) if error.is_closed() => {
                classify(self.link.take_end().unwrap_or(error), call.phase(), false)
            }
            Fault::Driver(error) => classify(error, call.phase(), goes_on),
            Fault::Own(error) => error.during(call.phase()),
        };
        // A standby that was taken for a primary; but where the session or its transaction was told to read only, the
        // statement is wrong.
        let error = match error.reason() {
            Reason::NotWritable if self.mode == Access::Read || self.lent => error.permanent(),
            _ if call == (SessionCall::Begin { writes: true }) && sqlstate(&error) == Some("0A000") => a_standby(error),
            _ => error,
        };
        let broke = error.kind() == ErrorKind::Connection && error.reason() == Reason::Broken;
        if broke || (error.reason() == Reason::NotWritable && error.is_transient()) {
            self.lost = true;
            self.age.breaks.fetch_add(1, Ordering::Relaxed);
        }
        let autocommit = self.transaction == SessionTransaction::None;
        match call {
            // The server has rolled back, or will when it notices that nobody is there.
            SessionCall::Commit => self.ended(),
            _ if !autocommit => self.transaction = SessionTransaction::Failed,
            _ => {}
        }
        let may_be_done = match call {
            SessionCall::Commit => true,
            SessionCall::Statement { reads } | SessionCall::Stream { reads } | SessionCall::Script { reads } => {
                autocommit && !reads
            }
            SessionCall::Begin { .. } | SessionCall::Rollback => false,
        };
        if broke && may_be_done { outcome_unknown(call, error) } else { error }
    }

    /// What can be said before anything is sent.
    ///
    /// # Errors
    /// When nothing can be sent any more.
    pub(crate) fn refuse_lost(&self) -> Result<()> {
        if self.lost { Err(self.gone()) } else { Ok(()) }
    }

    #[cold]
    fn gone(&self) -> Error {
        match self.link.take_end() {
            Some(error) => classify(error, Phase::Statement, false),
            None if self.link.may_be_stopped() => {
                broken("a request to stop an earlier call was not taken in time, and would stop any later one")
            }
            None => broken("the connection to the server is gone"),
        }
    }

    /// # Errors
    /// When the transaction can only be rolled back.
    pub(crate) fn refuse_failed(&self) -> Result<()> {
        if self.transaction == SessionTransaction::Failed { Err(doomed()) } else { Ok(()) }
    }

    /// Takes note that a transaction is open.
    pub(crate) fn begun(&mut self, access: Access) {
        self.transaction = SessionTransaction::Open;
        self.lent = false;
        self.mode = access;
    }

    /// Takes note that no transaction is open.
    pub(crate) fn ended(&mut self) {
        self.transaction = SessionTransaction::None;
        self.mode = self.habit;
    }

    /// Takes note of what a statement may leave behind it. Before it is sent: dropped, it may have been done.
    pub(crate) fn note(&mut self, traces: Traces) {
        self.altered |= traces.alters_session;
        self.silent |= traces.silences;
        if traces.sets_access {
            self.mode = Access::Read;
            if traces.alters_session {
                self.habit = Access::Read;
            }
        }
    }

    /// Believes the server, where it knows better: with the driver's client, transactions are begun and ended unseen. What
    /// was dropped or failed on this side is for this side to know.
    pub(crate) fn believe(&mut self) {
        match (self.link.reported.transaction(), self.transaction) {
            (Some(SessionTransaction::None), SessionTransaction::Open) => self.ended(),
            (Some(SessionTransaction::None), SessionTransaction::Failed) if self.lent => self.ended(),
            (Some(SessionTransaction::Failed), _) => self.transaction = SessionTransaction::Failed,
            (Some(SessionTransaction::Open), SessionTransaction::None) => self.transaction = SessionTransaction::Open,
            _ => {}
        }
    }
}

#[cold]
fn a_standby(error: Error) -> Error {
    let standby = Error::new(ErrorKind::Connection, "the server is a standby, and accepts no writes");
    standby.because(Reason::NotWritable).transient().during(Phase::Begin).caused_by(error)
}

#[cold]
pub(crate) fn doomed() -> Error {
    let message = "the transaction cannot go on, because an earlier statement of it failed or was dropped";
    Error::new(ErrorKind::Transaction, message).because(Reason::Doomed).hint("roll it back")
}

/// What a session that is there for reading says to all that could write.
#[cold]
pub(crate) fn only_reads(phase: Phase) -> Error {
    let error = Error::new(ErrorKind::Connection, "the connection is for reading only, and stays so");
    error.because(Reason::NotWritable).during(phase).hint("write on one that was not asked for to read")
}

#[cold]
pub(crate) fn outcome_unknown(call: SessionCall, error: Error) -> Error {
    let what = match call {
        SessionCall::Commit => "COMMIT",
        SessionCall::Script { .. } => "a script that commits by itself",
        _ => "a statement that commits by itself",
    };
    let message = format!("the connection broke during {what}, which may or may not have been done");
    let error = Error::new(ErrorKind::OutcomeUnknown, message).during(call.phase()).caused_by(error);
    error.hint("look whether its effect is there before doing it again")
}
