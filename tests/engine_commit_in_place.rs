//! Commits that wait for the disk on the caller's thread.
#![cfg(feature = "sqlite")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};

use common::{Home, Kind, assert_whole, count, secs, with_table};
use strongroom::AsyncDatabase;
use strongroom::sqlcipher::Tuning;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::LocalSet;

const PUT: &str = "INSERT INTO t (n) VALUES ($1)";
const RAISE: &str = "UPDATE t SET n = n + 1 WHERE id = $1";

fn tuning() -> Tuning {
    Tuning::default().inline_reads(true).inline_writes(true).commit_in_place(true)
}

async fn open(home: &Home, tuning: Tuning) -> AsyncDatabase {
    let db = home.builder().tuning(tuning).open().await.unwrap();
    with_table(&db).await;
    write(&db).await;
    db
}

/// A lone write, then a transaction of two.
async fn write(db: &AsyncDatabase) {
    db.execute(PUT, (0,)).await.unwrap();
    let work = db.transaction(async |tx| {
        tx.execute(PUT, (1,)).await?;
        tx.execute(RAISE, (1,)).await
    });
    work.await.unwrap();
}

/// How many statements ran on their callers' tasks while `write` did so twenty times.
async fn in_place(db: &AsyncDatabase) -> u64 {
    let before = db.engine_stats().inline_runs;
    for _ in 0..20 {
        write(db).await;
    }
    db.engine_stats().inline_runs - before
}

fn several() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn lone_writes_and_commits_stay_on_a_thread_of_a_runtime_with_several() {
    several().block_on(async {
        tokio::spawn(async {
            let home = Home::new(Kind::KeyedFile);
            let db = open(&home, tuning()).await;
            // Now and then another thread has the engine for a moment; and what took long twice goes to a thread for a
            // while, as on a machine with other work.
            let mut rounds = 1;
            while in_place(&db).await < 45 {
                rounds += 1;
                assert!(rounds < 20, "all but a few of 60 statements");
            }
            let others = open(&Home::new(Kind::KeyedFile), tuning().commit_in_place(false)).await;
            assert!(in_place(&others).await <= 40, "the lone ones go to a thread");
            assert_eq!(count(&db).await, 2 + 40 * rounds);
            assert_whole(&db, "after commits in place").await;
            assert!(db.close().await.unwrap().is_clean());
        })
        .await
        .unwrap();
    });
}

#[test]
fn where_the_runtime_cannot_do_without_the_thread_commits_go_to_another_one() {
    let work = async {
        let home = Home::new(Kind::KeyedFile);
        let db = open(&home, tuning()).await;
        assert!(in_place(&db).await <= 40);
        assert_eq!(count(&db).await, 42);
        assert_whole(&db, "in a runtime or set of tasks with one thread").await;
        assert!(db.close().await.unwrap().is_clean());
    };
    Builder::new_current_thread().enable_all().build().unwrap().block_on(work);

    several().block_on(LocalSet::new().run_until(async {
        tokio::task::spawn_local(async {
            let home = Home::new(Kind::KeyedFile);
            let db = open(&home, tuning()).await;
            assert!(in_place(&db).await <= 40);
            assert_eq!(count(&db).await, 42);
            assert!(db.close().await.unwrap().is_clean());
        })
        .await
        .unwrap();
    }));
}

/// A commit hook stands for the disk here.
#[test]
fn the_other_tasks_of_a_thread_that_waits_for_the_disk_go_on() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (other, from_other) = mpsc::channel();
    let (begun, mut has_begun) = unbounded_channel();
    let (from_other, waits) = (Arc::new(Mutex::new(from_other)), Arc::new(AtomicBool::new(false)));
    let (waiting, answers) = (Arc::clone(&waits), Arc::new(AtomicU32::new(0)));
    let answered = Arc::clone(&answers);
    let work = async move {
        let home = Home::new(Kind::KeyedFile);
        let builder = home.builder().tuning(tuning()).on_connect(move |connection| {
            let (begun, from_other, waiting) = (begun.clone(), Arc::clone(&from_other), Arc::clone(&waiting));
            let answered = Arc::clone(&answered);
            let hook = move || {
                if waiting.load(SeqCst) {
                    begun.send(()).unwrap();
                    let answer = from_other.lock().unwrap().recv_timeout(secs(10));
                    answered.fetch_add(u32::from(answer.is_ok()), SeqCst);
                }
                false
            };
            Box::pin(connection.interact(move |c| c.commit_hook(Some(hook)).map(drop)))
        });
        let db = builder.open().await.unwrap();
        with_table(&db).await;
        write(&db).await;
        waits.store(true, SeqCst);
        tokio::spawn(async move {
            while has_begun.recv().await.is_some() {
                other.send(()).unwrap();
            }
        });
        for round in 1.. {
            let before = db.engine_stats().inline_runs;
            for n in 0..10 {
                db.execute(PUT, (n,)).await.unwrap();
                db.transaction(async |tx| tx.execute(PUT, (n,)).await).await.unwrap();
            }
            assert_eq!(answers.load(SeqCst), 20 * round, "the other task ran while the thread waited");
            if db.engine_stats().inline_runs >= before + 15 {
                break;
            }
            assert!(round < 20, "they ran in place");
        }
    };
    runtime.block_on(async { tokio::spawn(work).await.unwrap() });
}
