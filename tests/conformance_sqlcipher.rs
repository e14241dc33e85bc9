//! The default engine passes the public suite.
#![cfg(all(feature = "testing", feature = "sqlite"))]

use strongroom::engine::Access;
use strongroom::pool::Ping;
use strongroom::testing::FaultyConnector;
use strongroom::testing::conformance;
use strongroom::{Connector, Secret, SqlCipherConnector};

#[tokio::test(flavor = "multi_thread")]
async fn sqlcipher_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    conformance::connector(|| SqlCipherConnector::new(directory.path().join("plain.db"))).await;
}

#[tokio::test]
async fn a_wrapper_that_injects_nothing_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    conformance::connector(|| FaultyConnector::new(SqlCipherConnector::new(directory.path().join("plain.db")))).await;
}

#[tokio::test]
async fn sqlcipher_in_memory_keeps_the_contract() {
    conformance::connector(|| SqlCipherConnector::new(":memory:")).await;
}

/// A raw key, because deriving one for each check would be all that is measured.
#[tokio::test]
async fn sqlcipher_with_a_key_keeps_the_contract() {
    if !strongroom::is_sqlcipher_available() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let key = || strongroom::PassphraseKeySource::new(Secret::raw_key([7; 32]));
    conformance::connector(|| SqlCipherConnector::new(directory.path().join("sealed.db")).key(key())).await;
}

#[tokio::test]
async fn a_ping_of_sqlcipher_is_a_health_check() {
    let directory = tempfile::tempdir().unwrap();
    let connector = SqlCipherConnector::new(directory.path().join("plain.db"));
    let mut connection = connector.connect(Access::Write).await.unwrap();
    conformance::health_check(&Ping, &mut connection).await;
}
