//! Deadlines of calls on a server that takes no request to stop them.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{PASSWORD, server};
use strongroom::postgres::{PostgresConnector, Tls};
use strongroom::{AsyncDatabase, ErrorKind, PassphraseKeySource};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Passes sessions on to the server, and loses requests to stop a statement.
async fn without_cancel(port: u16) -> u16 {
    const CANCEL: [u8; 4] = 80_877_102_u32.to_be_bytes();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut first = [0; 8];
                client.read_exact(&mut first).await?;
                if first[4..] == CANCEL {
                    return Ok((0, 0));
                }
                let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
                server.write_all(&first).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    own
}

#[tokio::test]
async fn a_statement_that_cannot_be_stopped_keeps_its_deadline_and_costs_its_connection() {
    let Some(server) = server() else { return };
    let connector = PostgresConnector::new("127.0.0.1", without_cancel(server.port).await)
        .database("postgres")
        .user("app")
        .key(PassphraseKeySource::new(PASSWORD))
        .tls(Tls::off());
    let db = AsyncDatabase::with_connector(connector).pool_max(1).open().await.unwrap();
    db.execute("CREATE TABLE t (n double precision)", ()).await.unwrap();
    let session = "SELECT cast(pg_backend_pid() AS bigint)";
    let hasty = db.with_timeout(Duration::from_millis(300));
    let kinds = [
        // What only reads is given up at once; of what may have changed something, the answer is awaited for a while.
        ("SELECT cast(pg_sleep(60) AS text)", ErrorKind::Timeout),
        ("INSERT INTO t SELECT 1 FROM pg_sleep(60)", ErrorKind::OutcomeUnknown),
    ];
    for (sql, kind) in kinds {
        let before: Option<i64> = db.fetch_value(session, ()).await.unwrap();
        let began = Instant::now();
        let error = hasty.fetch_all(sql, ()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        let after: Option<i64> = db.fetch_value(session, ()).await.unwrap();
        assert_ne!(before, after, "the session that still sleeps is not lent");
        assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
        let stats = db.stats();
        assert_eq!((stats.total_connections, stats.active_connections), (1, 0), "{stats:?}");
    }
}
