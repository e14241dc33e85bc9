//! A service that uses a database, tested without one: `cargo run --features testing --example mocked_service`.

use strongroom::engine::TransactionMode;
use strongroom::testing::{Call, ScriptedConnector};
use strongroom::{AsyncDatabase, Connection, Connector, Error, ErrorKind, Result, Value};

/// The service is generic over the connector; programs use it with the default one.
struct Signup<C: Connector> {
    db: AsyncDatabase<C>,
}

const SEATS: &str = "UPDATE plans SET seats = seats - 1 WHERE name = $1 AND seats > 0";
const MEMBER: &str = "INSERT INTO members (name, plan) VALUES ($1, $2)";

impl<C: Connector<Connection: Connection>> Signup<C> {
    /// Takes a seat of the plan and adds the member: both or neither.
    async fn join(&self, name: &str, plan: &str) -> Result<()> {
        self.db
            .transaction(async |tx| {
                if tx.execute(SEATS, (plan,)).await?.rows_affected == 0 {
                    return Err(Error::new(ErrorKind::Constraint, format!("the plan {plan} has no seat left")));
                }
                tx.execute(MEMBER, (name, plan)).await?;
                Ok(())
            })
            .await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    a_member_takes_a_seat().await?;
    a_full_plan_adds_nobody().await?;
    a_name_that_is_taken_gives_the_seat_back().await
}

async fn a_member_takes_a_seat() -> Result<()> {
    let script = ScriptedConnector::new().changes(SEATS, 1).changes(MEMBER, 1);
    let service = Signup { db: AsyncDatabase::with_connector(script.clone()).build() };
    service.join("alice", "team").await?;
    let values = ["alice", "team"].map(|text| Value::Text(text.into()));
    assert_eq!(script.statements()[1], (MEMBER.to_owned(), values.to_vec()));
    assert!(script.calls().contains(&Call::Begin(TransactionMode::WRITE)));
    assert!(script.calls().contains(&Call::Commit));
    println!("a member takes a seat: ok");
    Ok(())
}

async fn a_full_plan_adds_nobody() -> Result<()> {
    let script = ScriptedConnector::new().changes(SEATS, 0);
    let service = Signup { db: AsyncDatabase::with_connector(script.clone()).build() };
    let error = service.join("bob", "team").await.unwrap_err();
    assert_eq!(error.to_string(), "the plan team has no seat left");
    assert!(script.calls().contains(&Call::Rollback) && !script.calls().contains(&Call::Commit));
    println!("a full plan adds nobody: ok");
    Ok(())
}

async fn a_name_that_is_taken_gives_the_seat_back() -> Result<()> {
    let script = ScriptedConnector::new().changes(SEATS, 1).fails(MEMBER, ErrorKind::Constraint);
    let service = Signup { db: AsyncDatabase::with_connector(script.clone()).build() };
    assert_eq!(service.join("alice", "team").await.unwrap_err().kind(), ErrorKind::Constraint);
    assert!(script.calls().contains(&Call::Rollback) && !script.calls().contains(&Call::Commit));
    println!("a name that is taken gives the seat back: ok");
    Ok(())
}
