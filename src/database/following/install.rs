//! What an engine needs before it tells changes.

use std::panic::Location;

use crate::connector::{Access, Connection, Connector, Resource as _};
use crate::database::call::{Stage, within};
use crate::database::handle::AsyncDatabase;
use crate::error::Result;

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// Puts in place what [`changes`](Self::changes) and [`watch`](Self::watch) need of these tables: in PostgreSQL,
    /// triggers that notify of each statement that changed rows, for whoever listens in whichever process, until
    /// [`remove_change_feed`](Self::remove_change_feed). SQLite needs nothing, and nothing is done.
    ///
    /// In PostgreSQL this is one transaction. A name stands for itself or, as in SQL, for its lower-case form;
    /// `schema.table` works too. Partitions and tables that inherit are included; those that are added later need another
    /// call. What is in place already stays. It takes the rights to create triggers on the tables and, the first time, a schema
    /// (`strongroom`) in the database. Each table is locked against writers for a moment.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// # db.execute_script("CREATE TABLE users (id INTEGER PRIMARY KEY)").await?;
    /// // With the migrations, say. On SQLite it does nothing.
    /// db.install_change_feed(["users"]).await?;
    /// let mut count = db.watch_as::<i64>("SELECT count(*) FROM users", ());
    /// assert_eq!(count.next().await.unwrap()?, [0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When a table is not there, is a view, is temporary or lies on another server; as classified by the engine. Nothing was
    /// done then.
    ///
    /// # Cancel safety
    /// Dropping the future rolls back.
    #[track_caller]
    pub fn install_change_feed<I>(&self, tables: I) -> impl Future<Output = Result<()>> + Send + use<C, I>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.install(tables, false, Location::caller())
    }

    /// [`install_change_feed`](Self::install_change_feed), so that each row can be told
    /// ([`ChangeOptions::rows`](crate::database::ChangeOptions::rows)): for tables with a key that is one integer, its values are
    /// sent along, also while nobody listens.
    ///
    /// # Errors
    /// As [`install_change_feed`](Self::install_change_feed).
    ///
    /// # Cancel safety
    /// As [`install_change_feed`](Self::install_change_feed).
    #[track_caller]
    pub fn install_change_feed_with_rows<I>(&self, tables: I) -> impl Future<Output = Result<()>> + Send + use<C, I>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.install(tables, true, Location::caller())
    }

    /// Takes away what [`install_change_feed`](Self::install_change_feed) has put in place for these tables, and with the last
    /// of them the rest. A statement that is watched and reads one of them fails from then on.
    ///
    /// # Errors
    /// When a table is not there; as classified by the engine. Nothing was done then.
    ///
    /// # Cancel safety
    /// Dropping the future rolls back.
    #[track_caller]
    pub fn remove_change_feed<I>(&self, tables: I) -> impl Future<Output = Result<()>> + Send + use<C, I>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let (database, tables, location) = (self.clone(), names(tables), Location::caller());
        async move {
            let call = database.call(location);
            let mut writer = call.lend(database.pool(), Access::Write).await?;
            let canceller = writer.canceller();
            within(call.limit(|| Stage::Write(canceller)), writer.remove_feed(tables)).await
        }
    }

    fn install<I>(
        &self,
        tables: I,
        rows: bool,
        location: &'static Location<'static>,
    ) -> impl Future<Output = Result<()>> + Send + use<C, I>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let (database, tables) = (self.clone(), names(tables));
        async move {
            let call = database.call(location);
            let mut writer = call.lend(database.pool(), Access::Write).await?;
            let canceller = writer.canceller();
            within(call.limit(|| Stage::Write(canceller)), writer.install_feed(tables, rows)).await
        }
    }
}

fn names(tables: impl IntoIterator<Item: Into<String>>) -> Vec<String> {
    tables.into_iter().map(Into::into).collect()
}
