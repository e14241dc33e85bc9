//! Databases for tests, each a copy of one that was set up once.
//!
//! A thread of its own keeps one session on the server, for as long as the template or a copy lives: a test's runtime ends
//! with the test, and what is dropped has nobody to await it. The session holds an advisory lock that names the template.
//! What a process left behind that did not come to drop it has no such lock, and the next one removes it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::connection::PostgresConnection;
use super::reaching::PostgresConnector;
use crate::connector::{Access, Connection as _, Connector as _, Resource as _, Statement};
use crate::database::AsyncDatabase;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{Lock, foreign};
use crate::params::IntoParams;
use crate::row::Rows;

/// How long the end of the last value may keep its thread, so that all is removed when a program ends after it.
const GOODBYE: Duration = Duration::from_secs(2);

/// A PostgreSQL database that is set up once, so that each test gets a copy of its own (`CREATE DATABASE .. TEMPLATE`), and
/// no migration runs again.
///
/// It is removed soon after the value is dropped, and so is each copy. A value in a `static` is never dropped, and a process
/// may end before all is done: the next one that makes a template by way of the same database removes what is left of
/// those that have ended.
///
/// ```no_run
/// use strongroom::postgres::{PostgresConnector, PostgresTemplate, PostgresTestDatabase};
/// use tokio::sync::OnceCell;
///
/// static TEMPLATE: OnceCell<PostgresTemplate> = OnceCell::const_new();
///
/// async fn database() -> PostgresTestDatabase {
///     let template = TEMPLATE.get_or_try_init(async || {
///         PostgresTemplate::new(PostgresConnector::from_env()?, async |db| {
///             db.execute_script("CREATE TABLE users (id BIGSERIAL PRIMARY KEY, name TEXT NOT NULL)").await
///         })
///         .await
///     });
///     template.await.unwrap().copy().await.unwrap()
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// let (one, two) = (database().await, database().await);
/// one.execute("INSERT INTO users (name) VALUES ('alice')", ()).await?;
/// assert_eq!(two.fetch_value::<i64>("SELECT count(*) FROM users", ()).await?, Some(0));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PostgresTemplate {
    connector: PostgresConnector,
    made: Made,
    /// Numbers for names, each taken in one step: `Relaxed` does.
    copies: AtomicU64,
}

impl PostgresTemplate {
    /// Makes a new database on the server of `connector`, has `set_up` fill it, and closes it. The user must be allowed to
    /// create databases. The database that `connector` names is only used to ask for that, and stays as it is.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses, and what `set_up` answers.
    ///
    /// # Cancel safety
    /// Dropping the future removes what was made.
    pub async fn new(
        connector: PostgresConnector,
        set_up: impl AsyncFnOnce(&AsyncDatabase<PostgresConnector>) -> Result<()>,
    ) -> Result<Self> {
        let session = TemplateSession::start(connector.clone()).await?;
        let name = session.name.clone();
        let made = Made::new(session, name, "").await?;
        let builder = AsyncDatabase::with_connector(connector.clone().database(&made.name));
        let (outcome, closed) = builder.scope(set_up).await?;
        outcome?;
        closed?;
        Ok(Self { connector, made, copies: AtomicU64::new(0) })
    }

    /// A copy of the database, opened.
    ///
    /// # Errors
    /// When the server refuses the copy, or cannot be reached.
    ///
    /// # Cancel safety
    /// Dropping the future removes the copy.
    pub async fn copy(&self) -> Result<PostgresTestDatabase> {
        let template = &self.made.name;
        let name = format!("{template}_{}", self.copies.fetch_add(1, Relaxed));
        let made = Made::new(Arc::clone(&self.made.session), name, &format!(" TEMPLATE {template}")).await?;
        let database = AsyncDatabase::with_connector(self.connector.clone().database(&made.name)).open().await?;
        Ok(PostgresTestDatabase { database, made })
    }
}

/// A database of one test; see [`PostgresTemplate::copy`].
///
/// It is an [`AsyncDatabase`] in all calls. The server removes it soon after the value is dropped, or within
/// [`remove`](Self::remove). Clones that outlive it lose their connections.
#[derive(Debug)]
pub struct PostgresTestDatabase {
    database: AsyncDatabase<PostgresConnector>,
    made: Made,
}

impl PostgresTestDatabase {
    /// What the server calls it.
    pub fn name(&self) -> &str {
        &self.made.name
    }

    /// Closes the database and removes it.
    ///
    /// # Errors
    /// As [`AsyncDatabase::close`], and when the server refuses.
    ///
    /// # Cancel safety
    /// Dropping the future is like dropping the value.
    pub async fn remove(self) -> Result<()> {
        self.database.close().await?;
        self.made.ordered(self.made.removal()).await
    }
}

impl Deref for PostgresTestDatabase {
    type Target = AsyncDatabase<PostgresConnector>;

    fn deref(&self) -> &Self::Target {
        &self.database
    }
}

/// A database that is removed with the value.
#[derive(Debug)]
struct Made {
    session: Arc<TemplateSession>,
    name: String,
}

impl Made {
    /// The value exists before the database does, so that nothing is left when the future is dropped in between.
    async fn new(session: Arc<TemplateSession>, name: String, like: &str) -> Result<Self> {
        let made = Self { session, name };
        made.ordered(format!("CREATE DATABASE {}{like}", made.name)).await?;
        Ok(made)
    }

