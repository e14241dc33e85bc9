//! Futures that are dropped half-way.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::cancel::{A_WHILE, ENDLESS, SOON};
use super::lab::{Lab, broken, holds, must};
use crate::connector::{CancelKind, Connection, Connector, Resource, ResourceState, Statement, TransactionMode};
use crate::params::Params;
use crate::value::Value;

/// More awaits than any call should have; a call that has more is only walked so far.
const STEPS: usize = 40;

/// Polls `future` until it has waited `steps` times, and drops it then. Says whether it came to its end.
async fn dropped_after<F: Future>(steps: usize, future: F) -> bool {
    let mut future = pin!(future);
    let mut waits = 0;
    poll_fn(|context| {
        if waits == steps {
            return Poll::Ready(false);
        }
        waits += 1;
        future.as_mut().poll(context).map(|_| true)
    })
    .await
}

/// The calls that are dropped. Each writes the row 1, at most, or begins or ends what the suite began before.
#[derive(Clone, Copy, Debug)]
enum Op {
    Run,
    RunMany,
    RunScript,
    RunGroup,
    RunStream,
    NextChunk,
    Begin,
    Commit,
    Rollback,
    Savepoint,
    TableExists,
    Ping,
    Reset,
}

const OPS: [Op; 13] = [
    Op::Run,
    Op::RunMany,
    Op::RunScript,
    Op::RunGroup,
    Op::RunStream,
    Op::NextChunk,
    Op::Begin,
    Op::Commit,
    Op::Rollback,
    Op::Savepoint,
    Op::TableExists,
    Op::Ping,
    Op::Reset,
];

impl Op {
    /// Whether a transaction that wrote row 1 is open before the call.
    fn is_inside(self) -> bool {
        matches!(self, Self::Commit | Self::Rollback | Self::Savepoint | Self::Reset)
    }

    async fn call<K: Connection>(self, connection: &mut K, insert: Statement, select: Statement) {
        let sql = Arc::clone(&insert.sql);
        match self {
            Self::Run => drop(connection.run(insert).await),
            Self::RunMany => drop(connection.run_many(sql, [insert.params].into_iter().collect()).await),
            Self::RunScript => drop(connection.run_script(sql.replace("$1", "1").into()).await),
            Self::RunGroup => drop(connection.run_group(vec![insert]).await),
            Self::RunStream => drop(connection.run_stream(select, 1).await),
            Self::NextChunk => {
                if connection.run_stream(select, 1).await.is_ok() {
                    while let Ok(Some(_)) = connection.next_chunk().await {}
                }
            }
            Self::Begin => drop(connection.begin(TransactionMode::WRITE).await),
            Self::Commit => drop(connection.commit().await),
            Self::Rollback => drop(connection.rollback().await),
            Self::Savepoint => drop(connection.savepoint(1).await),
            Self::TableExists => drop(connection.table_exists("anything").await),
            Self::Ping => drop(connection.ping().await),
            Self::Reset => drop(connection.reset().await),
        }
    }
}

pub(super) async fn every_await<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    lab.must("rows can be written", "INSERT INTO {t} VALUES (-1, 'a'), (-2, 'b'), (-3, 'c')", ()).await;
    for op in OPS {
        for steps in 0..STEPS {
            if drop_and_look(lab, op, steps).await {
                break;
            }
        }
    }
}

/// Drops one call after so many waits and looks whether the connection is as good as before. Says whether the call came
/// to its end.
async fn drop_and_look<C: Connector<Connection: Connection>>(lab: &mut Lab<C>, op: Op, steps: usize) -> bool {
    lab.must("rows can be deleted", "DELETE FROM {t} WHERE id > 0", ()).await;
    let insert = lab.statement("INSERT INTO {t} VALUES ($1, 'x')", Params::Positional(vec![Value::Integer(1)]));
    let select = lab.statement("SELECT * FROM {t}", ());
    if op.is_inside() {
        must("a transaction begins", lab.connection.begin(TransactionMode::WRITE).await);
        must("a transaction writes", lab.connection.run(insert.clone()).await);
    }
    let ended = dropped_after(steps, op.call(&mut lab.connection, insert, select)).await;

    let clause = format!("{op:?}, dropped after {steps} waits, leaves a connection that a reset brings back to idle");
    must(&clause, lab.connection.reset().await);
    lab.state(&clause, ResourceState::Idle);
    let count = lab.count().await;
    holds("a dropped call happened wholly or not at all", count == 3 || count == 4, format_args!("{clause}: {count}"));
    let clause = format!("{op:?}, dropped after {steps} waits, holds no lock and comes not back to life");
    lab.must(&clause, "INSERT INTO {t} VALUES (2, 'y')", ()).await;
    lab.counts(&clause, count + 1).await;
    ended
}

pub(super) async fn long_statements<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    if lab.capabilities.cancel == CancelKind::None {
        return;
    }
    for streamed in [false, true] {
        let clause = "a dropped future stops its statement, and the next call waits until it has stopped";
        let statement = lab.statement(ENDLESS, ());
        let start = Instant::now();
        let endless = async {
            if streamed {
                must(clause, lab.connection.run_stream(statement, 10).await);
                let _ = lab.connection.next_chunk().await;
            } else {
                let _ = lab.connection.run(statement).await;
            }
        };
        if tokio::time::timeout(A_WHILE, endless).await.is_ok() {
            broken("a long statement runs for a while", "it ended at once");
        }
        let state = lab.connection.state();
        holds(
            "a connection whose call was dropped does not say that it is idle",
            state != ResourceState::Idle,
            streamed,
        );
        lab.must(clause, "SELECT 1", ()).await;
        holds(clause, start.elapsed() < SOON, format_args!("it took {:?}", start.elapsed()));
        must(clause, lab.connection.reset().await);
        lab.state(clause, ResourceState::Idle);
    }
}
