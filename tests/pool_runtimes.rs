//! One pool on several runtimes: idle connections come of age on whichever is left.

mod toy;

use std::sync::mpsc;
use std::thread;

use strongroom::Pool;
use strongroom::pool::AlwaysHealthy;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};
use toy::{Toys, millis, secs};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A pool whose idle connections are closed soon.
fn pool(toys: &Toys) -> Pool<Toys> {
    toys.pool().min_size(0).max_size(4).health(AlwaysHealthy).idle_timeout(Some(millis(40))).build()
}

/// Uses so many connections, and waits until all of them have been closed.
async fn used_and_reaped(toys: &Toys, pool: &Pool<Toys>, count: usize) {
    let mut loans = Vec::new();
    for _ in 0..count {
        loans.push(pool.get().await.unwrap());
    }
    drop(loans);
    let reaped = async {
        while toys.world.live() > 0 {
            sleep(millis(2)).await;
        }
    };
    timeout(secs(20), reaped).await.expect("nobody looks for connections that are too old");
    assert_eq!(pool.stats().total_connections, 0);
}

/// Runs `test` on a thread of its own, which has to end.
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (ended, has_ended) = mpsc::channel();
    let running = thread::spawn(move || {
        test();
        ended.send(()).unwrap();
    });
    match has_ended.recv_timeout(secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => running.join().unwrap(),
    }
}

#[test]
fn an_idle_connection_expires_though_the_runtime_that_opened_it_has_ended() {
    in_time(|| {
        let toys = Toys::default();
        let pool = pool(&toys);
        let first = runtime();
        drop(first.block_on(pool.get()).unwrap());
        drop(first);
        for count in [1, 3] {
            // The second time, the reaper's own runtime has ended, too.
            runtime().block_on(used_and_reaped(&toys, &pool, count));
        }
    });
}

#[test]
fn an_idle_connection_expires_though_nobody_drives_the_runtime_that_opened_it() {
    in_time(|| {
        let toys = Toys::default();
        let pool = pool(&toys);
        let first = runtime();
        drop(first.block_on(pool.get()).unwrap());
        runtime().block_on(async {
            // Long enough that its absence is no mere lateness.
            sleep(millis(1200)).await;
            used_and_reaped(&toys, &pool, 2).await;
        });
        drop(first);
    });
}

#[test]
fn a_lifetime_ends_on_the_second_runtime_and_what_is_kept_is_replaced_there() {
    in_time(|| {
        let toys = Toys::default();
        let pool = toys.pool().min_size(1).max_size(2).health(AlwaysHealthy).max_lifetime(Some(millis(60))).build();
        runtime().block_on(pool.warm()).unwrap();
        runtime().block_on(async {
            drop(pool.get().await.unwrap());
            let replaced = async {
                while toys.world.opened() < 3 {
                    sleep(millis(2)).await;
                }
            };
            timeout(secs(20), replaced).await.expect("nobody looks for connections that are too old");
            assert!(pool.close(secs(1)).await.is_clean());
        });
        assert_eq!(toys.world.live(), 0);
    });
}
