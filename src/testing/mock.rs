//! mockall mocks of the contracts.

#![allow(missing_docs, missing_debug_implementations, reason = "what mockall generates")]

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use crate::connector::{
    Access, Backup, BackupReport, BulkInsert, Canceller, Capabilities, CheckDepth, CheckStep, Connection, Connector,
    Maintained, Maintenance, Outcome, Resource, ResourceState, Scope, Statement, StatementKind, TransactionMode,
};
use crate::error::Result;
use crate::health::HealthCheck;
use crate::key::{KeyCandidate, KeySource};
use crate::params::ParamSets;
use crate::retry::{Attempt, RetryPolicy};
use crate::row::{Changes, Rows};
use crate::secret::Secret;

mockall::mock! {
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
    pub Connector {}

    impl Connector for Connector {
        type Connection = MockConnection;
        fn capabilities(&self) -> Capabilities;
        fn connect(&self, access: Access) -> impl Future<Output = Result<MockConnection>> + Send;
        fn shut_down(&self) -> impl Future<Output = ()> + Send;
    }
}

mockall::mock! {
    /// A mock of [`BulkInsert`](crate::engine::BulkInsert).
    pub Bulk {}

    impl BulkInsert for Bulk {
        fn add(&mut self, sets: ParamSets) -> impl Future<Output = Result<Option<Changes>>> + Send;
        fn end(self) -> impl Future<Output = Result<Changes>> + Send;
    }
}

mockall::mock! {
    /// A mock of [`Resource`](crate::engine::Resource) and [`Connection`](crate::Connection), of every method: a database
    /// calls `run_in` for one-liners, and a pool `baseline` when it has opened one.
    pub Connection {}

    impl Resource for Connection {
        fn state(&self) -> ResourceState;
        fn canceller(&self) -> Canceller;
        fn ping(&mut self) -> impl Future<Output = Result<()>> + Send;
        fn reset(&mut self) -> impl Future<Output = Result<()>> + Send;
        fn baseline(&mut self);
        fn close(self) -> impl Future<Output = Result<()>> + Send;
    }

    impl Connection for Connection {
        type Native = ();
        type Bulk<'c> = MockBulk;
        fn classify(&mut self, sql: &str) -> Result<StatementKind>;
        fn run(&mut self, statement: Statement) -> impl Future<Output = Result<Rows>> + Send;
        fn run_in(&mut self, statement: Statement, scope: Scope) -> impl Future<Output = Result<Outcome>> + Send;
        fn bulk(&mut self, sql: Arc<str>) -> impl Future<Output = Result<MockBulk>> + Send;
        fn run_many(&mut self, sql: Arc<str>, sets: ParamSets) -> impl Future<Output = Result<Changes>> + Send;
        fn run_group(&mut self, group: Vec<Statement>) -> impl Future<Output = Vec<Result<Rows>>> + Send;
        fn run_script(&mut self, sql: Arc<str>) -> impl Future<Output = Result<()>> + Send;
        fn run_stream(&mut self, statement: Statement, chunk: usize) -> impl Future<Output = Result<()>> + Send;
        fn next_chunk(&mut self) -> impl Future<Output = Result<Option<Rows>>> + Send;
        fn begin(&mut self, mode: TransactionMode) -> impl Future<Output = Result<()>> + Send;
        fn commit(&mut self) -> impl Future<Output = Result<()>> + Send;
        fn rollback(&mut self) -> impl Future<Output = Result<()>> + Send;
        fn savepoint(&mut self, depth: u32) -> impl Future<Output = Result<()>> + Send;
        fn release(&mut self, depth: u32) -> impl Future<Output = Result<()>> + Send;
        fn rollback_to(&mut self, depth: u32) -> impl Future<Output = Result<()>> + Send;
        fn table_exists(&mut self, name: &str) -> impl Future<Output = Result<bool>> + Send;
        fn check_step(
            &mut self,
            depth: CheckDepth,
            number: usize,
            limit: usize,
        ) -> impl Future<Output = Result<CheckStep>> + Send;
        fn maintain(&mut self, task: Maintenance) -> impl Future<Output = Result<Maintained>> + Send;
        fn back_up(&mut self, backup: Backup) -> impl Future<Output = Result<BackupReport>> + Send;
        fn native(&mut self) -> &mut ();
    }
}

mockall::mock! {
    /// A mock of [`RetryPolicy`](crate::RetryPolicy).
    pub RetryPolicy {}

    impl RetryPolicy for RetryPolicy {
        fn next_delay<'a>(&self, attempt: Attempt<'a>) -> Option<Duration>;
    }
}

