//! One migration.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::checksum;
use crate::DefaultConnector;
use crate::connector::Connector;
use crate::database::repeat::AsyncFunc;
use crate::database::transaction::Transaction;
use crate::error::{Error, ErrorKind, Result};

/// What a closure of a migration gives back.
type MigrationWork<'t> = Pin<Box<dyn Future<Output = Result<()>> + Send + 't>>;

type Code<C> = dyn for<'t> Fn(&'t mut Transaction<C>) -> MigrationWork<'t> + Send + Sync;

pub(super) enum Body<C: Connector> {
    Sql { text: Cow<'static, str>, checksum: String },
    Code(Arc<Code<C>>),
}

impl<C: Connector> Clone for Body<C> {
    fn clone(&self) -> Self {
        match self {
            Self::Sql { text, checksum } => Self::Sql { text: text.clone(), checksum: checksum.clone() },
            Self::Code(work) => Self::Code(Arc::clone(work)),
        }
    }
}

/// How a migration runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MigrationWay {
    /// In a transaction, with its line of the history.
    Transaction,
    /// The same, while foreign keys are off; they are checked before the commit.
    WithoutForeignKeys,
    /// Between two lines of the history: that it began, and that it finished.
    Outside,
    /// Both were asked for, which is refused: keys are looked through before a commit, and outside there is none.
    Contradiction,
}

/// One step of a schema: SQL text, or an async closure over a transaction; see [`Migrations`](super::Migrations).
///
/// Its version is a number, such as 1, 2, 3 or `2026_03_01_1200`. Versions are put in order, and there may be gaps. Its name is
/// for people. What a closure does cannot be compared with what ran, so there the name is.
///
/// ```
/// use strongroom::database::migrations::{Migration, Migrations};
///
/// let migrations: Migrations = Migrations::new()
///     .add(Migration::sql(1, "create users", "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)"))
///     .add(Migration::sql(2, "compact", "VACUUM").outside_transaction().repeatable());
/// assert_eq!(migrations.len(), 2);
/// ```
pub struct Migration<C: Connector = DefaultConnector> {
    pub(super) version: i64,
    pub(super) name: Cow<'static, str>,
    pub(super) body: Body<C>,
    pub(super) way: MigrationWay,
    pub(super) repeatable: bool,
}

impl<C: Connector> Migration<C> {
    /// SQL text, of one or several statements without parameters.
    pub fn sql(version: i64, name: impl Into<Cow<'static, str>>, text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        let checksum = checksum::of(&text);
        Self::new(version, name.into(), Body::Sql { text, checksum })
    }

