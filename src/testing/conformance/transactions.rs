//! Transactions, savepoints, and the way back to idle.

use super::lab::{Lab, equal, holds, must, refused};
use crate::connector::{Connection, Connector, Resource, ResourceState, TransactionMode};

const INSERT: &str = "INSERT INTO {t} VALUES ($1, 'x')";

async fn insert<C: Connector<Connection: Connection>>(lab: &mut Lab<C>, id: i64) {
    lab.must("a transaction writes", INSERT, (id,)).await;
}

async fn begin<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    must("a transaction begins on an idle connection", lab.connection.begin(TransactionMode::WRITE).await);
    lab.state("a connection knows that it is in a transaction", ResourceState::InTransaction);
}

pub(super) async fn commits_and_rollbacks<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    begin(lab).await;
    insert(lab, 1).await;
    lab.counts("a transaction sees its own writes", 1).await;
    must("a transaction commits", lab.connection.commit().await);
    lab.state("a connection is idle after a commit", ResourceState::Idle);
    lab.counts("a commit keeps what was written", 1).await;

    begin(lab).await;
    insert(lab, 2).await;
    must("a transaction rolls back", lab.connection.rollback().await);
    lab.state("a connection is idle after a rollback", ResourceState::Idle);
    lab.counts("a rollback undoes what was written", 1).await;

    let clause = "a transaction that only reads reads";
    must(clause, lab.connection.begin(TransactionMode::READ).await);
    lab.counts(clause, 1).await;
    must(clause, lab.connection.commit().await);
    lab.state("a connection is idle after a commit", ResourceState::Idle);

    begin(lab).await;
    refused("a transaction cannot begin inside another", lab.connection.begin(TransactionMode::WRITE).await);
    must("a transaction rolls back", lab.connection.rollback().await);
}

pub(super) async fn failures_inside<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    begin(lab).await;
    insert(lab, 1).await;
    refused("constraints of the schema are enforced", lab.run(INSERT, (1,)).await);
    let state = lab.connection.state();
    let clause = "a failed statement leaves the connection in its transaction, which can be rolled back";
    holds(clause, matches!(state, ResourceState::InTransaction | ResourceState::Failed), format_args!("{state:?}"));
    must(clause, lab.connection.rollback().await);
    lab.state(clause, ResourceState::Idle);
    lab.counts(clause, 0).await;
}

pub(super) async fn resets<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    let clause = "a reset rolls back and brings the connection back to idle";
    begin(lab).await;
    insert(lab, 1).await;
    must(clause, lab.connection.reset().await);
    lab.state(clause, ResourceState::Idle);
    lab.counts(clause, 0).await;

    begin(lab).await;
    insert(lab, 1).await;
    refused("constraints of the schema are enforced", lab.run(INSERT, (1,)).await);
    must(clause, lab.connection.reset().await);
    lab.state(clause, ResourceState::Idle);
    lab.counts(clause, 0).await;
}

pub(super) async fn savepoints<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    if !lab.capabilities.savepoints {
        return;
    }
    lab.table().await;
    let set = "a savepoint can be set inside a transaction";
    let (back, released) = ("rolling back to a savepoint undoes what came after it", "releasing a savepoint keeps it");
    begin(lab).await;
    insert(lab, 1).await;
    must(set, lab.connection.savepoint(1).await);
    insert(lab, 2).await;
    must(set, lab.connection.savepoint(2).await);
    insert(lab, 3).await;
    must(back, lab.connection.rollback_to(2).await);
    lab.counts(back, 2).await;
    must("a depth can be used again", lab.connection.savepoint(2).await);
    insert(lab, 4).await;
    must(released, lab.connection.release(2).await);
    lab.counts(released, 3).await;
    lab.state("savepoints do not end the transaction", ResourceState::InTransaction);

    let clause = "rolling back to a savepoint repairs a failed statement";
    must(set, lab.connection.savepoint(2).await);
    refused("constraints of the schema are enforced", lab.run(INSERT, (1,)).await);
    must(clause, lab.connection.rollback_to(2).await);
    insert(lab, 5).await;
    must(released, lab.connection.release(1).await);
    must("a transaction commits", lab.connection.commit().await);
    let rows = lab.must("rows can be read", "SELECT id FROM {t} ORDER BY id", ()).await;
    let ids: Vec<i64> = rows.iter().filter_map(|row| row.get(0).ok()).collect();
    equal("a commit keeps what savepoints kept", &ids, &vec![1, 2, 4, 5]);
}
