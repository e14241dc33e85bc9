//! The migrations of a program.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::path::Path;

use super::file;
use super::migration::Migration;
use crate::DefaultConnector;
use crate::connector::Connector;
use crate::database::repeat::AsyncFunc;
use crate::database::transaction::Transaction;
use crate::error::{Error, ErrorKind, Reason, Result};

/// The migrations of a program, in the order of their versions: what
/// [`AsyncDatabase::migrate`](crate::AsyncDatabase::migrate) brings a database to.
///
/// ```
/// use strongroom::AsyncDatabase;
/// use strongroom::database::migrations::Migrations;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// let migrations = Migrations::new()
///     .sql(1, "create users", "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
///     .code(2, "first user", async |tx| {
///         tx.execute("INSERT INTO users (name) VALUES ($1)", ("alice",)).await?;
///         Ok(())
///     });
///
/// let db = AsyncDatabase::builder(":memory:").open().await?;
/// assert_eq!(db.migrate(&migrations).await?.ran.len(), 2);
/// assert!(db.migrate(&migrations).await?.ran.is_empty()); // nothing left to do
/// # Ok(()) }
/// ```
pub struct Migrations<C: Connector = DefaultConnector> {
    list: Vec<Migration<C>>,
}

impl<C: Connector> Migrations<C> {
    /// None yet.
    pub fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// Adds [SQL text](Migration::sql).
    pub fn sql(self, version: i64, name: impl Into<Cow<'static, str>>, text: impl Into<Cow<'static, str>>) -> Self {
        self.add(Migration::sql(version, name, text))
    }

    /// Adds an [async closure](Migration::code) over the transaction.
    pub fn code<F>(self, version: i64, name: impl Into<Cow<'static, str>>, work: F) -> Self
    where
        F: AsyncFn(&mut Transaction<C>) -> Result<()>,
        F: for<'t> AsyncFunc<&'t mut Transaction<C>, Result<()>> + Send + Sync + 'static,
    {
        self.add(Migration::code(version, name, work))
    }

    /// Adds a migration that runs in a way of its own.
    #[allow(clippy::should_implement_trait, reason = "it adds to a list, as its neighbours do")]
    pub fn add(mut self, migration: Migration<C>) -> Self {
        self.list.push(migration);
        self
    }

    /// Migrations from the names and texts of files, such as those that the macro
    /// [`include_files!`](super::include_files!) or the crate `include_dir` has taken into the program.
    ///
    /// A name begins with a number: `0001_create_users.sql`, `20260301120000_create_users.up.sql`,
    /// `V1__create_users.sql`. Files of another ending are left out, and so are the ways back of other tools
    /// (`.down.sql`). A comment at the top says how a file runs, if not as usual:
    ///
    /// ```sql
    /// -- strongroom: outside-transaction, repeatable
    /// VACUUM;
    /// ```
    ///
    /// The other word is `without-foreign-keys`; `-- no-transaction` in the first line, as sqlx has it, is understood.
    ///
    /// ```
    /// use strongroom::database::migrations::Migrations;
    ///
    /// # fn main() -> strongroom::Result<()> {
    /// let migrations: Migrations = Migrations::from_files([("0001_users.sql", "CREATE TABLE users (id INTEGER)")])?;
    /// assert_eq!(migrations.iter().next().map(|first| first.name()), Some("users"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there are none, two have the same number, or a name or comment is not understood.
    pub fn from_files<N: AsRef<str>, T: Into<Cow<'static, str>>>(
        files: impl IntoIterator<Item = (N, T)>,
    ) -> Result<Self> {
        let ours = files.into_iter().filter(|(name, _)| !file::is_foreign(name.as_ref()));
        let list = ours.map(|(name, text)| file::migration(name.as_ref(), text.into())).collect::<Result<Vec<_>>>()?;
        if list.is_empty() {
            return Err(Error::new(ErrorKind::Config, "there are no migrations among the files")
                .hint("their names end in .sql, as in 0001_create_users.sql"));
        }
        let migrations = Self { list };
        migrations.in_order()?;
        Ok(migrations)
    }

    /// Migrations from the files of a folder, read now; see [`from_files`](Self::from_files). It reads on the caller's
    /// thread, and folders within the folder are left out.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files), and [`ErrorKind::Config`] when something cannot be read.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let unreadable = |path: &Path, error: std::io::Error| {
            let reason = if error.kind() == std::io::ErrorKind::NotFound { Reason::NotFound } else { Reason::Io };
            Error::new(ErrorKind::Config, format!("cannot read migrations from {}", path.display()))
                .because(reason)
                .hint("check the path; a relative one starts at the working directory")
                .about(path.display().to_string())
                .caused_by(error)
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
            let path = entry.map_err(|error| unreadable(folder, error))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_file() && !file::is_foreign(&name) {
                files.push((name, fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?));
            }
        }
        Self::from_files(files).map_err(|error| error.context(folder.display()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them, as they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, Migration<C>> {
        self.list.iter()
    }

    /// All of them by their numbers, each of which must be there once.
    pub(super) fn in_order(&self) -> Result<Vec<&Migration<C>>> {
        let mut ordered: Vec<_> = self.list.iter().collect();
        ordered.iter().try_for_each(|migration| migration.check())?;
        ordered.sort_by_key(|migration| migration.version);
        match ordered.windows(2).find(|pair| pair[0].version == pair[1].version) {
            None => Ok(ordered),
            Some(pair) => {
                let [one, other] = [pair[0], pair[1]].map(|migration| &migration.name);
                let message = format!("two migrations have the number {}: {one} and {other}", pair[0].version);
                Err(Error::new(ErrorKind::Config, message).hint("give the newer one the next free number"))
            }
        }
    }
}

impl<C: Connector> Clone for Migrations<C> {
    fn clone(&self) -> Self {
        Self { list: self.list.clone() }
    }
}

impl<C: Connector> Default for Migrations<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'m, C: Connector> IntoIterator for &'m Migrations<C> {
    type Item = &'m Migration<C>;
    type IntoIter = std::slice::Iter<'m, Migration<C>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<C: Connector> fmt::Debug for Migrations<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.list).finish()
    }
}
