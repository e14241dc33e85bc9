//! What `changes()` tells on PostgreSQL: all that was committed, by whichever session, nothing else, in order.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;
#[path = "common/proxy.rs"]
mod proxy;
#[path = "common/told.rs"]
mod told;

use std::time::Duration;

use common::{Server, run_sql, script, server, value};
use proxy::{Harm, Proxy, Side};
use strongroom::database::ChangeKind::{Delete, Insert, Update};
use strongroom::database::{Change, ChangeOptions, ChangeStream, RowChange};
use strongroom::postgres::{PostgresConnection, PostgresConnector};
use strongroom::{AsyncDatabase, Error, ErrorKind, Reason, Result};
use tokio::time::timeout;
use told::{counts, tables};

type Database = AsyncDatabase<PostgresConnector>;

const SCHEMA: &str = "CREATE TABLE users (id bigserial PRIMARY KEY, name text UNIQUE NOT NULL);
     CREATE TABLE logs (line text); CREATE TABLE marks (n bigint)";

async fn with_schema(server: &Server) -> Database {
    let db = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    db.execute_script(SCHEMA).await.unwrap();
    db.install_change_feed(["users", "logs", "marks"]).await.unwrap();
    db
}

async fn next(changes: &mut ChangeStream) -> Change {
    timeout(Duration::from_secs(20), changes.next()).await.expect("an event comes").expect("the database is open")
}

/// Nothing is waiting: the next event is that of a commit made now.
async fn assert_silent(db: &Database, changes: &mut ChangeStream) {
    db.execute("INSERT INTO marks VALUES (1)", ()).await.unwrap();
    let change = next(changes).await;
    assert_eq!(tables(&change), ["marks"], "something was told that was not committed");
}

/// The sessions that listen, once there are so many.
async fn assert_listening(beside: &mut PostgresConnection, sessions: i64) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'strongroom changes'";
    let mut open = -1;
    for _ in 0..500 {
        open = value(beside, sql).await;
        if open == sessions {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(open, sessions, "sessions that listen");
}

async fn end_listening(beside: &mut PostgresConnection) {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE application_name = 'strongroom changes'";
    assert_eq!(value::<i64>(beside, sql).await, 1);
}

#[tokio::test]
async fn each_commit_is_one_event_with_kinds_and_counts_by_table() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    let mut changes = db.changes().await.unwrap();
    db.execute("INSERT INTO users (name) VALUES ('alice'), ('bob')", ()).await.unwrap();
    db.transaction(async |tx| {
        tx.execute("UPDATE users SET name = 'x' WHERE name = $1", ("alice",)).await?;
        tx.execute("DELETE FROM users WHERE name = $1", ("bob",)).await?;
        tx.execute("DELETE FROM users WHERE name = 'nobody'", ()).await?;
        // Messages of the same text are sent once by the server; the statements are two all the same.
        tx.execute("INSERT INTO logs VALUES ('one')", ()).await?;
        tx.execute("INSERT INTO logs VALUES ('one')", ()).await
    })
    .await
    .unwrap();
    db.execute("UPDATE users SET name = 'y' WHERE name = 'nobody'", ()).await.unwrap();
    db.execute("INSERT INTO users (name) VALUES ('x'), ('z') ON CONFLICT (name) DO UPDATE SET name = 'w'", ())
        .await
        .unwrap();
    db.execute_many("INSERT INTO logs VALUES ($1)", (0..3000).map(|n| (format!("line {n}"),))).await.unwrap();

    let change = next(&mut changes).await;
    assert_eq!((change.sequence, change.commits, counts(&change, "users")), (1, 1, (2, 0, 0)));
    assert!(!change.schema && !change.unattributed && change.table("users").unwrap().rows.is_none(), "{change:?}");
    let change = next(&mut changes).await;
    assert_eq!((change.sequence, tables(&change)), (2, vec!["users", "logs"]));
    assert_eq!((counts(&change, "users"), counts(&change, "logs")), ((0, 1, 1), (2, 0, 0)));
    let change = next(&mut changes).await;
    assert_eq!((change.sequence, counts(&change, "users")), (3, (1, 1, 0)), "an upsert");
    let change = next(&mut changes).await;
    assert_eq!((change.sequence, counts(&change, "logs")), (4, (3000, 0, 0)), "a COPY");
    db.close().await.unwrap();
    assert!(changes.next().await.is_none(), "it ends with the database");
    assert_listening(&mut server.connect().await, 0).await;
}

