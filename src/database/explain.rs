//! Asking the engine how it would run a statement.

use std::panic::Location;

use super::answer::Answer;
use super::handle::AsyncDatabase;
use super::observed;
use super::route::Collected;
use crate::connector::{Connection, Connector, QueryPlan, Statement};
use crate::error::{Error, ErrorKind, Result};
use crate::observer::CallKind;
use crate::params::{Dialect, IntoParams};
use crate::row::Rows;

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// Asks the engine how it would run a statement, without running it. The parameters must fit, and their values may
    /// matter: PostgreSQL plans for them.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// db.execute_script("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, mail TEXT)").await?;
    /// let sql = "SELECT name FROM users WHERE mail = $1";
    /// assert_eq!(db.explain(sql, ("a@b.c",)).await?.full_scans().count(), 1);
    ///
    /// db.execute("CREATE INDEX by_mail ON users (mail)", ()).await?;
    /// let plan = db.explain(sql, ("a@b.c",)).await?;
    /// assert_eq!(plan.to_string(), "SEARCH users USING INDEX by_mail (mail=?)");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As classified by the engine; [`ErrorKind::Unsupported`] for engines that explain in a way this crate does not know.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    #[track_caller]
    pub fn explain(&self, sql: &str, params: impl IntoParams) -> Answer<'_, QueryPlan> {
        let location = Location::caller();
        let dialect = self.capabilities().dialect;
        let words = if dialect == Dialect::Postgres { "EXPLAIN" } else { "EXPLAIN QUERY PLAN" };
        let statement = Statement::new(format!("{words} {sql}"), params);
        let is_asked = dialect != Dialect::Other;
        let observing = if is_asked { self.observing(CallKind::Fetch, &statement, location) } else { None };
        Answer::observed(observing, async move {
            let read: fn(&Rows) -> Result<QueryPlan> = match dialect {
                Dialect::Sqlite => QueryPlan::of_sqlite,
                Dialect::Postgres => QueryPlan::of_postgres,
                Dialect::Other => {
                    return Err(Error::new(ErrorKind::Unsupported, "this engine is not asked for plans")
                        .hint("ask it by a statement of its own"));
                }
            };
            let rows = self.reading(statement?, location, &mut Collected).await?;
            observed::answered();
            read(&rows)
        })
    }
}