mockall::mock! {
    /// A mock of [`HealthCheck`](crate::HealthCheck) for resources of any type: expect `verdict`, which sees how long
    /// the resource was idle.
    ///
    /// ```
    /// use std::time::Duration;
    /// use strongroom::HealthCheck;
    /// use strongroom::testing::{MockConnection, MockHealthCheck};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let mut check = MockHealthCheck::new();
    /// check.expect_verdict().withf(|idle| *idle > Duration::from_secs(1)).returning(|_| Ok(()));
    /// check.check(&mut MockConnection::new(), Duration::from_secs(2)).await
    /// # }
    /// ```
    pub HealthCheck {
        /// The verdict on a resource that was idle for this long.
        pub fn verdict(&self, idle: Duration) -> Result<()>;
    }
}

#[async_trait::async_trait]
impl<R: Resource> HealthCheck<R> for MockHealthCheck {
    async fn check(&self, _: &mut R, idle: Duration) -> Result<()> {
        self.verdict(idle)
    }
}

mockall::mock! {
    /// The expectations of a [`MockKeySource`].
    pub Keys {}

    #[async_trait::async_trait]
    impl KeySource for Keys {
        async fn resolve(&self) -> Result<Secret>;
        fn describe(&self) -> String;
        async fn candidates(&self) -> Result<Vec<KeyCandidate>>;
        async fn create(&self) -> Result<Option<Secret>>;
        async fn replace(&self) -> Result<Secret>;
        async fn settle(&self, secret: &Secret) -> Result<()>;
    }
}

/// A mock of [`KeySource`].
///
/// `expect_resolve`, `expect_describe` and `checkpoint` are those of mockall. What `candidates`, `create`, `replace` and
/// `settle` do by default is done until it is expected otherwise.
///
/// ```
/// use strongroom::testing::MockKeySource;
/// use strongroom::{KeySource, Secret};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// let mut source = MockKeySource::new();
/// source.expect_resolve().times(1).returning(|| Ok(Secret::new("from a mock")));
/// assert_eq!(source.resolve().await?.expose(), b"from a mock");
/// assert!(source.create().await?.is_none());
///
/// source.expect_create().times(1).returning(|| Ok(Some(Secret::new("a new one"))));
/// assert_eq!(source.create().await?.unwrap().expose(), b"a new one");
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct MockKeySource {
    keys: MockKeys,
    /// The provided methods of which something is expected.
    expected: Vec<&'static str>,
}

/// The provided methods alone.
struct Defaults<'a>(&'a MockKeys);

#[async_trait::async_trait]
impl KeySource for Defaults<'_> {
    async fn resolve(&self) -> Result<Secret> {
        self.0.resolve().await
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

macro_rules! provided {
    ($($(#[$doc:meta])* $method:ident $module:ident $expect:ident($($name:ident: $type:ty)?) -> $result:ty;)*) => {
        impl MockKeySource {
            $($(#[$doc])*
            pub fn $expect(&mut self) -> &mut __mock_MockKeys_KeySource::$module::Expectation {
                self.expected.push(stringify!($method));
                self.keys.$expect()
            })*
        }

        #[async_trait::async_trait]
        impl KeySource for MockKeySource {
            async fn resolve(&self) -> Result<Secret> {
                self.keys.resolve().await
            }

            fn describe(&self) -> String {
                self.keys.describe()
            }

            $(async fn $method(&self $(, $name: $type)?) -> $result {
                if self.expected.contains(&stringify!($method)) {
                    self.keys.$method($($name)?).await
                } else {
                    Defaults(&self.keys).$method($($name)?).await
                }
            })*
        }
    };
}

provided! {
    /// Expects a call of [`KeySource::candidates`].
    candidates __candidates expect_candidates() -> Result<Vec<KeyCandidate>>;
    /// Expects a call of [`KeySource::create`].
    create __create expect_create() -> Result<Option<Secret>>;
    /// Expects a call of [`KeySource::replace`].
    replace __replace expect_replace() -> Result<Secret>;
    /// Expects a call of [`KeySource::settle`].
    settle __settle expect_settle(secret: &Secret) -> Result<()>;
}

impl MockKeySource {
    /// Expects nothing yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for MockKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockKeySource").field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl Deref for MockKeySource {
    type Target = MockKeys;

    fn deref(&self) -> &MockKeys {
        &self.keys
    }
}

impl DerefMut for MockKeySource {
    fn deref_mut(&mut self) -> &mut MockKeys {
        &mut self.keys
    }
}