#[tokio::test]
async fn what_is_rolled_back_is_not_told() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    let mut changes = db.changes().await.unwrap();
    let failed: Result<()> = db
        .transaction(async |tx| {
            tx.execute("INSERT INTO logs VALUES ('no')", ()).await?;
            Err(Error::new(ErrorKind::Query, "on purpose"))
        })
        .await;
    failed.unwrap_err();
    db.execute("INSERT INTO users (name) VALUES ('a'), ('a')", ()).await.unwrap_err();
    {
        let mut dropped = db.begin().await.unwrap();
        dropped.execute("INSERT INTO logs VALUES ('dropped')", ()).await.unwrap();
    }
    db.transaction(async |tx| {
        tx.execute("INSERT INTO logs VALUES ('kept')", ()).await?;
        let undone: Result<()> = tx
            .transaction(async |tx| {
                tx.execute("INSERT INTO users (name) VALUES ('undone')", ()).await?;
                tx.execute("INSERT INTO logs VALUES ('undone')", ()).await?;
                Err(Error::new(ErrorKind::Query, "on purpose"))
            })
            .await;
        undone.unwrap_err();
        tx.execute("INSERT INTO logs VALUES ('kept too')", ()).await
    })
    .await
    .unwrap();
    let change = next(&mut changes).await;
    assert_eq!((change.sequence, tables(&change), counts(&change, "logs")), (1, vec!["logs"], (2, 0, 0)));
    assert_silent(&db, &mut changes).await;
}

