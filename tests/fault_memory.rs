//! Memory that SQLite cannot have, at any request of a database's life, once or from there on: nothing acknowledged is
//! missing, nothing that was refused is there, nothing hangs or panics, and the handle heals.
//!
//! `STRONGROOM_MEMORY_STRIDE` is the distance between the requests that fail (1 tries all).
#![cfg(all(feature = "sqlcipher", target_os = "linux", target_env = "gnu"))]
#![allow(unsafe_code, reason = "SQLite takes its memory by functions of C")]

mod common;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/ledger.rs"]
mod ledger;
#[path = "common/swept.rs"]
mod swept;

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};

use common::{Home, Kind, secs};
use ledger::{Ledger, Story};
use strongroom::rusqlite::ffi;
use tokio::time::timeout;

/// How SQLite takes memory by itself.
struct Methods(ffi::sqlite3_mem_methods);

// SAFETY: functions, and a pointer that nobody uses.
unsafe impl Send for Methods {}
// SAFETY: the same.
unsafe impl Sync for Methods {}

static OWN: OnceLock<Methods> = OnceLock::new();

/// So many requests are met first; none fails while this is negative.
static LEFT: AtomicI64 = AtomicI64::new(-1);
static FOR_GOOD: AtomicBool = AtomicBool::new(false);
static REFUSED: AtomicUsize = AtomicUsize::new(0);

fn is_refused() -> bool {
    // At nothing left it stays there if it is for good, and ends if it is not.
    let next = |left| if left < 0 || left == 0 && FOR_GOOD.load(SeqCst) { None } else { Some(left - 1) };
    let (Ok(left) | Err(left)) = LEFT.fetch_update(SeqCst, SeqCst, next);
    let refused = left == 0;
    REFUSED.fetch_add(usize::from(refused), SeqCst);
    refused
}

unsafe extern "C" fn allocate(bytes: c_int) -> *mut c_void {
    // SAFETY: what SQLite would have called.
    if is_refused() { ptr::null_mut() } else { unsafe { OWN.get().unwrap().0.xMalloc.unwrap()(bytes) } }
}

unsafe extern "C" fn grow(memory: *mut c_void, bytes: c_int) -> *mut c_void {
    // SAFETY: what SQLite would have called.
    if is_refused() { ptr::null_mut() } else { unsafe { OWN.get().unwrap().0.xRealloc.unwrap()(memory, bytes) } }
}

/// Before anything uses SQLite in this process.
fn take_over() {
    OWN.get_or_init(|| {
        // SAFETY: SQLite fills the functions in, and is given them back with two exchanged; nothing has used it yet.
        unsafe {
            let mut methods = std::mem::zeroed::<ffi::sqlite3_mem_methods>();
            let code = ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, ptr::from_mut(&mut methods));
            assert_eq!(code, ffi::SQLITE_OK);
            let own = methods;
            methods.xMalloc = Some(allocate);
            methods.xRealloc = Some(grow);
            let code = ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, ptr::from_mut(&mut methods));
            assert_eq!(code, ffi::SQLITE_OK);
            Methods(own)
        }
    });
}

/// Whether the life got as far as the failure.
async fn met(skip: i64, for_good: bool, closes: bool) -> Result<bool, String> {
    let home = Home::new(Kind::KeyedFile);
    let ledger = Ledger::of(home.directory.path(), 200);
    let db = home.builder().max_retries(1).build();
    let before = REFUSED.load(SeqCst);
    FOR_GOOD.store(for_good, SeqCst);
    LEFT.store(skip, SeqCst);
    swept::live(&db, &ledger).await;
    if !closes {
        LEFT.store(-1, SeqCst);
        swept::heals(&db, &ledger).await?;
    }
    db.close().await.map_err(|error| format!("close: {error}"))?;
    LEFT.store(-1, SeqCst);
    let record = ledger.recording.so_far();
    drop(ledger);
    swept::is_there(&home, &Story::of(&record, record.events.len())).await?;
    Ok(REFUSED.load(SeqCst) > before)
}

#[test]
fn any_memory_may_be_refused() {
    take_over();
    faults::quick();
    let stride = std::env::var("STRONGROOM_MEMORY_STRIDE").ok().and_then(|text| text.parse().ok()).unwrap_or(700);
    let panics = swept::panics();
    let running = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut lives, mut longest) = (0, 0);
    for (turn, (for_good, closes)) in
        [(false, true), (true, false), (true, true), (false, false)].into_iter().enumerate()
    {
        for skip in (turn * stride / 4..).step_by(stride) {
            let what = format!("request {skip}, for good: {for_good}, closed meanwhile: {closes}");
            let skip = i64::try_from(skip).unwrap();
            let outcome = running.block_on(async { timeout(secs(60), met(skip, for_good, closes)).await });
            let met = outcome.expect("it hangs").unwrap_or_else(|found| panic!("{what}: {found}"));
            assert_eq!(swept::panics(), panics, "{what}: something panicked");
            if !met {
                break;
            }
            (lives, longest) = (lives + 1, longest.max(skip));
        }
    }
    println!("{lives} lives without some memory, of up to {longest} requests");
    assert!(lives > 0, "nothing failed");
}
