//! Stopping a call, and only that call.

use std::time::{Duration, Instant};

use super::lab::{Lab, equal, holds, must, refused};
use crate::connector::{CancelKind, Connection, Connector, Resource, ResourceState};
use crate::error::ErrorKind;

/// Counts for much longer than any check waits, without touching a table.
pub(super) const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT cast(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n \
                                  WHERE i < 1000000000000) SELECT count(*) FROM n";

/// How long a stopped statement may go on.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// How long a statement runs before it is stopped.
pub(super) const A_WHILE: Duration = Duration::from_millis(50);

pub(super) async fn idle_cancels<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    let canceller = lab.connection.canceller();
    for id in 0..20 {
        canceller.cancel();
        lab.must(
            "cancelling while nothing runs has no effect on the next call",
            "INSERT INTO {t} VALUES ($1, 'a')",
            (id,),
        )
        .await;
        lab.connection.canceller().cancel();
        // Gives a cancel that travels to a server the time to arrive too late.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    lab.counts("cancelling while nothing runs has no effect", 20).await;
    lab.state("cancelling while nothing runs leaves the connection idle", ResourceState::Idle);
}

pub(super) async fn running_cancels<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    if lab.capabilities.cancel == CancelKind::None {
        return;
    }
    for _ in 0..5 {
        let canceller = lab.connection.canceller();
        let start = Instant::now();
        let stop = async {
            tokio::time::sleep(A_WHILE).await;
            canceller.cancel();
        };
        let (answer, ()) = tokio::join!(lab.run(ENDLESS, ()), stop);
        let error = refused("a cancelled statement fails", answer);
        equal("a cancelled statement fails as Cancelled", &error.kind(), &ErrorKind::Cancelled);
        holds("a cancelled statement stops soon", start.elapsed() < SOON, format_args!("{:?}", start.elapsed()));
        lab.state("a cancelled statement leaves the connection idle", ResourceState::Idle);
        lab.must("a cancel never stops the next call", "SELECT 1", ()).await;
        must("a connection that was cancelled answers a ping", lab.connection.ping().await);
    }
}
