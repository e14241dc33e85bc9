//! The default engine passes the public suite.
#![cfg(all(feature = "testing", feature = "sqlite"))]

use strongroom::testing::conformance;
use strongroom::{SqlCipherConnector, testing::FaultyConnector};

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
