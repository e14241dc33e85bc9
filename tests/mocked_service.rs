//! A service that uses a database, unit-tested without one.
#![cfg(feature = "testing")]

use std::time::Duration;

use strongroom::testing::{Call, Fault, FaultyConnector, Point, ScriptedConnector};
use strongroom::{AsyncDatabase, Connection, Connector, ErrorKind, Result, Value};

/// The service under test: generic over the engine, so that tests can choose it.
struct Accounts<C: Connector> {
    db: AsyncDatabase<C>,
}

const BALANCE: &str = "SELECT balance FROM accounts WHERE id = $1";
const CHANGE: &str = "UPDATE accounts SET balance = balance + $2 WHERE id = $1";

impl<C: Connector<Connection: Connection>> Accounts<C> {
    async fn balance(&self, id: i64) -> Result<Option<i64>> {
        self.db.fetch_value(BALANCE, (id,)).await
    }

    async fn transfer(&self, from: i64, to: i64, amount: i64) -> Result<()> {
        self.db
            .transaction(async |tx| {
                tx.execute(CHANGE, (from, -amount)).await?;
                tx.execute(CHANGE, (to, amount)).await?;
                Ok(())
            })
            .await
    }
}

async fn service<C: Connector<Connection: Connection>>(connector: C) -> Accounts<C> {
    Accounts { db: AsyncDatabase::with_connector(connector).pool_min(0).open().await.unwrap() }
}

fn script() -> ScriptedConnector {
    ScriptedConnector::new().rows(BALANCE, ["balance"], [[40]]).changes(CHANGE, 1)
}

#[tokio::test]
async fn a_service_reads_what_the_script_says() {
    let accounts = service(script()).await;
    assert_eq!(accounts.balance(7).await.unwrap(), Some(40));
}

#[tokio::test]
async fn the_log_shows_what_a_service_did() {
    let script = script();
    let accounts = service(script.clone()).await;
    accounts.transfer(1, 2, 30).await.unwrap();
    let statements = script.statements();
    let change = |id, amount| (CHANGE.to_owned(), vec![Value::Integer(id), Value::Integer(amount)]);
    assert_eq!(statements[statements.len() - 2..], [change(1, -30), change(2, 30)]);
    assert_eq!(script.calls().iter().filter(|call| **call == Call::Commit).count(), 1);
}

#[tokio::test]
async fn a_failure_in_the_middle_rolls_back() {
    let script = script();
    let connector = FaultyConnector::new(script.clone());
    let faults = connector.faults();
    let accounts = service(connector).await;
    faults.at(Point::Run, Fault::Slow(Duration::ZERO));
    faults.at(Point::Run, Fault::Fail(ErrorKind::Constraint));
    let error = accounts.transfer(1, 2, 30).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Constraint);
    let calls = script.calls();
    assert!(calls.contains(&Call::Rollback) && !calls.contains(&Call::Commit), "{calls:?}");
}
