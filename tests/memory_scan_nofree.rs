//! After a database is closed, the memory of the process holds neither the passphrase nor the key: under an allocator
//! that never takes memory back, so that every copy that was freed without being wiped is still there.

#![cfg(all(feature = "sqlcipher", target_os = "linux"))]
#![allow(unsafe_code, reason = "an allocator cannot be written without it")]

use std::alloc::{GlobalAlloc, Layout, System};

#[path = "common/scan.rs"]
mod scan;

struct NeverFree;

// SAFETY: allocation is the system's; not freeing is always sound. The default `realloc` copies into new memory and
// leaves the old as it was.
unsafe impl GlobalAlloc for NeverFree {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: NeverFree = NeverFree;

#[test]
fn no_secret_stays_in_memory_that_was_freed() {
    scan::parent_or_child("no_secret_stays_in_memory_that_was_freed");
}
