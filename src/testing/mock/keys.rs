//! A mock of key sources.

use super::{expect_provided, mock_around, provided};
use crate::error::Result;
use crate::key::{KeyCandidate, KeySource};
use crate::secret::Secret;

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
        fn forget(&self);
        fn is_fixed(&self) -> bool;
    }
}

mock_around! {
    /// A mock of [`KeySource`].
    ///
    /// `expect_resolve`, `expect_describe` and `checkpoint` are those of mockall. What the other methods do by
    /// default is done until it is expected otherwise.
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
    MockKeySource, KeyDefaults, MockKeys
}

expect_provided! {
    MockKeySource, __mock_MockKeys_KeySource:
    /// Expects a call of [`KeySource::candidates`].
    candidates __candidates expect_candidates;
    /// Expects a call of [`KeySource::create`].
    create __create expect_create;
    /// Expects a call of [`KeySource::replace`].
    replace __replace expect_replace;
    /// Expects a call of [`KeySource::settle`].
    settle __settle expect_settle;
    /// Expects a call of [`KeySource::forget`].
    forget __forget expect_forget;
    /// Expects a call of [`KeySource::is_fixed`].
    is_fixed __is_fixed expect_is_fixed;
}

/// With the provided methods as the contract has them.
#[derive(Default)]
struct KeyDefaults(MockKeys);

#[async_trait::async_trait]
impl KeySource for KeyDefaults {
    async fn resolve(&self) -> Result<Secret> {
        self.0.resolve().await
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[async_trait::async_trait]
impl KeySource for MockKeySource {
    async fn resolve(&self) -> Result<Secret> {
        self.calls.0.resolve().await
    }

    fn describe(&self) -> String {
        self.calls.0.describe()
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        provided!(self, candidates().await)
    }

    async fn create(&self) -> Result<Option<Secret>> {
        provided!(self, create().await)
    }

    async fn replace(&self) -> Result<Secret> {
        provided!(self, replace().await)
    }

    async fn settle(&self, secret: &Secret) -> Result<()> {
        provided!(self, settle(secret).await)
    }

    fn forget(&self) {
        provided!(self, forget());
    }

    fn is_fixed(&self) -> bool {
        provided!(self, is_fixed())
    }
}
