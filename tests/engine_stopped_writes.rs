//! A write that is stopped has not happened, and one that has happened is not called stopped.
#![cfg(feature = "sqlite")]

mod common;

use common::{Home, Kind, count, with_table};
use strongroom::{Synchronous, Tuning};

/// SQLite asks whether to stop once more when a statement has ended, and its commit is done.
#[tokio::test]
async fn a_write_of_any_length_is_done_once_wherever_it_runs() {
    let home = Home::new(Kind::PlainFile);
    let tuning = Tuning::default().synchronous(Synchronous::Normal).inline_writes(true);
    let db = home.builder().tuning(tuning).open().await.unwrap();
    with_table(&db).await;
    for rows in 1..400_i64 {
        // A text of its own for each length: a statement found to be long is not tried inline again.
        let sql = format!(
            "INSERT INTO t (n) WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c LIMIT {rows}) \
             SELECT i FROM c"
        );
        for _ in 0..3 {
            let before = count(&db).await;
            let said = db.execute(&sql, ()).await.unwrap().rows_affected;
            assert_eq!((said, count(&db).await - before), (u64::try_from(rows).unwrap(), rows), "{rows} rows");
        }
    }
}
