//! The session that listens, and the task that looks after it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::hearing::Hearing;
use super::message::{CHANNEL, shown};
use super::triggers::TELLING;
use crate::clock;
use crate::connector::{Access, Connection as _, Connector as _, Resource as _, Statement};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::feed::ChangeFeed;
use crate::lock::{Lock, foreign};
use crate::postgres::connection::PostgresConnection;

/// After so much silence the session is asked whether it still works: a server that is gone without a word sends nothing.
const SILENCE: Duration = Duration::from_secs(15);

/// A session that does not answer within this time is lost.
const ANSWER: Duration = Duration::from_secs(10);

/// How long it may take from one session to another.
const ARRIVAL: Duration = Duration::from_secs(2);

/// How long the sessions may take to end.
const END: Duration = Duration::from_secs(10);

/// The sessions of one connector that listen.
#[derive(Default)]
pub(crate) struct Followers {
    /// Held while one is opened: a feed is told once.
    turn: Mutex<()>,
    live: Lock<Vec<Follower>>,
}

struct Follower {
    stop: Arc<Notify>,
    task: JoinHandle<()>,
}

impl PostgresConnection {
    /// Opens a session that listens for `feed`, unless there is one. This connection proves that it hears.
    pub(crate) async fn follow_feed(&mut self, feed: &ChangeFeed) -> Result<()> {
        let followers = Arc::clone(self.home.followers());
        let _turn = followers.turn.lock().await;
        if feed.is_armed() {
            return Ok(());
        }
        let tables = self.tables_that_tell().await?;
        let proof = format!("strongroom_proof_{:016x}", RandomState::new().build_hasher().finish());
        let hearing = Arc::new(Hearing::new(feed.clone(), tables, proof.clone()));
        let mut ears = self.home.ears().connect(Access::Write).await?;
        ears.session.link.attend(Arc::clone(&hearing));
        ears.run_script(format!("LISTEN {CHANNEL}; LISTEN {proof}").into()).await?;
        self.run(Statement::new(format!("NOTIFY {proof}"), ())?).await?;
        proven(&mut ears, &hearing).await?;
        ears.run_script(format!("UNLISTEN {proof}").into()).await?;
        feed.arm(true);
        feed.wake();
        followers.start(ears, hearing, feed.clone());
        Ok(())
    }

    /// The tables that have triggers, by their own numbers.
    async fn tables_that_tell(&mut self) -> Result<HashMap<u32, Arc<str>>> {
        let sql = format!(
            "SELECT DISTINCT CAST(c.oid AS bigint), CAST(n.nspname AS text), CAST(c.relname AS text) \
             FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE t.tgfoid = {TELLING}"
        );
        let rows = self.run(Statement::new(sql, ())?).await?;
        let mut tables = HashMap::new();
        for row in &rows {
            let oid = u32::try_from(row.get::<i64>(0)?).unwrap_or_default();
            tables.insert(oid, shown(&row.get::<String>(1)?, &row.get::<String>(2)?));
        }
        if tables.is_empty() {
            return Err(Error::new(ErrorKind::Unsupported, "no table of this database tells its changes")
                .hint("call install_change_feed() with the tables first"));
        }
        Ok(tables)
    }
}

/// Waits until the message of the other session was heard: a session that is shared by a pooler does not hear it.
async fn proven(ears: &mut PostgresConnection, hearing: &Hearing) -> Result<()> {
    let end = Instant::now() + ARRIVAL;
    loop {
        ears.ping().await?;
        if hearing.is_proven() {
            return Ok(());
        }
        if Instant::now() >= end {
            let message = "a session that listens does not hear what others send, so changes cannot be told";
            return Err(Error::new(ErrorKind::Unsupported, message).hint(
                "a pooler in transaction mode does that; connect to the server itself, or by a pooler in session mode",
            ));
        }
        clock::sleep(Duration::from_millis(20)).await;
    }
}

impl Followers {
    fn start(&self, ears: PostgresConnection, hearing: Arc<Hearing>, feed: ChangeFeed) {
        let stop = Arc::new(Notify::new());
        foreign();
        // Made here: a runtime that ends drops tasks that never began.
        let attending = Attending(hearing);
        let task = tokio::spawn(attend(ears, attending, feed, Arc::clone(&stop)));
        let mut live = self.live.lock();
        let ended: Vec<_> = live.extract_if(.., |follower| follower.task.is_finished()).collect();
        live.push(Follower { stop, task });
        drop(live);
        drop(ended);
    }

    /// Closes all sessions that listen.
    pub(crate) async fn stop(&self) -> Result<()> {
        let live = std::mem::take(&mut *self.live.lock());
        for follower in &live {
            follower.stop.notify_one();
        }
        let end = Instant::now() + END;
        for follower in live {
            if clock::timeout_at(end, follower.task).await.is_err() {
                let message = "a session that listens for changes was not closed in time";
                return Err(Error::new(ErrorKind::Timeout, message).during(Phase::Close));
            }
        }
        Ok(())
    }
}

/// Says that nothing is heard any more, however the task ends.
struct Attending(Arc<Hearing>);

impl Drop for Attending {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

async fn attend(mut ears: PostgresConnection, attending: Attending, feed: ChangeFeed, stop: Arc<Notify>) {
    let hearing = Arc::clone(&attending.0);
    loop {
        tokio::select! {
            biased;
            () = stop.notified() => break,
            () = feed.deserted() => if hearing.stop_if_deserted() { break } else { continue },
            () = ears.ended() => break,
            () = hearing.arrived() => {}
            () = clock::sleep(SILENCE) => {}
        }
        if let Err(error) = catch_up(&mut ears, &hearing).await {
            tracing::debug!(%error, "the session that listens for changes was lost");
            break;
        }
    }
    drop(attending);
    if let Err(error) = ears.close().await {
        tracing::debug!(%error, "the session that listened for changes was not closed properly");
    }
}

/// Asks the server until nothing is left of which more may come.
async fn catch_up(ears: &mut PostgresConnection, hearing: &Hearing) -> Result<()> {
    loop {
        let open = hearing.open();
        match clock::timeout_at(Instant::now() + ANSWER, ears.ping()).await {
            Ok(answer) => answer?,
            Err(_elapsed) => return Err(Error::new(ErrorKind::Connection, "the server does not answer")),
        }
        if hearing.complete(open) {
            return Ok(());
        }
    }
}

impl fmt::Debug for Followers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followers").field("live", &self.live.lock().len()).finish_non_exhaustive()
    }
}