#[tokio::test]
async fn commits_of_all_sessions_are_told_to_all_in_the_order_of_the_commits() {
    let Some(server) = server() else { return };
    let one = with_schema(&server).await;
    one.execute("INSERT INTO marks VALUES (0)", ()).await.unwrap();
    one.install_change_feed_with_rows(["users"]).await.unwrap();
    let two = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    let options = ChangeOptions::new().rows(true).capacity(1000);
    let mut streams = [one.changes_with(options).await.unwrap(), two.changes_with(options).await.unwrap()];
    let writers = (0..6).map(|writer| {
        let db = if writer % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move {
            for _ in 0..25 {
                db.transaction(async |tx| {
                    // Whoever has this row commits before whoever has it next.
                    let n: Option<i64> = tx.fetch_value("UPDATE marks SET n = n + 1 RETURNING n", ()).await?;
                    tx.execute("INSERT INTO users VALUES ($1, $2)", (n, format!("user {n:?}"))).await
                })
                .await
                .unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    for changes in &mut streams {
        let mut keys = Vec::new();
        for sequence in 1..=150 {
            let change = next(changes).await;
            assert_eq!((change.sequence, change.commits, tables(&change)), (sequence, 1, vec!["marks", "users"]));
            keys.extend(change.table("users").unwrap().rows.iter().flatten().map(|row| row.row_id));
        }
        assert_eq!(keys, (1..=150).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn rows_are_told_one_by_one_where_that_was_asked_for_and_there_is_a_key() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    db.execute_script(
        "CREATE TABLE pairs (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE small (k smallint PRIMARY KEY)",
    )
    .await
    .unwrap();
    db.install_change_feed_with_rows(["users", "pairs", "small"]).await.unwrap();
    // What is in place already stays.
    db.install_change_feed(["users"]).await.unwrap();
    let mut changes = db.changes_with(ChangeOptions::new().rows(true)).await.unwrap();
    let mut bare = db.changes().await.unwrap();
    db.transaction(async |tx| {
        tx.execute("INSERT INTO users VALUES (5, 'a'), (3, 'b')", ()).await?;
        tx.execute("UPDATE users SET id = -1 WHERE id = 5", ()).await?;
        tx.execute("DELETE FROM users WHERE id = 3", ()).await?;
        tx.execute("INSERT INTO pairs VALUES (1, 1)", ()).await?;
        tx.execute("INSERT INTO small VALUES (-7)", ()).await
    })
    .await
    .unwrap();
    let change = next(&mut changes).await;
    let rows = |change: &Change, table: &str| change.table(table).unwrap().rows.clone();
    let of = |rows: Option<Vec<RowChange>>| {
        rows.map(|rows| rows.iter().map(|row| (row.kind, row.row_id)).collect::<Vec<_>>())
    };
    assert_eq!(of(rows(&change, "users")), Some(vec![(Insert, 5), (Insert, 3), (Update, -1), (Delete, 3)]));
    assert_eq!((of(rows(&change, "pairs")), counts(&change, "pairs")), (None, (1, 0, 0)));
    assert_eq!(of(rows(&change, "small")), Some(vec![(Insert, -7)]));
    assert_eq!(rows(&next(&mut bare).await, "users"), None, "this listener did not ask");

    // More than fits one message, and more than is told.
    for many in [1000_u64, 65_536, 65_537] {
        db.execute("DELETE FROM users", ()).await.unwrap();
        next(&mut changes).await;
        let sql = "INSERT INTO users SELECT n, 'user ' || n FROM generate_series(cast($1 AS bigint), 1, -1) AS n";
        db.execute(sql, (many,)).await.unwrap();
        let change = next(&mut changes).await;
        assert_eq!((change.commits, counts(&change, "users")), (1, (many, 0, 0)));
        let told = rows(&change, "users").map(|rows| rows.iter().map(|row| row.row_id).collect::<Vec<_>>());
        let all = (1..=i64::try_from(many).unwrap()).rev().collect::<Vec<_>>();
        assert!(told == (many <= 65_536).then_some(all), "{many} rows");
    }
    // The key may have another name, or be gone: statements go on working.
    db.execute_script("ALTER TABLE users RENAME id TO number; DELETE FROM users; INSERT INTO users VALUES (9, 'x')")
        .await
        .unwrap();
    let change = next(&mut changes).await;
    assert_eq!(change.table("users").unwrap().inserted, 1);
    db.execute_script("ALTER TABLE users DROP number; INSERT INTO users VALUES ('y')").await.unwrap();
    let change = next(&mut changes).await;
    assert_eq!((counts(&change, "users"), rows(&change, "users")), ((1, 0, 0), None));
}

#[tokio::test]
async fn a_large_transaction_is_one_commit() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    let mut changes = db.changes().await.unwrap();
    for round in 1..=5 {
        db.execute_script(&"INSERT INTO logs VALUES ('x');".repeat(1500)).await.unwrap();
        let (mut lines, mut commits) = (0, 0);
        while lines < 1500 {
            let change = next(&mut changes).await;
            assert_eq!(change.sequence, round, "more of a commit has its number");
            lines += counts(&change, "logs").0;
            commits += change.commits;
        }
        assert_eq!((lines, commits), (1500, 1));
    }
    assert_silent(&db, &mut changes).await;
}

#[tokio::test]
async fn a_listener_is_told_that_something_may_be_missing_when_its_session_was_ended() {
    let Some(server) = server() else { return };
    let (db, mut beside) = (with_schema(&server).await, server.connect().await);
    let mut changes = db.changes().await.unwrap();
    for round in 0..3 {
        db.execute("INSERT INTO logs VALUES ('before')", ()).await.unwrap();
        let before = next(&mut changes).await;
        end_listening(&mut beside).await;
        db.execute("INSERT INTO logs VALUES ('meanwhile')", ()).await.unwrap();
        let mut last = before.sequence;
        loop {
            let change = next(&mut changes).await;
            assert_eq!(change.sequence, last + change.commits, "round {round}");
            last = change.sequence;
            if change.unattributed {
                break;
            }
        }
        assert_listening(&mut beside, 1).await;
    }
    db.execute("INSERT INTO logs VALUES ('after')", ()).await.unwrap();
    assert_eq!(counts(&next(&mut changes).await, "logs"), (1, 0, 0));
}

/// The time that a listening session may be silent, and that it may take to answer; see `postgres/changes/following.rs`.
const SILENCE: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(10);

/// Moves the clock on. It runs on by itself afterwards, as the server's does.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Waits until clients have sent more than `before` messages.
async fn sent_more(proxy: &Proxy, before: usize) {
    for _ in 0..1000 {
        if proxy.sent() > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nobody has asked the server anything");
}

/// As when a cable is pulled: no end of the connection is ever seen.
#[tokio::test]
async fn a_session_that_falls_silent_is_asked_given_up_and_replaced() {
    let Some(server) = server() else { return };
    let proxy = Proxy::before(&server).await;
    let (_db, mut beside) = (with_schema(&server).await, server.connect().await);
    let db = AsyncDatabase::with_connector(proxy.connector()).open().await.unwrap();
    let mut changes = db.changes().await.unwrap();
    // From here on the server speaks to the session that listens only.
    run_sql(&mut beside, "INSERT INTO logs VALUES ('before')", ()).await.unwrap();
    assert_eq!(counts(&next(&mut changes).await, "logs"), (1, 0, 0));
    let mut asked = 0;
    while proxy.sent() > asked {
        asked = proxy.sent();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // What the server says next, it says to the session that listens, and it does not arrive.
    proxy.harm(Side::Server, 0, Harm::Stall);
    run_sql(&mut beside, "INSERT INTO logs VALUES ('not heard')", ()).await.unwrap();
    let early = timeout(Duration::from_millis(100), changes.next()).await;
    assert!(early.is_err(), "it was not heard: {early:?}");
    pass(SILENCE + Duration::from_secs(1)).await;
    sent_more(&proxy, asked).await;
    let early = timeout(Duration::from_millis(100), changes.next()).await;
    assert!(early.is_err(), "the answer is awaited: {early:?}");
    pass(ANSWER + Duration::from_secs(1)).await;
    let missed = next(&mut changes).await;
    assert!(missed.unattributed, "something was not heard: {missed:?}");
    db.execute("INSERT INTO logs VALUES ('after')", ()).await.unwrap();
    assert_eq!(counts(&next(&mut changes).await, "logs"), (1, 0, 0));
    proxy.heal();
}

#[tokio::test]
async fn a_slow_listener_gets_events_merged_and_sees_it() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    let mut slow = db.changes_with(ChangeOptions::new().capacity(4)).await.unwrap();
    let mut quick = db.changes().await.unwrap();
    for n in 0..100 {
        db.execute(if n % 2 == 0 { "INSERT INTO logs VALUES ('x')" } else { "DELETE FROM logs" }, ()).await.unwrap();
    }
    for sequence in 1..=100 {
        assert_eq!(next(&mut quick).await.sequence, sequence);
    }
    let (mut last, mut lines, mut gone, mut merged) = (0, 0, 0, false);
    while last < 100 {
        let change = next(&mut slow).await;
        assert_eq!(change.sequence, last + change.commits);
        last = change.sequence;
        lines += counts(&change, "logs").0;
        gone += counts(&change, "logs").2;
        merged |= change.is_merged();
    }
    assert_eq!((lines, gone, merged), (50, 50, true));
}

#[tokio::test]
async fn dropped_streams_leave_nothing_on_the_server() {
    let Some(server) = server() else { return };
    let (db, mut beside) = (with_schema(&server).await, server.connect().await);
    for _ in 0..3 {
        assert_listening(&mut beside, 0).await;
        let (mut one, two, three) = tokio::join!(db.changes(), db.changes(), db.changes());
        assert_listening(&mut beside, 1).await;
        db.execute("INSERT INTO logs VALUES ('x')", ()).await.unwrap();
        assert_eq!(counts(&next(one.as_mut().unwrap()).await, "logs"), (1, 0, 0), "it was told once");
        drop((two, three));
        db.execute("INSERT INTO logs VALUES ('x')", ()).await.unwrap();
        assert_eq!(counts(&next(one.as_mut().unwrap()).await, "logs"), (1, 0, 0));
    }
    assert_listening(&mut beside, 0).await;
    // Dropped half-way, it leaves nothing either.
    for polls in 1..40 {
        let mut begun = Box::pin(db.changes());
        for _ in 0..polls {
            let waits = timeout(Duration::from_micros(200), &mut begun);
            if waits.await.is_ok() {
                break;
            }
        }
    }
    assert_listening(&mut beside, 0).await;
    assert_eq!(db.stats().active_connections, 0);
}

#[tokio::test]
async fn names_are_told_as_they_are() {
    let Some(server) = server() else { return };
    let db = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    db.execute_script(
        "CREATE SCHEMA shop; CREATE SCHEMA \"Odd schema\"; CREATE TABLE shop.orders (id int PRIMARY KEY);
         CREATE TABLE \"Odd schema\".\"it's; \"\"odd\"\"\n\" (\"the key\" bigint PRIMARY KEY);
         CREATE TABLE orders (n int); CREATE TABLE \"Orders\" (n int); CREATE TABLE größe (n int)",
    )
    .await
    .unwrap();
    let odd = "Odd schema.it's; \"odd\"\n";
    db.install_change_feed_with_rows(["SHOP.orders", odd, "orders", "Orders", "größe"]).await.unwrap();
    let mut changes = db.changes_with(ChangeOptions::new().rows(true)).await.unwrap();
    db.execute_script(
        "BEGIN; INSERT INTO shop.orders VALUES (1); INSERT INTO \"Odd schema\".\"it's; \"\"odd\"\"\n\" VALUES (2);
         INSERT INTO orders VALUES (1), (2), (3); INSERT INTO \"Orders\" VALUES (1); INSERT INTO größe VALUES (1); COMMIT",
    )
    .await
    .unwrap();
    let change = next(&mut changes).await;
    assert_eq!(tables(&change), ["shop.orders", odd, "orders", "Orders", "größe"]);
    assert_eq!(change.table(odd).unwrap().rows.as_ref().unwrap()[0].row_id, 2);
    assert_eq!((counts(&change, "orders").0, counts(&change, "Orders").0), (3, 1));
}

#[tokio::test]
async fn partitions_and_children_tell_by_the_name_that_a_statement_uses() {
    let Some(server) = server() else { return };
    let db = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    db.execute_script(
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10);
         CREATE TABLE high PARTITION OF parts FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);
         CREATE TABLE highest PARTITION OF high DEFAULT;
         CREATE TABLE parent (n int); CREATE TABLE child () INHERITS (parent)",
    )
    .await
    .unwrap();
    db.install_change_feed_with_rows(["parts", "parent"]).await.unwrap();
    let mut changes = db.changes_with(ChangeOptions::new().rows(true)).await.unwrap();
    let told = [
        ("INSERT INTO parts VALUES (1), (11), (12)", "parts", (3, 0, 0)),
        // It moves to another partition.
        ("UPDATE parts SET id = 2 WHERE id = 12", "parts", (0, 1, 0)),
        ("DELETE FROM highest", "highest", (0, 0, 1)),
        ("INSERT INTO child VALUES (1)", "child", (1, 0, 0)),
        ("UPDATE parent SET n = 2", "parent", (0, 1, 0)),
    ];
    for (sql, table, expected) in told {
        db.execute(sql, ()).await.unwrap();
        let change = next(&mut changes).await;
        assert_eq!((tables(&change), counts(&change, table)), (vec![table], expected), "{sql}");
    }
    db.remove_change_feed(["parts", "parent"]).await.unwrap();
    let left = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'strongroom%'";
    assert_eq!(db.fetch_value::<i64>(left, ()).await.unwrap(), Some(0));
}

#[tokio::test]
async fn truncated_and_renamed_tables_are_told() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    let mut changes = db.changes().await.unwrap();
    db.execute("TRUNCATE logs, users", ()).await.unwrap();
    let change = next(&mut changes).await;
    let exact = |change: &Change, table| change.table(table).unwrap().exact;
    assert!(!exact(&change, "logs") && !exact(&change, "users"), "{change:?}");
    db.execute_script("ALTER TABLE logs RENAME TO lines; INSERT INTO lines VALUES ('x')").await.unwrap();
    let change = next(&mut changes).await;
    assert!(change.schema && counts(&change, "lines") == (1, 0, 0), "{change:?}");
    db.execute("INSERT INTO lines VALUES ('x')", ()).await.unwrap();
    assert!(!next(&mut changes).await.schema);
}

#[tokio::test]
async fn a_message_that_is_not_understood_says_that_anything_may_have_changed() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    let mut changes = db.changes().await.unwrap();
    db.execute("SELECT pg_notify('strongroom_changes', 'of a later version')", ()).await.unwrap();
    let change = next(&mut changes).await;
    assert!(change.unattributed && change.tables.is_empty(), "{change:?}");
    db.execute("SELECT pg_notify('other', 'hello')", ()).await.unwrap();
    assert_silent(&db, &mut changes).await;
}

#[tokio::test]
async fn what_was_installed_is_removed_without_a_trace() {
    let Some(server) = server() else { return };
    let (db, mut beside) = (with_schema(&server).await, server.connect().await);
    let made = "SELECT (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal) + (SELECT count(*) FROM pg_proc p \
         JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'strongroom') \
         + (SELECT count(*) FROM pg_namespace WHERE nspname = 'strongroom')";
    assert_eq!(value::<i64>(&mut beside, made).await, 14);
    // Again, and by several at once: nothing is done twice.
    let again = (0..4).map(|_| db.install_change_feed(["users", "logs"])).map(tokio::spawn).collect::<Vec<_>>();
    for one in again {
        one.await.unwrap().unwrap();
    }
    assert_eq!(value::<i64>(&mut beside, made).await, 14);
    // One that somebody else has dropped, or switched off, comes back.
    db.execute_script("DROP TRIGGER strongroom_tells_delete ON logs; ALTER TABLE users DISABLE TRIGGER USER")
        .await
        .unwrap();
    db.install_change_feed(["users", "logs"]).await.unwrap();
    let mut changes = db.changes().await.unwrap();
    db.execute("INSERT INTO users (name) VALUES ('x')", ()).await.unwrap();
    assert_eq!(counts(&next(&mut changes).await, "users"), (1, 0, 0));
    db.remove_change_feed(["users"]).await.unwrap();
    assert!(next(&mut changes).await.schema, "those who listen are told");
    db.execute("INSERT INTO users (name) VALUES ('y')", ()).await.unwrap();
    assert_silent(&db, &mut changes).await;
    drop(changes);
    db.remove_change_feed(["logs", "marks", "users"]).await.unwrap();
    assert_eq!(value::<i64>(&mut beside, made).await, 0);
    db.remove_change_feed(["logs"]).await.unwrap();
    let error = db.changes().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("install_change_feed"), "{error}");
    assert_listening(&mut beside, 0).await;
}

#[tokio::test]
async fn what_cannot_tell_its_changes_is_refused_by_name_and_nothing_is_installed() {
    let Some(server) = server() else { return };
    let (db, mut beside) = (with_schema(&server).await, server.connect().await);
    script(&mut beside, "CREATE VIEW names AS SELECT name FROM users; CREATE MATERIALIZED VIEW kept AS SELECT 1; CREATE TABLE t (n int)")
        .await;
    for (table, kind) in
        [("names", ErrorKind::Unsupported), ("kept", ErrorKind::Unsupported), ("no_such", ErrorKind::Query)]
    {
        let error = db.install_change_feed(["t", table]).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(table), "{error}");
    }
    assert_eq!(value::<i64>(&mut beside, "SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass").await, 0);
    // Nor is it for who may not.
    script(
        &mut beside,
        "CREATE ROLE guest LOGIN PASSWORD 'correct horse battery'; GRANT SELECT, INSERT ON t, logs TO guest",
    )
    .await;
    let guest = AsyncDatabase::with_connector(server.connector().user("guest")).open().await.unwrap();
    let error = guest.install_change_feed(["t"]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::NotPermitted, "{error}");
    // But what a guest does is told, and to a guest.
    let mut changes = guest.changes().await.unwrap();
    run_sql(&mut beside, "SET SESSION AUTHORIZATION guest", ()).await.unwrap();
    run_sql(&mut beside, "INSERT INTO logs VALUES ('by a guest')", ()).await.unwrap();
    assert_eq!(counts(&next(&mut changes).await, "logs"), (1, 0, 0));
}

#[test]
fn a_listener_outlives_the_runtime_on_which_listening_began() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some(server) = server() else { return };
    let (first, second) = (runtime(), runtime());
    let (db, mut changes) = first.block_on(async {
        let db = with_schema(&server).await;
        let changes = db.changes().await.unwrap();
        (db, changes)
    });
    first.shutdown_background();
    second.block_on(async {
        let change = next(&mut changes).await;
        assert!(change.unattributed, "it may have missed something: {change:?}");
        db.execute("INSERT INTO logs VALUES ('x')", ()).await.unwrap();
        assert_eq!(counts(&next(&mut changes).await, "logs"), (1, 0, 0));
        db.close().await.unwrap();
    });
}
