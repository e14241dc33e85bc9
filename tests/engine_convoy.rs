//! More busy tasks than connections: what is done on the spot does not end in a queue where each waits for a wake-up.
#![cfg(feature = "sqlite")]

mod common;

use common::{Home, Kind, with_table};
use strongroom::sqlcipher::Tuning;

const TASKS: i64 = 20;
const READS: i64 = 500;

/// On one thread, short reads never need two connections at once; only the first of all tasks meet while none is open.
#[tokio::test]
async fn short_reads_of_many_tasks_do_not_keep_each_other_waiting() {
    let home = Home::new(Kind::PlainFile);
    let db = home.builder().tuning(Tuning::default().inline_reads(true)).pool_max(3).open().await;
    let db = db.unwrap();
    with_table(&db).await;
    db.execute_many("INSERT INTO t VALUES ($1, $1)", (0..TASKS).map(|n| (n,))).await.unwrap();
    let before = db.stats().total_waited;
    let tasks = (0..TASKS).map(|task| {
        let db = db.clone();
        tokio::spawn(async move {
            for _ in 0..READS {
                let n: Option<i64> = db.fetch_value("SELECT n FROM t WHERE id = $1", (task,)).await.unwrap();
                assert_eq!(n, Some(task));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let waited = db.stats().total_waited - before;
    let all = u64::try_from(TASKS * READS).unwrap();
    assert!(waited < all / 10, "{waited} of {all} reads waited");
}
