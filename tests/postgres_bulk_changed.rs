//! What a bulk insert stores in a table that was changed after an earlier one.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use common::{Server, script, server, value};
use strongroom::Connection;
use strongroom::engine::{Isolation, TransactionMode};
use strongroom::postgres::PostgresConnection;
use strongroom::values::{IntoParams, ParamSets};

const BY_NAME: &str = "INSERT INTO t (a, b) VALUES ($1, $2)";
const BY_PLACE: &str = "INSERT INTO t VALUES ($1, $2)";

fn sets(count: usize) -> ParamSets {
    let mut sets = ParamSets::new();
    (0..count).for_each(|_| ("one", "two").append_to(&mut sets).unwrap());
    sets
}

/// Different rows of the table, as the server writes them.
async fn stored(connection: &mut PostgresConnection) -> String {
    value(connection, "SELECT coalesce(string_agg(DISTINCT CAST(t AS text), ' '), 'nothing') FROM t").await
}

/// What `insert` stores after `change` for many rows, and for few, of which each is a statement. The connection has run
/// both before.
async fn after_change(server: &Server, insert: &str, mode: Option<TransactionMode>, change: &str) -> [String; 2] {
    let (mut connection, mut beside) = (server.connect().await, server.connect().await);
    let mut found = [String::new(), String::new()];
    script(&mut beside, "DROP TABLE IF EXISTS t; CREATE TABLE t (a text, b text, c int DEFAULT 7)").await;
    for count in [100, 1] {
        connection.begin(TransactionMode::WRITE).await.unwrap();
        connection.run_many(insert.into(), sets(count)).await.unwrap();
        connection.commit().await.unwrap();
    }
    for (found, count) in found.iter_mut().zip([100, 1]) {
        script(&mut beside, "TRUNCATE t").await;
        if let Some(mode) = mode {
            connection.begin(mode).await.unwrap();
            // A snapshot is taken here, before the change.
            value::<i64>(&mut connection, "SELECT count(*) FROM pg_class").await;
        }
        if count == 100 {
            script(&mut beside, change).await;
        }
        connection.run_many(insert.into(), sets(count)).await.unwrap();
        if mode.is_some() {
            connection.commit().await.unwrap();
        }
        *found = stored(&mut beside).await;
    }
    found
}

const SWAP: &str = "ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b";

#[tokio::test]
async fn columns_that_changed_places_get_by_many_rows_what_they_get_by_one() {
    let Some(server) = server() else { return };
    let snapshot = TransactionMode::WRITE.isolation(Isolation::Snapshot);
    for mode in [None, Some(TransactionMode::WRITE), Some(snapshot)] {
        let by_place = after_change(&server, BY_PLACE, mode, SWAP).await;
        assert_eq!(by_place, ["(one,two,7)", "(one,two,7)"], "{mode:?}");
        let by_name = after_change(&server, BY_NAME, mode, SWAP).await;
        assert_eq!(by_name, ["(two,one,7)", "(two,one,7)"], "{mode:?}");
        let moved = "ALTER TABLE t DROP a; ALTER TABLE t ADD a text";
        let by_name = after_change(&server, BY_NAME, mode, moved).await;
        assert_eq!(by_name, ["(two,7,one)", "(two,7,one)"], "{mode:?}");
    }
}

#[tokio::test]
async fn rules_and_triggers_that_came_later_hold_for_many_rows_too() {
    let Some(server) = server() else { return };
    let changes = [
        ("CREATE RULE r AS ON INSERT TO t DO INSTEAD NOTHING", "nothing"),
        ("CREATE RULE r AS ON INSERT TO t DO ALSO UPDATE t SET c = 8", "(one,two,8)"),
        (
            "CREATE OR REPLACE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN UPDATE t SET c = c + 1; RETURN NULL; END $$;
             CREATE TRIGGER r AFTER INSERT ON t EXECUTE FUNCTION tell()",
            "",
        ),
    ];
    for (change, expected) in changes {
        for mode in [None, Some(TransactionMode::WRITE)] {
            let [many, one] = after_change(&server, BY_NAME, mode, change).await;
            if expected.is_empty() {
                // Called for each statement: the first row has seen as many calls as there were rows.
                assert!(many.contains("(one,two,107)"), "{mode:?}: {many}");
            } else {
                assert_eq!([many.as_str(), one.as_str()], [expected; 2], "{change} in {mode:?}");
            }
        }
    }
}
