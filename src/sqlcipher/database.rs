//! The default engine's way into the database: with `template.rs`, what knows floor 3 in this wing.

use std::borrow::Borrow;
use std::path::Path;

use super::configured::ConfiguredKey;
use super::connector::SqlCipherConnector;
use super::stats::EngineStats;
use super::tuning::Tuning;
use crate::config::DatabaseConfig;
use crate::connector::Access;
use crate::database::AsyncDatabase;
pub(super) use crate::database::DatabaseBuilder;
use crate::error::{Error, Result};
use crate::key::KeySource;

impl AsyncDatabase<SqlCipherConnector> {
    /// Starts building a database on the file at `path`, or in memory with `:memory:`.
    ///
    /// A relative path starts at the working directory of this moment, whatever that becomes later; so do those of key
    /// sources, copies and configurations when they are named. A relative path *in a statement* (`ATTACH` in a hook,
    /// `VACUUM INTO`) is SQLite's, and starts at the working directory of the moment in which it runs: give the whole one.
    ///
    /// ```
    /// use strongroom::{AsyncDatabase, EnvKeySource};
    ///
    /// # async fn open() -> strongroom::Result<()> {
    /// let db = AsyncDatabase::builder("app.db").key(EnvKeySource::new("APP_DB_KEY")).pool_max(4).open().await?;
    /// # Ok(()) }
    /// ```
    pub fn builder(path: impl AsRef<Path>) -> DatabaseBuilder<SqlCipherConnector> {
        Self::with_connector(SqlCipherConnector::new(path))
    }

    /// Starts building a database with the settings of `config`: how many connections, when to try again, and where the
    /// key is. What is then set on the builder wins. The configuration never holds a passphrase; with `key_source:
    /// passphrase` give it by [`key`](DatabaseBuilder::key).
    ///
    /// ```
    /// use strongroom::{AsyncDatabase, DatabaseConfig, PassphraseKeySource};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let mut config = DatabaseConfig::default();
    /// config.pool.max_size = 4;
    /// config.cipher.enabled = true;
    /// let db = AsyncDatabase::from_config(":memory:", &config).key(PassphraseKeySource::new("typed")).open().await?;
    /// assert!(db.is_encrypted());
    /// # Ok(()) }
    /// ```
    pub fn from_config(
        path: impl AsRef<Path>,
        config: impl Borrow<DatabaseConfig>,
    ) -> DatabaseBuilder<SqlCipherConnector> {
        let DatabaseConfig { pool, retry, cipher } = config.borrow();
        let builder = Self::builder(path)
            .pool_min(pool.min_size)
            .pool_max(pool.max_size)
            .pool_timeout(pool.acquire_timeout)
            .max_retries(retry.max_attempts)
            .retry_delay(retry.delay);
        if cipher.enabled { builder.key(ConfiguredKey::new(config.borrow())) } else { builder }
    }

    /// What the engine has done since the database was opened: how often statements were found prepared, what ran without
    /// a thread, how many writes shared a commit; and how large the write-ahead log is. What the pool does is in
    /// [`stats`](AsyncDatabase::stats).
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let db = AsyncDatabase::builder(":memory:").open().await?;
    /// for _ in 0..10 {
    ///     db.fetch_value::<i64>("SELECT 1", ()).await?;
    /// }
    /// let stats = db.engine_stats();
    /// assert_eq!((stats.statement_misses, stats.statement_hits), (1, 9));
    /// # Ok(()) }
    /// ```
    pub fn engine_stats(&self) -> EngineStats {
        let oldest_reader = self.pool().oldest_loan(Access::Read);
        EngineStats { oldest_reader, ..self.pool().connector().stats() }
    }

    /// Names the source of the key that opened the database: of several that were offered
    /// ([`CandidateKeySource`](crate::keys::CandidateKeySource)), the one whose key fitted. `None` before the first
    /// connection, and without a key.
    ///
    /// ```
    /// use strongroom::{AsyncDatabase, PassphraseKeySource};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let db = AsyncDatabase::builder(":memory:").key(PassphraseKeySource::new("typed")).open().await?;
    /// assert_eq!(db.key_source(), Some("a secret given by the caller"));
    /// # Ok(()) }
    /// ```
    pub fn key_source(&self) -> Option<&str> {
        self.pool().connector().key_source()
    }

