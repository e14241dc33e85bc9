//! A connection whose last call was given up is waited for without the runtime's thread.
#![cfg(feature = "sqlite")]

mod common;

use std::sync::{Arc, Mutex, mpsc};

use common::{Home, Kind, millis, secs, with_table};
use strongroom::rusqlite::functions::{Context, FunctionFlags};
use tokio::time::timeout;

/// A closure that works until it is told to end, or for so long that nobody can have told it; says which it was.
fn work(until: mpsc::Receiver<()>, said: mpsc::Sender<bool>) -> impl FnOnce() + Send + 'static {
    move || said.send(until.recv_timeout(secs(5)).is_ok()).unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn who_calls_again_on_a_connection_at_work_blocks_nobody() {
    for kind in Kind::ALL {
        for what in ["held", "held with a limit"] {
            let ((end, until), (said, told)) = (mpsc::channel(), mpsc::channel());
            let work = Arc::new(Mutex::new(Some(work(until, said))));
            let home = Home::new(kind);
            let builder = home.builder().on_connect(move |connection| {
                let work = Arc::clone(&work);
                let function = move |_: &Context<'_>| {
                    if let Some(work) = work.lock().unwrap().take() {
                        work();
                    }
                    Ok(1)
                };
                Box::pin(
                    connection
                        .interact(move |c| c.create_scalar_function("work", 0, FunctionFlags::SQLITE_UTF8, function)),
                )
            });
            let db = builder.open().await.unwrap();
            with_table(&db).await;
            let ending = || {
                tokio::spawn(async move {
                    tokio::time::sleep(millis(50)).await;
                    end.send(()).ok();
                })
            };
            let (long, short) = ("SELECT work()", "SELECT 1");
            let limited = db.with_timeout(secs(20));
            let mut conn = if what == "held" { &db } else { &limited }.connection().await.unwrap();
            timeout(millis(10), conn.fetch_value::<i64>(long, ())).await.unwrap_err();
            ending();
            let one: Option<i64> = conn.fetch_value(short, ()).await.unwrap();
            assert_eq!(one, Some(1), "{kind:?}, {what}");
            assert!(told.recv().unwrap(), "{kind:?}, {what}: nothing else ran on the thread");
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_hook_that_gives_its_own_closure_up_blocks_nobody() {
    let home = Home::new(Kind::PlainFile);
    let ((end, until), (said, told)) = (mpsc::channel(), mpsc::channel());
    let work = Mutex::new(Some(work(until, said)));
    let builder = home.builder().on_connect(move |connection| {
        let work = work.lock().unwrap().take();
        Box::pin(async move {
            let Some(work) = work else { return Ok(()) };
            let given_up = connection.interact(move |_| {
                work();
                Ok(())
            });
            timeout(millis(10), given_up).await.unwrap_err();
            Ok(())
        })
    });
    tokio::spawn(async move {
        tokio::time::sleep(millis(60)).await;
        end.send(()).ok();
    });
    let opened = builder.open().await;
    assert!(told.recv().unwrap(), "nothing else ran on the thread");
    // It may be opened at another attempt; a connection at work is lent to nobody.
    if let Err(error) = opened {
        assert!(error.to_string().contains("on_connect hook"), "{error}");
    }
}
