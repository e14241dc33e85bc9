//! An import, a stream and a copy are as long and as wide as they like; what they hold in memory is not.
#![cfg(feature = "sqlite")]
#![allow(unsafe_code, reason = "an allocator that counts")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::{Home, Kind};
use futures_util::TryStreamExt as _;
use strongroom::database::CopyRows;
use strongroom::values::ValueRef;

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

/// The same while rows of `width` bytes are streamed, and while their table is copied.
async fn peaks_of_reading(rows: i64, width: usize) -> [usize; 2] {
    let (home, other) = (Home::new(Kind::PlainFile), Home::new(Kind::PlainFile));
    let (db, copy) = (home.open().await, other.open().await);
    for db in [&db, &copy] {
        db.execute_script("CREATE TABLE log (id INTEGER PRIMARY KEY, line BLOB)").await.unwrap();
    }
    let lines = (1..=rows).map(|id| (id, vec![7_u8; width]));
    db.execute_many("INSERT INTO log VALUES ($1, $2)", lines).await.unwrap();
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    let mut stream = db.fetch_stream("SELECT * FROM log", ());
    let mut read = 0;
    while let Some(row) = stream.try_next().await.unwrap() {
        assert!(matches!(row.value(1).unwrap(), ValueRef::Blob(line) if line.len() == width));
        read += 1;
    }
    assert_eq!(read, rows);
    drop(stream);
    let streamed = MOST.load(Relaxed) - before;
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    let report = db.copy_rows(&copy, CopyRows::of(["log"])).await.unwrap();
    assert_eq!(report.tables[0].1, rows.unsigned_abs());
    [streamed, MOST.load(Relaxed) - before]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_rows_take_no_more_memory_than_a_few() {
    const MIB: usize = 1 << 20;
    for (rows, width) in [(1_000_000, 10), (100_000, 1000), (200, 500_000)] {
        let most = peak(rows, width).await;
        println!("{rows} rows of {width} bytes: {most} bytes at most");
        assert!(most < 12 * MIB, "{rows} rows of {width} bytes: {most} bytes at most");
    }
    for most in peaks_of_reading(120, 500_000).await {
        println!("rows of half a MB, read: {most} bytes at most");
        assert!(most < 20 * MIB, "{most} bytes at most");
    }
}