    /// Calls `work` with rusqlite's connection of the writer, on a thread that may block; see
    /// [`SqlCipherConnection::interact`](crate::sqlcipher::SqlCipherConnection::interact). **An error type of your own** comes
    /// out of [`try_interact`](Self::try_interact); this closure answers with rusqlite's, so that `?` needs no annotation.
    ///
    /// # Errors
    /// When the writer cannot be had, and what `work` answers.
    ///
    /// # Cancel safety
    /// As [`SqlCipherConnection::interact`](crate::sqlcipher::SqlCipherConnection::interact): the running statement is interrupted,
    /// and what `work` left open is rolled back.
    #[track_caller]
    pub fn interact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send {
        let lent = self.connection();
        async move { lent.await?.natively(move |connection| Box::pin(connection.interact(work))).await }
    }

    /// [`interact`](Self::interact) on a connection that reads, beside the writer; SQLite refuses what would write.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// let sum: i64 = db.read_interact(|c| c.query_row("SELECT 40 + 2", (), |row| row.get(0))).await?;
    /// assert_eq!(sum, 42);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When no reader can be had, and what `work` answers.
    ///
    /// # Cancel safety
    /// As [`interact`](Self::interact).
    #[track_caller]
    pub fn read_interact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send {
        let lent = self.read_connection();
        async move { lent.await?.natively(move |connection| Box::pin(connection.interact(work))).await }
    }

    /// [`try_interact`](Self::try_interact) on a connection that reads.
    ///
    /// # Errors
    /// As [`read_interact`](Self::read_interact), turned into `E`; what `work` answers as it is.
    ///
    /// # Cancel safety
    /// As [`interact`](Self::interact).
    #[track_caller]
    pub fn try_read_interact<T, E>(
        &self,
        work: impl FnOnce(&mut rusqlite::Connection) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let answer = self.read_interact(move |connection| Ok(work(connection)));
        async move { answer.await? }
    }

    /// [`interact`](Self::interact) for a closure with an error type of your own; see
    /// [`SqlCipherConnection::try_interact`](crate::sqlcipher::SqlCipherConnection::try_interact).
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let db = AsyncDatabase::builder(":memory:").open().await?;
    /// let year: u32 = db
    ///     .try_interact(|c| -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
    ///         let text: String = c.query_row("SELECT '2026'", (), |row| row.get(0))?;
    ///         Ok(text.parse()?)
    ///     })
    ///     .await?;
    /// assert_eq!(year, 2026);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`interact`](Self::interact), turned into `E`; what `work` answers as it is.
    ///
    /// # Cancel safety
    /// As [`interact`](Self::interact).
    #[track_caller]
    pub fn try_interact<T, E>(
        &self,
        work: impl FnOnce(&mut rusqlite::Connection) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let answer = self.interact(move |connection| Ok(work(connection)));
        async move { answer.await? }
    }
}

impl DatabaseBuilder<SqlCipherConnector> {
    /// Encrypts with the key from `source`. It is asked when the first connection opens, and again only if the file has
    /// another key later, because another process has changed it.
    pub fn key(self, source: impl KeySource + 'static) -> Self {
        self.map_connector(|connector| connector.key(source))
    }

    /// Whether a file that is missing is created; true by default.
    pub fn create_if_missing(self, create: bool) -> Self {
        self.map_connector(|connector| connector.create_if_missing(create))
    }

    /// Opens for reading only: nothing is written, made or removed on the disk; see
    /// [`SqlCipherConnector::read_only`](crate::SqlCipherConnector::read_only).
    ///
    /// ```
    /// use strongroom::{AsyncDatabase, ErrorKind};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("app.db");
    /// # let (made, _) = AsyncDatabase::builder(&path).scope(async |db| db.execute_script("CREATE TABLE t (a)").await).await?;
    /// # made?;
    /// let db = AsyncDatabase::builder(&path).read_only().open().await?;
    /// assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await?, Some(0));
    /// let refused = db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap_err();
    /// assert_eq!(refused.kind(), ErrorKind::Unsupported);
    /// # Ok(()) }
    /// ```
    pub fn read_only(self) -> Self {
        self.map_connector(SqlCipherConnector::read_only)
    }

