//! What a check works with: a connection, a table of its own, and a way to say which clause is broken.

use std::fmt::{Debug, Display};
use std::time::Duration;

use crate::connector::{Access, Capabilities, Connection, Connector, Resource, ResourceState, Statement};
use crate::error::Result;
use crate::params::{Dialect, IntoParams};
use crate::row::Rows;

/// Far more than any check needs; a check that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connector under test and one connection of it.
pub(super) struct Lab<C: Connector> {
    pub(super) connector: C,
    pub(super) connection: C::Connection,
    pub(super) capabilities: Capabilities,
    /// The name of the check's table.
    pub(super) table: String,
}

/// Runs one check.
pub(super) async fn run<C: Connector>(name: &str, connector: C, check: impl AsyncFnOnce(&mut Lab<C>))
where
    C::Connection: Connection,
{
    let work = async {
        let connection = must("a connector opens connections", connector.connect(Access::Write).await);
        let capabilities = connector.capabilities();
        let mut lab = Lab { connector, connection, capabilities, table: format!("conformance_{name}") };
        lab.drop_table().await;
        check(&mut lab).await;
        must("a connection can be reset after any use", lab.connection.reset().await);
        lab.drop_table().await;
        must("a connection can be closed", lab.connection.close().await);
        lab.connector.shut_down().await;
    };
    if tokio::time::timeout(PATIENCE, work).await.is_err() {
        broken("every call comes to an end", format_args!("the check `{name}` still ran after {PATIENCE:?}"));
    }
}

impl<C: Connector> Lab<C>
where
    C::Connection: Connection,
{
    /// Runs a statement in which `{t}` stands for the check's table.
    pub(super) async fn run(&mut self, sql: &str, params: impl IntoParams) -> Result<Rows> {
        let statement = self.statement(sql, params);
        self.connection.run(statement).await
    }

    /// The same, where failing breaks the clause.
    pub(super) async fn must(&mut self, clause: &str, sql: &str, params: impl IntoParams) -> Rows {
        let answer = self.run(sql, params).await;
        must(clause, answer.map_err(|error| error.context(sql)))
    }

    pub(super) fn statement(&self, sql: &str, params: impl IntoParams) -> Statement {
        must("parameters of the suite fit", Statement::new(self.sql(sql), params))
    }

    /// The text with the table's name in place.
    pub(super) fn sql(&self, sql: &str) -> String {
        sql.replace("{t}", &self.table)
    }

    /// Makes the check's table.
    pub(super) async fn table(&mut self) {
        let sql = "CREATE TABLE {t} (id BIGINT PRIMARY KEY, name TEXT)";
        self.must("tables can be made", sql, ()).await;
    }

    /// How many rows the check's table has.
    pub(super) async fn count(&mut self) -> i64 {
        let clause = "rows can be counted";
        let rows = self.must(clause, "SELECT cast(count(*) AS BIGINT) FROM {t}", ()).await;
        must(clause, rows.first().map_or(Ok(-1), |row| row.get(0)))
    }

    /// The check's table must have this many rows.
    pub(super) async fn counts(&mut self, clause: &str, expected: i64) {
        let count = self.count().await;
        equal(clause, &count, &expected);
    }

    pub(super) fn state(&self, clause: &str, expected: ResourceState) {
        equal(clause, &self.connection.state(), &expected);
    }

    /// Another connection to the same database.
    pub(super) async fn another(&self) -> C::Connection {
        must("a connector opens several connections", self.connector.connect(Access::Write).await)
    }

    /// The type of a column of bytes.
    pub(super) fn bytes_type(&self) -> &'static str {
        if self.capabilities.dialect == Dialect::Postgres { "BYTEA" } else { "BLOB" }
    }

    async fn drop_table(&mut self) {
        self.must("tables can be dropped", "DROP TABLE IF EXISTS {t}", ()).await;
    }
}

/// Ends the suite: the clause is broken.
#[track_caller]
pub(super) fn broken(clause: &str, detail: impl Display) -> ! {
    panic!("the contract is broken: {clause} ({detail})");
}

#[track_caller]
pub(super) fn must<T>(clause: &str, outcome: Result<T>) -> T {
    outcome.unwrap_or_else(|error| broken(clause, format_args!("got the error: {error}")))
}

#[track_caller]
pub(super) fn refused<T>(clause: &str, outcome: Result<T>) -> crate::error::Error {
    outcome.err().unwrap_or_else(|| broken(clause, "it succeeded"))
}

#[track_caller]
pub(super) fn equal<T: PartialEq + Debug>(clause: &str, found: &T, expected: &T) {
    if found != expected {
        broken(clause, format_args!("found {found:?}, expected {expected:?}"));
    }
}

#[track_caller]
pub(super) fn holds(clause: &str, is_so: bool, detail: impl Display) {
    if !is_so {
        broken(clause, detail);
    }
}
