//! A mock of connectors.

use super::connection::MockConnection;
use super::{expect_provided, mock_around, provided};
use crate::connector::{Access, Capabilities, Connector, EngineListener, EngineReadings, Rekeying, TellProgress};
use crate::error::Result;
use crate::key::KeySource;

mockall::mock! {
    /// The expectations of a [`MockConnector`].
    pub Connects {}

    impl Connector for Connects {
        type Connection = MockConnection;
        fn capabilities(&self) -> Capabilities;
        fn connect(&self, access: Access) -> impl Future<Output = Result<MockConnection>> + Send;
        fn usable(&self) -> Result<()>;
        fn release(&self) -> impl Future<Output = Result<()>> + Send;
        fn rekey(
            &self,
            source: Box<dyn KeySource>,
            progress: Option<TellProgress>,
        ) -> impl Future<Output = Result<Rekeying>> + Send;
        fn readings(&self) -> EngineReadings;
        fn observed(&self, listener: EngineListener);
        fn shut_down(&self) -> impl Future<Output = ()> + Send;
    }
}

mock_around! {
    /// A mock of [`Connector`](crate::Connector) whose connections are [`MockConnection`]s.
    ///
    /// A pool drops mocks in its own tasks, where an unmet expectation is a panic that no test sees, and an unexpected
    /// call becomes "the connector panicked". Count in the test's own variables, or take
    /// [`ScriptedConnector`](crate::testing::ScriptedConnector), whose log can be asked afterwards.
    ///
    /// ```
    /// use strongroom::testing::{MockConnection, MockConnector};
    /// use strongroom::engine::{Access, Dialect, Resource};
    /// use strongroom::{Capabilities, Connector};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let mut connector = MockConnector::new();
    /// // Asked by everything that is built on it, such as `AsyncDatabase::with_connector`.
    /// connector.expect_capabilities().returning(|| Capabilities::new("mock", Dialect::Sqlite));
    /// connector.expect_connect().times(1).returning(|_| {
    ///     let mut connection = MockConnection::new();
    ///     connection.expect_ping().returning(|| Box::pin(async { Ok(()) }));
    ///     Box::pin(async { Ok(connection) })
    /// });
    /// let mut connection = connector.connect(Access::Read).await?;
    /// connection.ping().await
    /// # }
    /// ```
    MockConnector, ConnectorDefaults, MockConnects
}

expect_provided! {
    MockConnector, __mock_MockConnects_Connector:
    /// Expects a call of [`Connector::usable`].
    usable __usable expect_usable;
    /// Expects a call of [`Connector::release`].
    release __release expect_release;
    /// Expects a call of [`Connector::rekey`].
    rekey __rekey expect_rekey;
    /// Expects a call of [`Connector::readings`].
    readings __readings expect_readings;
    /// Expects a call of [`Connector::observed`].
    observed __observed expect_observed;
    /// Expects a call of [`Connector::shut_down`].
    shut_down __shut_down expect_shut_down;
}

/// With the provided methods as the contract has them.
#[derive(Default)]
struct ConnectorDefaults(MockConnects);

impl Connector for ConnectorDefaults {
    type Connection = MockConnection;

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn connect(&self, access: Access) -> Result<MockConnection> {
        self.0.connect(access).await
    }
}

impl Connector for MockConnector {
    type Connection = MockConnection;

    fn capabilities(&self) -> Capabilities {
        self.calls.0.capabilities()
    }

    async fn connect(&self, access: Access) -> Result<MockConnection> {
        self.calls.0.connect(access).await
    }

    fn usable(&self) -> Result<()> {
        provided!(self, usable())
    }

    async fn release(&self) -> Result<()> {
        provided!(self, release().await)
    }

    async fn rekey(&self, source: Box<dyn KeySource>, progress: Option<TellProgress>) -> Result<Rekeying> {
        provided!(self, rekey(source, progress).await)
    }

    fn readings(&self) -> EngineReadings {
        provided!(self, readings())
    }

    fn observed(&self, listener: EngineListener) {
        provided!(self, observed(listener));
    }

    async fn shut_down(&self) {
        provided!(self, shut_down().await);
    }
}
