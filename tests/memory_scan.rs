//! After a database is closed, the memory of the process holds neither the passphrase nor the key. With the ordinary
//! allocator, under which freed memory may be overwritten by luck; `memory_scan_nofree` takes the luck away.

#![cfg(all(feature = "sqlcipher", target_os = "linux"))]

#[path = "common/scan.rs"]
mod scan;

#[test]
fn no_secret_stays_in_memory() {
    scan::parent_or_child("no_secret_stays_in_memory");
}
