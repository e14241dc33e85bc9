//! The suites for key sources, health checks and retry policies: our own pass, and what is broken is found.
#![cfg(feature = "testing")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::FutureExt;
use strongroom::engine::{Access, TransactionMode};
use strongroom::pool::{AlwaysHealthy, Attempt, ExponentialBackoff, FixedDelay, NoRetry, Ping, SkipIfRecent};
use strongroom::testing::{MockHealthCheck, MockKeySource, ScriptedConnection, ScriptedConnector, conformance};
use strongroom::{
    CachedKeySource, ChainKeySource, CommandKeySource, Connection, Connector, EnvKeySource, Error, ErrorKind,
    FileKeySource, HealthCheck, KeySource, PassphraseKeySource, Result, RetryPolicy, Secret,
};

async fn scripted() -> ScriptedConnection {
    ScriptedConnector::new().connect(Access::Write).await.unwrap()
}

#[tokio::test]
async fn every_key_source_of_the_crate_keeps_the_contract() {
    conformance::key_source(&PassphraseKeySource::new("hunter2")).await;
    conformance::key_source(&EnvKeySource::new("NEVER_SET_KEY")).await;
    conformance::key_source(&EnvKeySource::new("CARGO_PKG_VERSION")).await;
    conformance::key_source(&FileKeySource::new("no/such/file")).await;
    conformance::key_source(&CommandKeySource::new("no-such-program")).await;
    let chain = ChainKeySource::new(EnvKeySource::new("NEVER_SET_KEY")).or(PassphraseKeySource::new("hunter2"));
    conformance::key_source(&chain).await;
    conformance::key_source(&CachedKeySource::new(chain, Duration::from_secs(60))).await;
    let mut mock = MockKeySource::new();
    mock.expect_resolve().returning(|| Ok(Secret::new("hunter2")));
    mock.expect_describe().returning(|| "a mock".into());
    conformance::key_source(&mock).await;
}

#[test]
fn every_retry_policy_of_the_crate_keeps_the_contract() {
    conformance::retry_policy(&NoRetry);
    conformance::retry_policy(&FixedDelay::default());
    conformance::retry_policy(&ExponentialBackoff::default());
}

#[tokio::test]
async fn every_health_check_of_the_crate_keeps_the_contract() {
    let mut connection = scripted().await;
    conformance::health_check(&AlwaysHealthy, &mut connection).await;
    conformance::health_check(&Ping, &mut connection).await;
    conformance::health_check(&SkipIfRecent::<Ping>::default(), &mut connection).await;
    let mut mock = MockHealthCheck::new();
    mock.expect_verdict().returning(|_| Ok(()));
    conformance::health_check(&mock, &mut connection).await;
}

struct Leaky;

#[strongroom::keys::async_trait]
impl KeySource for Leaky {
    async fn resolve(&self) -> Result<Secret> {
        Ok(Secret::new("hunter2"))
    }
    fn describe(&self) -> String {
        "the secret hunter2".into()
    }
}

struct Endless;

impl RetryPolicy for Endless {
    fn next_delay(&self, attempt: Attempt<'_>) -> Option<Duration> {
        attempt.error.is_transient().then_some(Duration::ZERO)
    }
}

struct Stubborn;

impl RetryPolicy for Stubborn {
    fn next_delay(&self, attempt: Attempt<'_>) -> Option<Duration> {
        (attempt.number < 3).then_some(Duration::ZERO)
    }
}

struct Meddling;

#[strongroom::pool::async_trait]
impl<R: Connection> HealthCheck<R> for Meddling {
    async fn check(&self, resource: &mut R, _: Duration) -> Result<()> {
        resource.begin(TransactionMode::READ).await
    }
}

fn sentence(panic: Box<dyn std::any::Any + Send>) -> String {
    *panic.downcast::<String>().expect("a sentence")
}

#[tokio::test]
async fn the_small_suites_find_what_is_broken() {
    let leak = AssertUnwindSafe(conformance::key_source(&Leaky)).catch_unwind().await.unwrap_err();
    assert!(sentence(leak).contains("does not show the secret"));
    let mut other_kind = MockKeySource::new();
    other_kind.expect_resolve().returning(|| Err(Error::new(ErrorKind::Storage, "x")));
    other_kind.expect_describe().returning(|| "a mock".into());
    let kind = AssertUnwindSafe(conformance::key_source(&other_kind)).catch_unwind().await.unwrap_err();
    assert!(sentence(kind).contains("a key source fails as Key"));
    let endless = catch_unwind(|| conformance::retry_policy(&Endless)).unwrap_err();
    assert!(sentence(endless).contains("trying again comes to an end"));
    let stubborn = catch_unwind(|| conformance::retry_policy(&Stubborn)).unwrap_err();
    assert!(sentence(stubborn).contains("a permanent error is never tried again"));
    let mut connection = scripted().await;
    let meddling = AssertUnwindSafe(conformance::health_check(&Meddling, &mut connection)).catch_unwind().await;
    assert!(sentence(meddling.unwrap_err()).contains("leaves the state as it was"));
}
