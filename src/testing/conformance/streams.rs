//! Rows in chunks.

use super::lab::{Lab, equal, holds, must, refused};
use crate::connector::{Connection, Connector, Resource, ResourceState, TransactionMode};
use crate::error::Result;
use crate::params::Params;

/// Fills the check's table with the numbers from 1 to 500.
async fn fill<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    let sql = "INSERT INTO {t} WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
               SELECT i, 'row ' || i FROM n";
    lab.must("rows can be written", sql, ()).await;
}

async fn open<C: Connector<Connection: Connection>>(lab: &mut Lab<C>, chunk: usize) {
    let statement = lab.statement("SELECT id, name FROM {t} WHERE id > $1 ORDER BY id", (0,));
    must("a stream opens", lab.connection.run_stream(statement, chunk).await);
}

pub(super) async fn chunks<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    fill(lab).await;
    for chunk in [1, 7, 100, 500, 1000] {
        open(lab, chunk).await;
        let mut ids = Vec::new();
        while let Some(rows) = must("a stream goes on", lab.connection.next_chunk().await) {
            let clause = "a chunk has at least one row and at most as many as were asked for";
            holds(clause, (1..=chunk).contains(&rows.len()), format_args!("{} rows of {chunk}", rows.len()));
            equal("every chunk has the columns", &rows.columns().len(), &2);
            ids.extend(rows.iter().filter_map(|row| row.get::<i64>("id").ok()));
        }
        let clause = "a stream gives every row once, in order";
        holds(clause, ids.iter().copied().eq(1..=500), format_args!("{} rows in chunks of {chunk}", ids.len()));
        let clause = "after its end a stream stays at its end";
        holds(clause, must(clause, lab.connection.next_chunk().await).is_none(), "there was a chunk");
        lab.state("a connection is idle after the end of a stream", ResourceState::Idle);
    }
    let clause = "a stream without rows ends at once";
    let statement = lab.statement("SELECT id FROM {t} WHERE id < 0", ());
    must(clause, lab.connection.run_stream(statement, 10).await);
    holds(clause, must(clause, lab.connection.next_chunk().await).is_none(), "there was a chunk");
}

pub(super) async fn early_ends<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    let clause = "without a stream there is no chunk";
    holds(clause, must(clause, lab.connection.next_chunk().await).is_none(), "there was one");
    fill(lab).await;

    let clause = "the next call, whatever it is, ends a stream that is still open";
    open(lab, 10).await;
    must("a stream goes on", lab.connection.next_chunk().await);
    lab.counts(clause, 500).await;
    holds(clause, must(clause, lab.connection.next_chunk().await).is_none(), "the old stream went on");
    open(lab, 10).await;
    lab.must(clause, "DELETE FROM {t} WHERE id > 400", ()).await;
    open(lab, 10).await;
    must("a stream goes on", lab.connection.next_chunk().await);
    open(lab, 400).await;
    let rows = must("a stream goes on", lab.connection.next_chunk().await);
    equal("a new stream takes the place of the old one", &rows.map_or(0, |rows| rows.len()), &400);
    open(lab, 10).await;
    must(clause, lab.connection.ping().await);

    let clause = "an open stream is not idle, and a reset ends it";
    open(lab, 10).await;
    must("a stream goes on", lab.connection.next_chunk().await);
    holds(clause, lab.connection.state() != ResourceState::Idle, "it said Idle");
    must(clause, lab.connection.reset().await);
    lab.state(clause, ResourceState::Idle);
    holds(clause, must(clause, lab.connection.next_chunk().await).is_none(), "the stream went on");

    let clause = "a stream works inside a transaction, and the transaction survives its early end";
    must(clause, lab.connection.begin(TransactionMode::WRITE).await);
    lab.must(clause, "DELETE FROM {t} WHERE id > 300", ()).await;
    open(lab, 10).await;
    must(clause, lab.connection.next_chunk().await);
    must(clause, lab.connection.commit().await);
    lab.counts(clause, 300).await;
}

pub(super) async fn failing_streams<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    fill(lab).await;
    let clause = "a stream that fails says so at its opening or in place of a chunk, and is over then";
    for (sql, params) in [
        ("SELECT absent FROM {t}", Params::None),
        ("SELECT id FROM {t} WHERE id = $1", Params::None),
        ("SELECT id FROM {t}; SELECT 2", Params::None),
    ] {
        refused(clause, to_the_end(lab, sql, params).await);
        holds(clause, must(clause, lab.connection.next_chunk().await).is_none(), "there was a chunk");
        lab.state("a failed stream leaves the connection idle", ResourceState::Idle);
    }
    lab.counts("a failed stream leaves the connection usable", 500).await;
}

async fn to_the_end<C: Connector<Connection: Connection>>(lab: &mut Lab<C>, sql: &str, params: Params) -> Result<()> {
    let statement = lab.statement(sql, params);
    lab.connection.run_stream(statement, 10).await?;
    while lab.connection.next_chunk().await?.is_some() {}
    Ok(())
}
