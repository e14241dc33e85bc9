//! What stays in touch with a session from beside it: the driver's task, and requests to cancel.
//!
//! A cancel request travels on a connection of its own and names no statement: it stops whatever the session runs when
//! it arrives. So nobody may start a statement while a request is on its way; [`Link::quiet`] waits for that. The
//! server closes the connection of a request after it has signalled the session, which is how its arrival is known. A request
//! that was sent and whose arrival is not known may still come: its session runs nothing any more, and is closed.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast};
use tokio_postgres::tls::NoTls;
use tokio_postgres::{AsyncMessage, CancelToken, Notification};

use super::described::Described;
use super::first_row::{Beside, FirstRow};
use super::handshake::Handshake;
use super::reported::Reported;
use super::socket::{Address, Stream};
use crate::connector::Cancel;
use crate::lock::{Guard, Lock, foreign};
use crate::postgres::changes::Hearing;

/// A server that does not take a cancel request within this time is not going to.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Notifications kept for a receiver that is slow; it is told how many it has missed.
const NOTIFICATIONS: usize = 128;

/// Has a session say its warnings. That a commit did not wait for its standbys is a warning, and nothing else tells it.
pub(crate) const HEARS_WARNINGS: &str = "SET client_min_messages = warning";

/// Whether a session with this `client_min_messages` says no warnings.
pub(crate) fn is_silent(client_min_messages: &str) -> bool {
    matches!(client_min_messages, "error" | "fatal" | "panic")
}

/// What is shared by a session, its cancellers, and the task that drives its socket.
///
/// The task sets what the server says before it hands on the answer to the call, through a channel; the session asks behind that
/// answer, and so sees it.
pub(crate) struct Link {
    route: Arc<Route>,
    runtime: Handle,
    requests: Arc<Requests>,
    /// Set when the server says that it did not wait for a standby to confirm.
    unconfirmed: AtomicBool,
    notifications: broadcast::Sender<Notification>,
    /// Whoever hears of every notification.
    attended: OnceLock<Arc<Hearing>>,
    pub(crate) first_row: FirstRow,
    pub(crate) reported: Reported,
    pub(crate) described: Described,
    /// The session's time zone is UTC. Told while it is dialled, before anybody has it, and nothing else is read by it:
    /// so no order is asked for.
    utc: AtomicBool,
    /// Why the connection ended.
    ended: Lock<Option<tokio_postgres::Error>>,
}

/// The way of a cancel request.
pub(crate) struct Route {
    pub(crate) address: Address,
    pub(crate) handshake: Option<Handshake>,
    pub(crate) token: CancelToken,
}

#[derive(Default)]
struct Requests {
    state: Lock<Cancelling>,
    /// Wakes when a request is no longer on its way.
    arrived: Notify,
}

#[derive(Default)]
struct Cancelling {
    /// A call that may be stopped is under way.
    running: bool,
    /// A request is on its way.
    requested: bool,
    /// One was given up, and may arrive nevertheless.
    may_come: bool,
}

impl Link {
    pub(crate) fn new(route: Route, beside: Beside) -> Self {
        let Beside { first_row, reported, described } = beside;
        Self {
            route: Arc::new(route),
            runtime: Handle::current(),
            requests: Arc::default(),
            unconfirmed: AtomicBool::new(false),
            notifications: broadcast::Sender::new(NOTIFICATIONS),
            attended: OnceLock::new(),
            first_row,
            reported,
            described,
            utc: AtomicBool::new(false),
            ended: Lock::default(),
        }
    }

