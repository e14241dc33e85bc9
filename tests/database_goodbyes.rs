//! The goodbye of a writer keeps nobody from writing.
#![cfg(feature = "sqlite")]

mod common;

use common::{Home, Kind, numbers, secs, with_table};
use futures_util::TryStreamExt;
use strongroom::sqlcipher::Tuning;
use tokio::time::timeout;

#[tokio::test]
async fn a_writer_that_was_altered_is_replaced_while_somebody_reads() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let tuning = Tuning::default().busy_timeout(secs(3600));
        let db = home.builder().tuning(tuning).pool_timeout(secs(5)).open().await.unwrap();
        with_table(&db).await;
        db.execute(&format!("INSERT INTO t (n) {}", numbers(20_000)), ()).await.unwrap();
        // It has read from the log, and stays where it is.
        let mut reading = db.fetch_stream("SELECT n FROM t", ());
        assert!(reading.try_next().await.unwrap().is_some());
        let mut conn = db.connection().await.unwrap();
        conn.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        conn.execute("PRAGMA cell_size_check = ON", ()).await.unwrap();
        drop(conn);
        let next = timeout(secs(30), db.execute("INSERT INTO t (n) VALUES (2)", ())).await.expect("it answers");
        next.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        while reading.try_next().await.unwrap().is_some() {}
        drop(reading);
        assert!(db.close().await.unwrap().is_clean());
        assert!(!home.path().with_file_name("app.db-wal").exists(), "{kind:?}: the log is folded into the file");
    }
}
