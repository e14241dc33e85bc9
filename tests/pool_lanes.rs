//! Two shelves: one writer behind a fair queue, and readers that do not wait for it.

mod toy;

use std::sync::{Arc, Mutex};

use strongroom::Reason;
use strongroom::engine::Access;
use tokio::time::Instant;
use toy::{Toys, millis, secs, settle};

#[tokio::test(start_paused = true)]
async fn there_is_one_writer_and_the_rest_are_readers() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(3).acquire_timeout(secs(1)).writer_lane(true).build();
    let writer = pool.get().await.unwrap();
    let readers = (pool.get_for(Access::Read).await.unwrap(), pool.get_for(Access::Read).await.unwrap());
    assert_eq!((writer.access, readers.0.access, readers.1.access), (Access::Write, Access::Read, Access::Read));
    let begin = Instant::now();
    for access in [Access::Read, Access::Write] {
        assert_eq!(pool.get_for(access).await.unwrap_err().reason(), Reason::AllInUse);
    }
    assert_eq!(begin.elapsed(), secs(2), "max_size counts both");
    let text = pool.get_for(Access::Write).await.unwrap_err().to_string();
    assert!(text.contains("1 of 1 in use"), "only the writer is in the way: {text}");
}

#[tokio::test(start_paused = true)]
async fn readers_do_not_wait_for_the_writer_nor_the_writer_for_readers() {
    let pool = Toys::default().pool().max_size(2).writer_lane(true).build();
    let begin = Instant::now();
    let writer = pool.get_for(Access::Write).await.unwrap();
    for _ in 0..10 {
        pool.get_for(Access::Read).await.unwrap();
    }
    drop(writer);
    let _reader = pool.get_for(Access::Read).await.unwrap();
    pool.get_for(Access::Write).await.unwrap();
    assert_eq!(begin.elapsed(), millis(0));
}

#[tokio::test(start_paused = true)]
async fn writers_are_served_in_the_order_in_which_they_came() {
    let pool = Toys::default().pool().max_size(5).writer_lane(true).build();
    let order = Arc::new(Mutex::new(Vec::new()));
    let first = pool.get().await.unwrap();
    let mut tasks = Vec::new();
    for number in 0..10 {
        let (pool, order) = (pool.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let mut writer = pool.get().await.unwrap();
            order.lock().unwrap().push(number);
            writer.work(millis(10)).await.unwrap();
        }));
        settle().await;
    }
    drop(first);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn one_connection_or_no_concurrent_readers_means_one_queue_for_all() {
    let one = Toys::default();
    let single = Toys { no_readers: true, ..Toys::default() };
    for (toys, size) in [(&one, 1), (&single, 5)] {
        let pool = toys.pool().min_size(size).max_size(size).acquire_timeout(secs(1)).writer_lane(true).build();
        pool.warm().await.unwrap();
        let reader = pool.get_for(Access::Read).await.unwrap();
        assert_eq!(reader.access, Access::Write, "it does both jobs");
        if size == 1 {
            assert_eq!(pool.get().await.unwrap_err().reason(), Reason::AllInUse);
        }
        drop(reader);
        assert_eq!(pool.get().await.unwrap().access, Access::Write);
    }
    assert_eq!(one.world.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_lane_every_connection_can_do_everything() {
    let pool = Toys::default().pool().max_size(2).build();
    let (reader, writer) = (pool.get_for(Access::Read).await.unwrap(), pool.get().await.unwrap());
    assert_eq!((reader.access, writer.access), (Access::Write, Access::Write));
}

#[tokio::test(start_paused = true)]
async fn where_reads_go_elsewhere_half_of_the_connections_are_for_them() {
    for (max, writers, readers) in [(1, 1, 0), (2, 1, 1), (5, 3, 2), (10, 5, 5)] {
        let toys = Toys { reads_elsewhere: true, ..Toys::default() };
        let pool = toys.pool().min_size(2).max_size(max).acquire_timeout(secs(1)).build();
        pool.warm().await.unwrap();
        let mut loans = Vec::new();
        for (access, size) in [(Access::Write, writers), (Access::Read, readers)] {
            for _ in 0..size {
                let loan = pool.get_for(access).await.unwrap();
                assert_eq!(loan.access, access);
                loans.push(loan);
            }
            if size > 0 {
                let error = pool.get_for(access).await.map(drop).unwrap_err();
                assert!(error.to_string().contains(&format!("{size} of {size} in use")), "{error}");
            }
        }
        assert_eq!((toys.world.live(), pool.stats().active_connections), (max as usize, max));
        loans.clear();
        assert!(pool.close(secs(1)).await.is_clean());
        assert_eq!(toys.world.journal().last().unwrap(), "close Write");
    }
}
