//! The connector's conformance suite, as every engine runs it.
#![cfg(all(feature = "postgres", feature = "testing", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use strongroom::testing::conformance;

#[tokio::test]
async fn the_connector_keeps_the_contract() {
    let Some(server) = common::server() else { return };
    conformance::connector(|| server.connector()).await;
}