    /// Opens for reading what never changes, without locks; see
    /// [`SqlCipherConnector::immutable`](crate::SqlCipherConnector::immutable).
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # async fn open() -> strongroom::Result<()> {
    /// let db = AsyncDatabase::builder("/media/cdrom/atlas.db").immutable().open().await?;
    /// # Ok(()) }
    /// ```
    pub fn immutable(self) -> Self {
        self.map_connector(SqlCipherConnector::immutable)
    }

    /// Keeps all other processes out while the database is open; see
    /// [`SqlCipherConnector::exclusive`](crate::SqlCipherConnector::exclusive).
    ///
    /// ```
    /// use strongroom::{AsyncDatabase, ErrorKind};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("app.db");
    /// let db = AsyncDatabase::builder(&path).exclusive().open().await?;
    /// db.execute_script("CREATE TABLE t (a)").await?;
    /// assert!(!path.with_extension("db-shm").exists());
    ///
    /// # use strongroom::{pool::NoRetry, sqlcipher::Tuning};
    /// # let impatient = Tuning::default().busy_timeout(std::time::Duration::ZERO);
    /// # let builder = AsyncDatabase::builder(&path).tuning(impatient).retry(NoRetry);
    /// let another = builder.open().await.unwrap_err();
    /// assert_eq!(another.kind(), ErrorKind::Busy);
    /// # Ok(()) }
    /// ```
    pub fn exclusive(self) -> Self {
        self.map_connector(SqlCipherConnector::exclusive)
    }

    /// The version of SQLCipher's format, 1 to 4, for files that older programs wrote; 4 by default.
    pub fn cipher_compatibility(self, version: u8) -> Self {
        self.map_connector(|connector| connector.cipher_compatibility(version))
    }

    /// How many rounds made the key from the passphrase, for files of programs that set `kdf_iter`; see
    /// [`SqlCipherConnector::cipher_kdf_iter`](crate::SqlCipherConnector::cipher_kdf_iter).
    pub fn cipher_kdf_iter(self, rounds: u32) -> Self {
        self.map_connector(|connector| connector.cipher_kdf_iter(rounds))
    }

    /// The size of a page in bytes, for files of programs that set `cipher_page_size`; see
    /// [`SqlCipherConnector::cipher_page_size`](crate::SqlCipherConnector::cipher_page_size).
    pub fn cipher_page_size(self, bytes: u32) -> Self {
        self.map_connector(|connector| connector.cipher_page_size(bytes))
    }

    /// Leaves the first 32 bytes of the file unencrypted, for containers that apps share on iOS; the salt comes with the
    /// key. See [`SqlCipherConnector::plaintext_header`](crate::SqlCipherConnector::plaintext_header).
    ///
    /// ```
    /// use strongroom::{AsyncDatabase, PassphraseKeySource, Secret};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("app.db");
    /// # let (key, salt) = ([7; 32], [8; 16]); // both from the keychain
    /// let key = PassphraseKeySource::new(Secret::raw_key_with_salt(key, salt));
    /// let db = AsyncDatabase::builder(&path).key(key).plaintext_header().open().await?;
    /// db.execute_script("CREATE TABLE t (a)").await?;
    /// db.close().await?;
    /// assert!(std::fs::read(&path).unwrap().starts_with(b"SQLite format 3\0"));
    /// # Ok(()) }
    /// ```
    pub fn plaintext_header(self) -> Self {
        self.map_connector(SqlCipherConnector::plaintext_header)
    }

    /// [`plaintext_header`](Self::plaintext_header) with a salt that is given here; see
    /// [`SqlCipherConnector::plaintext_header_with`](crate::SqlCipherConnector::plaintext_header_with).
    pub fn plaintext_header_with(self, salt: [u8; 16]) -> Self {
        self.map_connector(|connector| connector.plaintext_header_with(salt))
    }

    /// Cache, durability and waiting.
    pub fn tuning(self, tuning: Tuning) -> Self {
        self.map_connector(|connector| connector.tuning(tuning))
    }
}