    async fn ordered(&self, sql: String) -> Result<()> {
        let (sender, answer) = oneshot::channel();
        self.session.order(sql, move |outcome| drop(sender.send(outcome)));
        let ended = "the session that makes databases for tests has ended";
        let outcome = answer.await.unwrap_or_else(|_ended| Err(Error::new(ErrorKind::Connection, ended)));
        outcome.map_err(|error| error.context("a database for a test"))
    }

    /// Sessions may be open still.
    fn removal(&self) -> String {
        format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)
    }
}

impl Drop for Made {
    /// Does not wait: a login of this very runtime may have begun, and the server waits for that.
    fn drop(&mut self) {
        let name = self.name.clone();
        self.session.order(self.removal(), move |outcome| {
            if let Err(error) = outcome {
                tracing::warn!(database = name, %error, "a database for a test could not be removed");
            }
        });
    }
}

/// One statement, and who is told of its end.
struct Order {
    sql: String,
    answer: Box<dyn FnOnce(Result<()>) + Send>,
}

/// The thread with the session; it ends with the value.
struct TemplateSession {
    name: String,
    /// `None` at the end.
    orders: Option<UnboundedSender<Order>>,
    /// Told when the thread has done what was ordered.
    done: Lock<Receiver<()>>,
}

impl TemplateSession {
    async fn start(connector: PostgresConnector) -> Result<Arc<Self>> {
        let (orders, received) = unbounded_channel();
        let (began, name) = oneshot::channel();
        let (doing, done) = sync_channel(0);
        foreign();
        let spawned = thread::Builder::new().name("strongroom-template".into()).spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            // Dropped at the end.
            let _doing = doing;
            match runtime.map_err(|error| no_thread(&error)) {
                Ok(runtime) => runtime.block_on(keep(connector, received, began)),
                Err(error) => drop(began.send(Err(error))),
            }
        });
        spawned.map_err(|error| no_thread(&error))?;
        let name = name.await.map_err(|_ended| Error::panicked("thread of a template"))??;
        Ok(Arc::new(Self { name, orders: Some(orders), done: Lock::new(done) }))
    }

    /// An order that comes too late is dropped, and its answer with it.
    fn order(&self, sql: String, answer: impl FnOnce(Result<()>) + Send + 'static) {
        let order = Order { sql, answer: Box::new(answer) };
        self.orders.as_ref().and_then(|orders| orders.send(order).ok());
    }
}

impl Drop for TemplateSession {
    fn drop(&mut self) {
        self.orders = None;
        self.done.lock().recv_timeout(GOODBYE).ok();
    }
}

impl fmt::Debug for TemplateSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateSession").field("name", &self.name).finish_non_exhaustive()
    }
}

fn no_thread(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Connection, format!("no thread for the session that makes databases for tests: {error}"))
}

/// Tells the name of the template, then does what is ordered.
async fn keep(
    connector: PostgresConnector,
    mut orders: UnboundedReceiver<Order>,
    began: oneshot::Sender<Result<String>>,
) {
    let mut session = match begin(&connector).await {
        Ok((session, name)) => {
            drop(began.send(Ok(name)));
            session
        }
        Err(error) => return drop(began.send(Err(error))),
    };
    while let Some(Order { sql, answer }) = orders.recv().await {
        answer(run(&mut session, &sql, ()).await.map(drop));
    }
    if let Err(error) = session.close().await {
        tracing::debug!(%error, "the session that makes databases for tests did not say goodbye");
    }
}

/// The session, and a name that it has locked.
async fn begin(connector: &PostgresConnector) -> Result<(PostgresConnection, String)> {
    let mut session = connector.connect(Access::Write).await?;
    // Advisory locks are known to the sessions of one database, so the name says which.
    let home = run(&mut session, "SELECT hashtext(current_database())", ()).await?;
    let home: i32 = home.first().map_or(Ok(0), |row| row.get(0))?;
    let ours = format!("strongroom_test_{home:08x}_");
    remove_left(&mut session, &ours).await;
    let name = format!("{ours}{:016x}", fastrand::u64(..));
    run(&mut session, &format!("SELECT pg_advisory_lock({})", lock_of(&name)), ()).await?;
    Ok((session, name))
}

fn lock_of(template: &str) -> String {
    format!("hashtext('strongroom_test'), hashtext('{template}')")
}

/// Removes the databases of templates that nobody has locked. What cannot be removed stays, as it may be another user's.
async fn remove_left(session: &mut PostgresConnection, ours: &str) {
    let known = "SELECT datname::text FROM pg_database WHERE starts_with(datname, $1) ORDER BY datname";
    let Ok(found) = run(session, known, (ours,)).await else { return };
    for name in found.iter().filter_map(|row| row.get::<String>(0).ok()) {
        let Some(template) = name.get(..ours.len() + 16) else { continue };
        let lock = lock_of(template);
        let free = run(session, &format!("SELECT pg_try_advisory_lock({lock})"), ()).await;
        if free.is_ok_and(|rows| rows.first().is_some_and(|row| row.get(0).unwrap_or(false))) {
            let removed = run(session, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), ()).await;
            tracing::debug!(database = name, error = ?removed.err(), "removed what an earlier process left");
            run(session, &format!("SELECT pg_advisory_unlock({lock})"), ()).await.ok();
        }
    }
}

async fn run(session: &mut PostgresConnection, sql: &str, params: impl IntoParams) -> Result<Rows> {
    session.run(Statement::new(sql, params)?).await
}
