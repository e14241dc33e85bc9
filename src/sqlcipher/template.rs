//! Databases for tests, each a copy of one that was set up once.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::connector::SqlCipherConnector;
use super::running::job::on_thread;
use crate::database::{AsyncDatabase, DatabaseBuilder};
use crate::error::{Error, ErrorKind, Reason, Result};

const FILE: &str = "test.db";

type MakeBuilder = Box<dyn Fn(&Path) -> DatabaseBuilder<SqlCipherConnector> + Send + Sync>;

/// A database that is set up once, so that each test gets a copy of its own: a file is copied, and no migration runs
/// again.
///
/// It stands in a folder of its own below [`std::env::temp_dir`], which only its user may read, and goes with the value. One
/// in a `static` is never dropped; its folder stays until the system empties that directory.
///
/// Encrypted databases derive a key from a passphrase at every opening, which takes a sixth of a second. Give tests a raw
/// key ([`Secret::raw_key`](crate::Secret::raw_key)).
///
/// ```
/// use strongroom::AsyncDatabase;
/// use strongroom::sqlcipher::{TemplateDatabase, TestDatabase};
/// use tokio::sync::OnceCell;
///
/// static TEMPLATE: OnceCell<TemplateDatabase> = OnceCell::const_new();
///
/// async fn database() -> TestDatabase {
///     let template = TEMPLATE.get_or_try_init(|| {
///         TemplateDatabase::new(AsyncDatabase::builder, async |db| {
///             db.execute_script("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL)").await
///         })
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
pub struct TemplateDatabase {
    opening: MakeBuilder,
    folder: Folder,
}

impl TemplateDatabase {
    /// Opens a new database by `opening`, which is given the path of its file, has `set_up` fill it, and closes it.
    /// [`copy`](Self::copy) opens each copy by `opening`, too.
    ///
    /// # Errors
    /// What `opening` and `set_up` answer; [`ErrorKind::Storage`] when the folder cannot be made.
    ///
    /// # Cancel safety
    /// Dropping the future removes what was made.
    pub async fn new(
        opening: impl Fn(PathBuf) -> DatabaseBuilder<SqlCipherConnector> + Send + Sync + 'static,
        set_up: impl AsyncFnOnce(&AsyncDatabase) -> Result<()>,
    ) -> Result<Self> {
        let folder = Folder::new()?;
        let opening: MakeBuilder = Box::new(move |path| opening(path.to_owned()));
        let (outcome, closed) = opening(&folder.file()).scope(async |db| set_up(db).await).await?;
        outcome?;
        closed?;
        Ok(Self { opening, folder })
    }

    /// A copy of the database, opened.
    ///
    /// # Errors
    /// When the file cannot be copied or opened.
    ///
    /// # Cancel safety
    /// Dropping the future removes the copy.
    pub async fn copy(&self) -> Result<TestDatabase> {
        let folder = Folder::new()?;
        let (from, to) = (self.folder.file(), folder.file());
        on_thread(move || fs::copy(&from, &to).map_err(|error| failed(&to, &error))).await??;
        let database = (self.opening)(&folder.file()).open().await?;
        Ok(TestDatabase { database, folder })
    }
}

impl fmt::Debug for TemplateDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateDatabase").field("file", &self.folder.file()).finish_non_exhaustive()
    }
}

/// A database of one test, which is removed with the value; see [`TemplateDatabase::copy`].
///
/// It is an [`AsyncDatabase`] in all calls. Clones of that may outlive the value: they go on with a file that has no name
/// any more, where the system allows that.
#[derive(Debug)]
pub struct TestDatabase {
    database: AsyncDatabase,
    folder: Folder,
}

impl TestDatabase {
    /// Where its file is.
    pub fn path(&self) -> PathBuf {
        self.folder.file()
    }
}

impl Deref for TestDatabase {
    type Target = AsyncDatabase;

    fn deref(&self) -> &AsyncDatabase {
        &self.database
    }
}

/// A folder that is removed with the value.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        #[cfg_attr(not(unix), allow(unused_mut, reason = "folders have no mode there"))]
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        loop {
            let path = std::env::temp_dir().join(format!("strongroom-test-{:016x}", fastrand::u64(..)));
            match builder.create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&path, &error)),
            }
        }
    }

    fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Where open files cannot be removed, a part may stay.
        fs::remove_dir_all(&self.0).ok();
    }
}

#[cold]
fn failed(path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::Storage, format!("a database for a test could not be made at {}: {error}", path.display()))
        .because(Reason::Io)
        .hint("look whether the directory for temporary files can be written, and has space")
}
