//! What the server says beside its answers, in the log.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/log.rs"]
mod log;
#[path = "common/postgres.rs"]
mod servers;

use log::Log;
use servers::{run_sql, script, server, value};
use strongroom::Connection;
use tracing_subscriber::filter::LevelFilter;

#[tokio::test]
async fn a_notice_is_logged_by_its_state_and_never_by_its_words() {
    let Some(server) = server() else { return };
    let log = Log::default();
    let logged = tracing_subscriber::fmt().with_ansi(false).with_max_level(LevelFilter::DEBUG).with_writer(log.clone());
    let _guard = tracing::subscriber::set_default(logged.finish());
    let mut connection = server.connect().await;
    script(&mut connection, "SET client_min_messages = notice; CREATE TABLE t (id int); INSERT INTO t VALUES (7)")
        .await;
    let before = log.lines().len();
    let body = "DO $$ BEGIN RAISE NOTICE 'hunter2' USING ERRCODE = 'XX111', DETAIL = 'hunter3'; \
                RAISE WARNING 'hunter4'; END $$";
    run_sql(&mut connection, body, ()).await.unwrap();
    connection.run_script("DROP TABLE IF EXISTS hunter5".into()).await.unwrap();
    // One that comes between the rows of an answer disturbs none of them.
    let made =
        "CREATE FUNCTION f(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'hunter6'; RETURN n; END $$";
    script(&mut connection, made).await;
    assert_eq!(value::<i64>(&mut connection, "SELECT f(id) FROM t").await, 7);
    let lines = log.lines().split_off(before);
    let noticed: Vec<_> = lines.iter().filter(|line| line.contains("the server has noticed")).collect();
    let wanted = [("XX111", "NOTICE"), ("01000", "WARNING"), ("00000", "NOTICE"), ("00000", "NOTICE")];
    assert_eq!(noticed.len(), wanted.len(), "{lines:?}");
    for (line, (state, severity)) in noticed.iter().zip(wanted) {
        assert!(line.contains(" DEBUG ") && line.contains(state) && line.contains(severity), "{line}");
    }
    assert!(!lines.iter().any(|line| line.contains("hunter")), "{lines:?}");
}
