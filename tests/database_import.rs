//! An import is as long as it likes; what it holds in memory is not.
#![cfg(feature = "sqlite")]
#![allow(unsafe_code, reason = "an allocator that counts")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::{Home, Kind};

/// Counts what the Rust side holds; SQLite has its own page cache, whose size is set.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is the system's allocator's work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

/// The most that was held above what was held before, in bytes, while `rows` of `width` bytes were imported.
async fn peak(rows: i64, width: usize) -> usize {
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    db.execute_script("CREATE TABLE log (id INTEGER PRIMARY KEY, line TEXT)").await.unwrap();
    db.execute_many("INSERT INTO log VALUES ($1, $2)", [(0, "the statement is known from here on")]).await.unwrap();
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    let lines = (1..=rows).map(|id| (id, "x".repeat(width)));
    let changes = db.execute_many("INSERT INTO log VALUES ($1, $2)", lines).await.unwrap();
    assert_eq!(changes.rows_affected, u64::try_from(rows).unwrap());
    let most = MOST.load(Relaxed) - before;
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM log", ()).await.unwrap(), Some(rows + 1));
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_rows_take_no_more_memory_than_a_few() {
    const MIB: usize = 1 << 20;
    for (rows, width) in [(1_000_000, 10), (100_000, 1000), (200, 500_000)] {
        let most = peak(rows, width).await;
        println!("{rows} rows of {width} bytes: {most} bytes at most");
        assert!(most < 12 * MIB, "{rows} rows of {width} bytes: {most} bytes at most");
    }
}
