//! Rows of PostgreSQL are shown to whoever decodes them as they arrive, not when all of them are there.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use common::{script, server, value};
use strongroom::engine::{Outcome, RowRef, RowSink, Scope, Statement};
use strongroom::postgres::PostgresConnection;
use strongroom::values::ValueRef;
use strongroom::{Connection, Result};

/// Takes numbers until it has enough of them.
struct Numbers {
    enough: usize,
    begun: usize,
    taken: Vec<i64>,
}

impl RowSink for Numbers {
    fn begin(&mut self) {
        self.begun += 1;
        self.taken.clear();
    }

    fn take(&mut self, row: RowRef<'_>) -> bool {
        assert!(self.taken.len() < self.enough, "no more rows were wanted");
        let number = match row.values().next() {
            Some(ValueRef::Integer(number)) => number,
            Some(ValueRef::Text(text)) => text.parse().unwrap(),
            other => panic!("found {other:?}"),
        };
        self.taken.push(number);
        self.taken.len() < self.enough
    }
}

/// What the sink had taken in the end, and how often the statement had begun.
async fn show(connection: &mut PostgresConnection, sql: &str, enough: usize) -> (Result<u64>, Vec<i64>, usize) {
    let mut sink: Box<dyn RowSink> = Box::new(Numbers { enough, begun: 0, taken: Vec::new() });
    let outcome = connection.run_into(Statement::new(sql, ()).unwrap(), Scope::Session, &mut sink).await;
    let sink: Box<dyn std::any::Any> = sink;
    let numbers = sink.downcast::<Numbers>().unwrap();
    let changed = outcome.map(|outcome| match outcome {
        Outcome::Ran(changes) => changes.rows_affected,
        Outcome::Refused(kind, _) => panic!("refused as {kind:?}"),
    });
    (changed, numbers.taken, numbers.begun)
}

#[tokio::test]
async fn rows_before_a_failure_were_shown_before_it() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    let (outcome, taken, _) = show(&mut connection, "SELECT 12 / (5 - n) FROM generate_series(1, 9) n", 9).await;
    assert!(outcome.unwrap_err().to_string().contains("division by zero"));
    assert_eq!(taken, [3, 4, 6, 12]);
    assert_eq!(value::<i64>(&mut connection, "SELECT cast(1 AS bigint)").await, 1);
}

#[tokio::test]
async fn no_more_rows_are_shown_than_are_wanted_and_a_write_runs_to_its_end() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    let (outcome, taken, begun) = show(&mut connection, "SELECT n FROM generate_series(1, 5000) n", 3).await;
    assert_eq!((outcome.unwrap(), taken, begun), (0, vec![1, 2, 3], 1));

    script(&mut connection, "CREATE TABLE shown (n bigint)").await;
    let insert = "INSERT INTO shown SELECT * FROM generate_series(1, 70) RETURNING n";
    let (outcome, taken, _) = show(&mut connection, insert, 1).await;
    assert_eq!((outcome.unwrap(), taken), (70, vec![1]));
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM shown").await, 70);
}

#[tokio::test]
async fn what_was_made_of_rows_is_forgotten_when_the_statement_begins_anew() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE changing (n bigint); INSERT INTO changing VALUES (1), (2)").await;
    assert_eq!(show(&mut connection, "SELECT n FROM changing", 9).await.1, [1, 2]);
    // The server no longer accepts it as it was prepared.
    script(&mut connection, "ALTER TABLE changing ALTER n TYPE text").await;
    let (outcome, taken, _) = show(&mut connection, "SELECT n FROM changing", 9).await;
    assert_eq!((outcome.unwrap(), taken), (0, vec![1, 2]));
}
