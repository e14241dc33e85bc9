//! One session on one server, as a pool sees it.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Notification, SimpleQueryMessage};

use super::error::broken;
use crate::connector::{Access, Canceller, Resource, ResourceState};
use crate::error::{Phase, Result};
use crate::postgres::reaching::{Dialed, PostgresConnector};
use crate::postgres::statements::{Cache, Copying, Open, Types};
use crate::postgres::wire::{Age, HEARS_WARNINGS, LinkCanceller, Session, SessionCall, SessionTransaction, is_silent};

/// A dropped call has this long to end before the connection is given up.
const SETTLE: Duration = Duration::from_secs(10);

/// A cancel request that arrives before its statement has no effect, so it is sent again after this time.
const CANCEL_AGAIN: Duration = Duration::from_millis(250);

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// A session on a PostgreSQL server.
///
/// **Dropped futures.** A call whose future is dropped is stopped by a cancel request, and the next call waits until it
/// has ended. That it was stopped does not prove that it had no effect: it may have ended before the request arrived. A
/// transaction one of whose calls was dropped can only be rolled back. What begins or ends a transaction is not stopped;
/// the next call waits for it.
///
/// **Broken connections.** What was under way when a connection broke is [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown)
/// if it was a COMMIT, or a statement outside a transaction that may have changed something. A statement is taken for a
/// read when it begins with SELECT, VALUES, TABLE, SHOW or WITH and holds no word that changes data. A SELECT that calls
/// a function with effects belongs into a transaction: broken in the middle it counts as a read, and may be run again.
///
/// A connection of the same connector that is idle then counts as broken too: it probably leads to the same dead or
/// demoted server, and a pool lends it to nobody.
///
/// **Transactions** are begun and ended by the methods for it. BEGIN, COMMIT and the like as statements are refused,
/// because the driver does not tell whether a COMMIT was one: that of a failed transaction answers like any other. Of
/// what the driver's client, lent by [`native`](crate::Connection::native), begins and ends, the server tells.
///
/// **Warnings.** A commit that did not wait for the standbys it should wait for is told by a warning of the server and by
/// nothing else. So a session that may write hears warnings: where `client_min_messages` is `error`, by a role, a setting
/// or a statement, it is made `warning` before the next call. Only what a function sets for itself escapes.
pub struct PostgresConnection {
    pub(crate) client: Client,
    pub(crate) cache: Cache,
    pub(crate) types: Types,
    pub(crate) session: Session,
    pub(crate) stream: Option<Open>,
    pub(crate) bulk_copy: bool,
    /// What a bulk insert leaves open between its sets.
    pub(crate) copying: Option<Copying>,
    /// Where further sessions come from.
    pub(super) home: Box<PostgresConnector>,
    keeper: JoinHandle<()>,
}

impl PostgresConnection {
    pub(crate) fn new(dialed: Dialed, cache: Cache, access: Access, home: PostgresConnector, age: Age) -> Self {
        let Dialed { client, link, driver, keeper, silent, .. } = dialed;
        let session = Session::new(link, driver, access, age, silent);
        let (bulk_copy, home) = (home.copies_in_bulk(), Box::new(home));
        Self { client, cache, types: Types::default(), session, stream: None, bulk_copy, copying: None, home, keeper }
    }

    /// What other sessions send with NOTIFY to the channels this one listens to. Of more than 128 that nobody has
    /// received, the oldest are lost, and the receiver is told how many.
    ///
    /// ```no_run
    /// use strongroom::engine::Access;
    /// use strongroom::postgres::PostgresConnector;
    /// use strongroom::{Connection, Connector, Result};
    ///
    /// # async fn listen(connector: PostgresConnector) -> Result<()> {
    /// let mut connection = connector.connect(Access::Write).await?;
    /// let mut notifications = connection.notifications();
    /// connection.run_script("LISTEN orders".into()).await?;
    /// while let Ok(notification) = notifications.recv().await {
    ///     println!("{}: {}", notification.channel(), notification.payload());
    /// }
    /// # Ok(()) }
    /// ```
    pub fn notifications(&self) -> broadcast::Receiver<Notification> {
        self.session.link.notifications()
    }

    /// Until the connection has ended by itself. Not to be awaited again then.
    pub(crate) async fn ended(&mut self) {
        (&mut self.keeper).await.ok();
    }