    /// An async closure over the transaction in which the migration runs: `async |tx| ...`. It may be called again after
    /// a failure, in another transaction, and must do everything through `tx`. It captures nothing that it owns; what does
    /// is given to [`boxed`](Self::boxed).
    ///
    /// ```
    /// use strongroom::database::migrations::Migration;
    ///
    /// let migration: Migration = Migration::code(3, "split names", async |tx| {
    ///     for row in tx.fetch_all("SELECT id, name FROM users", ()).await? {
    ///         let (id, name) = (row.get::<i64>(0)?, row.get::<String>(1)?);
    ///         let first = name.split(' ').next().unwrap_or_default();
    ///         tx.execute("UPDATE users SET first_name = $1 WHERE id = $2", (first, id)).await?;
    ///     }
    ///     Ok(())
    /// });
    /// assert_eq!((migration.version(), migration.name()), (3, "split names"));
    /// ```
    pub fn code<F>(version: i64, name: impl Into<Cow<'static, str>>, work: F) -> Self
    where
        // The first for its words: from it, the compiler knows what `tx` is. The second for `Send`.
        F: AsyncFn(&mut Transaction<C>) -> Result<()>,
        F: for<'t> AsyncFunc<&'t mut Transaction<C>, Result<()>> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        Self::boxed(version, name, move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move { work.call(tx).await })
        })
    }

    /// [`code`](Self::code) by a closure that gives back a boxed future, and so may own what it captures.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use strongroom::database::migrations::Migration;
    ///
    /// let cities: Arc<[&str]> = Arc::from(["Bern", "Oslo"]);
    /// let migration: Migration = Migration::boxed(4, "cities", move |tx| {
    ///     let cities = Arc::clone(&cities);
    ///     Box::pin(async move {
    ///         tx.execute_many("INSERT INTO cities VALUES ($1)", cities.iter().map(|city| (*city,))).await?;
    ///         Ok(())
    ///     })
    /// });
    /// # let _ = migration;
    /// ```
    pub fn boxed<F>(version: i64, name: impl Into<Cow<'static, str>>, work: F) -> Self
    where
        F: for<'t> Fn(&'t mut Transaction<C>) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 't>>,
        F: Send + Sync + 'static,
    {
        Self::new(version, name.into(), Body::Code(Arc::new(work)))
    }

    fn new(version: i64, name: Cow<'static, str>, body: Body<C>) -> Self {
        Self { version, name, body, way: MigrationWay::Transaction, repeatable: false }
    }

    /// Foreign keys are off while it runs, and checked before it commits: what a table of SQLite needs that others refer
    /// to and that is made anew. A violation is an error, and nothing is changed then. PostgreSQL, where tables are
    /// altered in place, has no such thing: there it is [`ErrorKind::Unsupported`]. Together with
    /// [`outside_transaction`](Self::outside_transaction) it is [`ErrorKind::Config`].
    ///
    /// ```
    /// use strongroom::database::migrations::Migration;
    ///
    /// let migration: Migration = Migration::sql(
    ///     4,
    ///     "names are required",
    ///     "CREATE TABLE rebuilt (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    ///      INSERT INTO rebuilt SELECT id, coalesce(name, '') FROM users;
    ///      DROP TABLE users;
    ///      ALTER TABLE rebuilt RENAME TO users",
    /// )
    /// .without_foreign_keys();
    /// ```
    pub fn without_foreign_keys(self) -> Self {
        self.asks_for(MigrationWay::WithoutForeignKeys)
    }

    /// It runs outside of transactions, statement by statement, because the engine asks for that: `VACUUM`, `CREATE INDEX
    /// CONCURRENTLY`. The history says first that it began, and then that it finished. If a crash or a failure comes
    /// between, the next run refuses to go on, unless the migration is [`repeatable`](Self::repeatable) or
    /// [`MigrateOptions`](super::MigrateOptions) say what to do; its text may be mended before it runs again. What it
    /// leaves behind in its session (pragmas, settings) ends with it: what comes next has another connection.
    pub fn outside_transaction(self) -> Self {
        self.asks_for(MigrationWay::Outside)
    }

    fn asks_for(self, way: MigrationWay) -> Self {
        let agrees = self.way == MigrationWay::Transaction || self.way == way;
        Self { way: if agrees { way } else { MigrationWay::Contradiction }, ..self }
    }

    /// It may run again after it began [outside of transactions](Self::outside_transaction) and did not finish.
    ///
    /// ```
    /// use strongroom::database::migrations::Migration;
    /// # use strongroom::SqlCipherConnector;
    ///
    /// # let migration: Migration =
    /// Migration::sql(
    ///     5,
    ///     "find users by name",
    ///     "DROP INDEX CONCURRENTLY IF EXISTS users_name;
    ///      CREATE INDEX CONCURRENTLY users_name ON users (name)",
    /// )
    /// .outside_transaction()
    /// .repeatable()
    /// # ;
    /// ```
    pub fn repeatable(self) -> Self {
        Self { repeatable: true, ..self }
    }

    /// Its number.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the history keeps to recognise it by; none of a closure.
    pub(super) fn checksum(&self) -> Option<&str> {
        match &self.body {
            Body::Sql { checksum, .. } => Some(checksum),
            Body::Code(_) => None,
        }
    }

    /// As errors name it.
    pub(super) fn title(&self) -> String {
        title(self.version, &self.name)
    }

    /// # Errors
    /// When it could never run.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |message: String, hint| Err(Error::new(ErrorKind::Config, message).hint(hint).about(self.title()));
        match (&self.body, self.way) {
            _ if self.version < 0 => wrong(format!("{} has a number below 0", self.title()), "count from 1"),
            (Body::Code(_), MigrationWay::Outside) => wrong(
                format!("{} is a closure and cannot run outside of a transaction", self.title()),
                "write what must run outside as SQL, in a migration of its own",
            ),
            (_, MigrationWay::Contradiction) => wrong(
                format!("{} asks to run outside of a transaction, and without foreign keys in one", self.title()),
                "leave one of them out: foreign keys are looked through before a commit, and outside there is none",
            ),
            _ => Ok(()),
        }
    }
}

/// As errors name a migration.
pub(super) fn title(version: i64, name: &str) -> String {
    format!("migration {version} ({name})")
}

impl<C: Connector> Clone for Migration<C> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), body: self.body.clone(), ..*self }
    }
}

impl<C: Connector> fmt::Debug for Migration<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migration")
            .field("version", &self.version)
            .field("name", &self.name)
            .field("way", &self.way)
            .finish_non_exhaustive()
    }
}