    fn lock(&self) -> Guard<'_, Cancelling> {
        self.requests.lock()
    }

    /// Sends a cancel request, unless one is on its way.
    pub(crate) fn cancel(&self) {
        self.send(self.lock());
    }

    /// Sends a request, unless one is on its way, and lets go of the lock before that.
    fn send(&self, mut cancelling: Guard<'_, Cancelling>) {
        if std::mem::replace(&mut cancelling.requested, true) {
            return;
        }
        drop(cancelling);
        foreign();
        let under_way = UnderWay { requests: Arc::clone(&self.requests), may_come: false };
        let route = Arc::clone(&self.route);
        let runtime = Handle::try_current().unwrap_or_else(|_outside| self.runtime.clone());
        runtime.spawn(async move {
            // As a whole, and not only the field that is used below.
            let mut under_way = under_way;
            match tokio::time::timeout(CANCEL_TIMEOUT, route.cancel(&mut under_way.may_come)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a cancel request failed"),
                Err(_) => tracing::debug!("a cancel request was not taken in time"),
            }
        });
    }

    /// Whether a cancel request was given up, and may stop whatever runs when it arrives.
    pub(crate) fn may_be_stopped(&self) -> bool {
        self.lock().may_come
    }

    /// Waits until no cancel request is on its way. Cancel safe.
    pub(crate) async fn quiet(&self) {
        if !self.lock().requested {
            return;
        }
        loop {
            let mut arrived = pin!(self.requests.arrived.notified());
            arrived.as_mut().enable();
            if !self.lock().requested {
                return;
            }
            arrived.await;
        }
    }

    /// Takes note that a call which may be stopped begins. Dropping what is returned stops it.
    pub(crate) fn running(self: &Arc<Self>) -> Running {
        self.lock().running = true;
        Running { link: Arc::clone(self), ended: false }
    }

    /// Whether the server gave up waiting for a standby since this was last asked.
    pub(crate) fn take_unconfirmed(&self) -> bool {
        self.unconfirmed.swap(false, Ordering::AcqRel)
    }

    /// Takes note of the session's time zone.
    pub(crate) fn time_zone(&self, name: Option<&str>) {
        let utc = name.is_some_and(|name| matches!(name, "UTC" | "Etc/UTC" | "GMT" | "Etc/GMT"));
        self.utc.store(utc, Ordering::Relaxed);
    }

    pub(crate) fn is_utc(&self) -> bool {
        self.utc.load(Ordering::Relaxed)
    }

    /// Takes note of why the connection ended.
    pub(crate) fn ended(&self, error: tokio_postgres::Error) {
        let old = self.ended.lock().replace(error);
        drop(old);
    }

    /// What the server said when it ended the session, or that what it said was no message; if it has not been told yet.
    pub(crate) fn take_end(&self) -> Option<tokio_postgres::Error> {
        self.ended.lock().take_if(|error| {
            let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
            error.as_db_error().is_some() || source.is_some_and(|source| source.kind() == io::ErrorKind::InvalidData)
        })
    }

    pub(crate) fn notifications(&self) -> broadcast::Receiver<Notification> {
        self.notifications.subscribe()
    }

    /// From now on, this is told of every notification.
    pub(crate) fn attend(&self, hearing: Arc<Hearing>) {
        self.attended.set(hearing).ok();
    }

    /// Takes what the server sends on its own account. It comes before the answer to the call it belongs to.
    pub(crate) fn hear(&self, message: AsyncMessage) {
        match message {
            AsyncMessage::Notice(notice) => {
                // The text is translated by the server, the name of its C function is not.
                if notice.routine() == Some("SyncRepWaitForLSN") {
                    self.unconfirmed.store(true, Ordering::Release);
                }
                // Its text may hold anything that a function or a failing cast puts there.
                tracing::debug!(
                    sqlstate = notice.code().code(),
                    severity = notice.severity(),
                    "the server has noticed"
                );
            }
            AsyncMessage::Notification(notification) => {
                if let Some(hearing) = self.attended.get() {
                    hearing.hear(&notification);
                }
                // Nobody listening is no error.
                drop(self.notifications.send(notification));
            }
            _ => {}
        }
    }
}

impl Requests {
    fn lock(&self) -> Guard<'_, Cancelling> {
        self.state.lock()
    }
}

/// A request that is on its way, however that ends, and also if its runtime does.
struct UnderWay {
    requests: Arc<Requests>,
    /// It may have been sent, and is not known to have arrived.
    may_come: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut cancelling = self.requests.lock();
        cancelling.requested = false;
        cancelling.may_come |= self.may_come;
        drop(cancelling);
        self.requests.arrived.notify_waiters();
    }
}

impl Route {
    /// Sends a request; `may_come` as long as it may be on its way.
    async fn cancel(&self, may_come: &mut bool) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut stream = self.address.open().await?;
        *may_come = true;
        match &self.handshake {
            None => self.token.cancel_query_raw(StaysOpen(&mut stream), NoTls).await?,
            Some(handshake) => self.token.cancel_query_raw(&mut stream, handshake.stays_open()).await?,
        }
        // The server answers nothing; it hangs up once the session has been signalled.
        let mut rest = [0; 64];
        while stream.read(&mut rest).await? > 0 {}
        *may_come = false;
        Ok(())
    }
}

/// The driver closes its side as soon as it has sent a request, which poolers take for a change of mind.
struct StaysOpen<'s>(&'s mut Stream);

impl AsyncRead for StaysOpen<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for StaysOpen<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// The handle given to users: stops the call that runs now.
pub(crate) struct LinkCanceller(pub(crate) Arc<Link>);

impl Cancel for LinkCanceller {
    fn cancel(&self) {
        let link = &self.0;
        let cancelling = link.lock();
        if cancelling.running {
            link.send(cancelling);
        }
    }
}

/// Stands for a call that is under way; dropping it before [`end`](Running::end) asks the server to stop the call.
pub(crate) struct Running {
    link: Arc<Link>,
    ended: bool,
}

impl Running {
    /// The call has ended by itself.
    pub(crate) fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut cancelling = self.link.lock();
        cancelling.running = false;
        if !self.ended {
            self.link.send(cancelling);
        }
    }
}