    /// Comes first in every call: makes sure that nothing else is under way.
    ///
    /// Cancel safe: what was not finished is finished by the next call.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        self.session.lost |= self.client.is_closed();
        self.session.refuse_lost()?;
        self.session.link.described.lend(false);
        // An open stream asks the server to stop when it goes, an open COPY makes it fail.
        self.stream = None;
        self.copying = None;
        self.cache.tidy();
        self.session.link.quiet().await;
        self.session.lost |= self.session.link.may_be_stopped();
        self.session.refuse_lost()?;
        if let Some(call) = self.session.call {
            Box::pin(self.settle(call)).await?;
        }
        if self.session.asking {
            if self.session.transaction != SessionTransaction::None {
                Box::pin(self.send(SessionCall::Rollback, "ROLLBACK")).await?;
                self.session.ended();
            }
            self.session.asking = false;
        }
        self.session.believe();
        Ok(())
    }

    /// [`ready`](Self::ready) for what may write: in a transaction that can go on, and with warnings that are heard.
    ///
    /// # Errors
    /// When the transaction can only be rolled back.
    pub(crate) async fn ready_to_run(&mut self) -> Result<()> {
        self.ready().await?;
        self.session.refuse_failed()?;
        if self.session.silent { Box::pin(self.hear_warnings()).await } else { Ok(()) }
    }

    /// Has the server say its warnings. Neither question takes a snapshot, before which `SET TRANSACTION` must come.
    pub(crate) async fn hear_warnings(&mut self) -> Result<()> {
        if self.session.access == Access::Write {
            let shown = {
                let answer = pin!(async { Ok(self.client.simple_query("SHOW client_min_messages").await?) });
                self.session.during(SessionCall::Statement { reads: true }, answer).await?
            };
            if first_values(&shown).any(is_silent) {
                self.send(SessionCall::Statement { reads: true }, HEARS_WARNINGS).await?;
            }
        }
        self.session.silent = false;
        Ok(())
    }

    /// Waits until a dropped call has ended, and finds out where that leaves the session. Answers come in the order of
    /// the questions, so the answer to another one tells that the dropped one is over.
    async fn settle(&mut self, call: SessionCall) -> Result<()> {
        let in_transaction = self.session.transaction != SessionTransaction::None;
        let fence = match call {
            SessionCall::Stream { .. } if in_transaction => END_STREAM,
            SessionCall::Statement { .. } | SessionCall::Stream { .. } => "",
            SessionCall::Script { .. } if in_transaction => "",
            SessionCall::Script { .. } | SessionCall::Begin { .. } | SessionCall::Commit | SessionCall::Rollback => {
                "ROLLBACK"
            }
        };
        let link = Arc::clone(&self.session.link);
        let over = async {
            let answer = pin!(self.client.batch_execute(fence));
            let mut answer = pin!(self.session.driver.wait(answer));
            loop {
                match tokio::time::timeout(CANCEL_AGAIN, &mut answer).await {
                    Ok(answer) => break answer,
                    Err(_) if call.stops() => {
                        link.cancel();
                        link.quiet().await;
                    }
                    Err(_) => {}
                }
            }
        };
        let Ok(outcome) = tokio::time::timeout(SETTLE, over).await else {
            self.session.lost = true;
            return Err(broken("a call that was dropped did not end in time"));
        };
        link.quiet().await;
        self.session.lost |= link.may_be_stopped();
        link.take_unconfirmed();
        self.session.call = None;
        match call {
            SessionCall::Stream { .. } if outcome.is_ok() => {}
            SessionCall::Statement { .. } | SessionCall::Stream { .. } | SessionCall::Script { .. }
                if in_transaction =>
            {
                self.session.transaction = SessionTransaction::Failed;
            }
            _ => {
                self.session.ended();
                // Nothing but a connection that broke, or a session in an unknown state, keeps a ROLLBACK from success.
                self.session.lost |= outcome.is_err() && (fence == "ROLLBACK" || self.client.is_closed());
            }
        }
        self.session.refuse_lost()
    }

    /// Runs a text that the driver sends as it is.
    pub(crate) async fn send(&mut self, call: SessionCall, sql: &str) -> Result<()> {
        let answer = pin!(async { Ok(self.client.batch_execute(sql).await?) });
        self.session.during(call, answer).await
    }
}

/// Holds what a stream does inside a transaction, so that it can be stopped without harm to the transaction.
pub(crate) const BEGIN_STREAM: &str = "SAVEPOINT strongroom_stream";
pub(crate) const END_STREAM: &str = "ROLLBACK TO SAVEPOINT strongroom_stream; RELEASE SAVEPOINT strongroom_stream";

/// The first value of each row.
pub(crate) fn first_values(messages: &[SimpleQueryMessage]) -> impl Iterator<Item = &str> {
    messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    })
}

impl Resource for PostgresConnection {
    fn state(&self) -> ResourceState {
        if self.client.is_closed() { ResourceState::Broken } else { self.session.state() }
    }

    fn canceller(&self) -> Canceller {
        Canceller::new(LinkCanceller(Arc::clone(&self.session.link)))
    }

    /// `SELECT 1`; in a failed transaction, where the server refuses that, an empty statement.
    async fn ping(&mut self) -> Result<()> {
        self.ready().await?;
        let failed = self.session.transaction == SessionTransaction::Failed;
        self.send(SessionCall::Statement { reads: true }, if failed { "" } else { "SELECT 1" }).await
    }

    /// Waits for what was dropped, and rolls back.
    async fn reset(&mut self) -> Result<()> {
        self.ready().await?;
        if self.session.transaction != SessionTransaction::None {
            self.send(SessionCall::Rollback, "ROLLBACK").await?;
            self.session.ended();
        }
        Ok(())
    }

    fn baseline(&mut self) {
        self.session.altered = false;
        self.session.lent = false;
    }

    async fn close(self) -> Result<()> {
        let Self { client, stream, mut keeper, .. } = self;
        drop(stream);
        // The driver says goodbye when the client is gone.
        drop(client);
        if keeper.is_finished() || tokio::time::timeout(GOODBYE, &mut keeper).await.is_ok() {
            return Ok(());
        }
        keeper.abort();
        Err(broken("the server did not take the goodbye in time").permanent().during(Phase::Close))
    }
}

impl fmt::Debug for PostgresConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConnection").field("state", &self.state()).finish_non_exhaustive()
    }
}
