//! The state of an open transaction.

use std::borrow::Cow;

use super::call::{Limit, Stage, within};
use super::held::Held;
use crate::connector::{Connection, Connector, Resource as _, ResourceState, Scope};
use crate::error::{Error, ErrorKind, Phase, Reason, Result};

/// An open transaction: its connection, its savepoints, and whether it can only be rolled back.
pub(super) struct TransactionState<C: Connector> {
    pub(super) held: Held<C>,
    /// Open savepoints.
    depth: u32,
    /// A savepoint whose guard was dropped; undone before anything else.
    undo: Option<u32>,
    doom: Option<Doom>,
}

/// Why a transaction can only be rolled back, and from which depth on.
struct Doom {
    depth: u32,
    why: Cow<'static, str>,
    /// The error of the call that failed.
    error: Option<Error>,
}

impl<C: Connector> TransactionState<C> {
    /// Of a transaction that has just begun.
    pub(super) fn new(held: Held<C>) -> Self {
        Self { held, depth: 0, undo: None, doom: None }
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    pub(super) fn is_doomed(&self) -> bool {
        self.doom.is_some()
    }

    /// The error of the call that doomed the transaction.
    pub(super) fn failure(&self) -> Option<Error> {
        self.doom.as_ref().and_then(|doom| doom.error.clone())
    }

    /// What bounds a call in the transaction.
    pub(super) fn limit(&self) -> Limit {
        self.held.limit(Stage::InTransaction)
    }

    /// A savepoint was set, of this depth.
    pub(super) fn nested(&mut self, depth: u32) {
        self.depth = depth;
    }

    /// The guard of a savepoint was dropped: it is undone before anything else happens here.
    pub(super) fn undo_later(&mut self, depth: u32) {
        self.undo = Some(self.undo.map_or(depth, |earlier| earlier.min(depth)));
    }
}

impl<C: Connector<Connection: Connection>> TransactionState<C> {
    /// Prepares for a call: undoes a dropped savepoint, refuses if doomed, and dooms in advance, so that a call that is
    /// dropped half-way leaves its mark. [`judge`](Self::judge) takes that back.
    pub(super) async fn ready(&mut self, sql: Option<&str>) -> Result<()> {
        if let Some(depth) = self.undo {
            // When the time is up, all is rolled back below.
            let undone = match self.held.overdue() {
                None => self.undo_to(depth).await,
                Some(_) => Ok(()),
            };
            self.undo = None;
            self.undone(depth, undone)?;
        }
        if self
            .doom
            .as_ref()
            .map_or(self.held.state() == ResourceState::Broken, |doom| doom.error.as_ref().is_some_and(is_broken))
        {
            self.doom = Some(Doom { depth: 0, why: Cow::Borrowed("its connection broke"), error: Some(broke()) });
            return Err(broke());
        }
        if let Some(doom) = &self.doom {
            return Err(Error::new(ErrorKind::Transaction, format!("the transaction failed before: {}", doom.why))
                .because(Reason::Doomed)
                .hint("roll it back; contain what may fail in a nested transaction"));
        }
        if let Some(deadline) = self.held.overdue() {
            let error = deadline.over(Reason::RolledBack, "the transaction is rolled back");
            self.doom = Some(Doom { depth: 0, why: error.to_string().into(), error: None });
            // At once, and not when the guard is dropped: others may wait for its locks.
            self.held.undo_all().await.ok();
            return Err(error);
        }
        if let Some(sql) = sql {
            let kind = self.held.classify(sql);
            Scope::Transaction.check(self.judge(kind)?)?;
        }
        self.doom =
            Some(Doom { depth: self.depth, why: Cow::Borrowed("a call in it was dropped half-way"), error: None });
        Ok(())
    }

    /// Undoes what was done since a savepoint.
    pub(super) async fn undo_to(&mut self, depth: u32) -> Result<()> {
        within(self.held.limit(Stage::Undo), self.held.rollback_to(depth)).await
    }

    /// Notes how a call ended.
    pub(super) fn judge<T>(&mut self, outcome: Result<T>) -> Result<T> {
        self.doom = match &outcome {
            Err(error) => Some(Doom { depth: self.depth, why: error.to_string().into(), error: Some(error.clone()) }),
            Ok(_) if self.is_gone() => {
                Some(Doom { depth: 0, why: Cow::Borrowed("the engine ended the transaction by itself"), error: None })
            }
            Ok(_) => None,
        };
        outcome
    }

    /// Whether the engine says that no transaction is open any more. A connection that broke says so itself, by the next
    /// call.
    fn is_gone(&self) -> bool {
        matches!(self.held.state(), ResourceState::Idle | ResourceState::Altered)
    }

    /// A savepoint was undone, and with it whatever failed inside it.
    pub(super) fn undone(&mut self, depth: u32, outcome: Result<()>) -> Result<()> {
        self.depth = depth - 1;
        // Savepoints inside it went with it.
        self.undo.take_if(|inner| *inner >= depth);
        match outcome {
            Ok(()) => {
                self.doom.take_if(|doom| doom.depth >= depth);
                Ok(())
            }
            Err(error) => {
                self.doom = Some(Doom { depth: 0, why: error.to_string().into(), error: Some(error.clone()) });
                Err(error)
            }
        }
    }

    /// Keeps what was done since a savepoint.
    pub(super) fn kept(&mut self, depth: u32) {
        self.depth = depth - 1;
    }
}

fn is_broken(error: &Error) -> bool {
    error.kind() == ErrorKind::Connection && error.reason() == Reason::Broken && error.is_transient()
}

#[cold]
fn broke() -> Error {
    Error::new(ErrorKind::Connection, "the connection broke in the middle of the transaction, which is rolled back")
        .because(Reason::Broken)
        .transient()
        .during(Phase::Statement)
}
