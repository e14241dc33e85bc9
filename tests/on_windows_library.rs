//! A library (DLL) with databases in it, on Windows: the end of its process, and programs that let go of it.
//!
//! `STRONGROOM_TEST_LIBRARY` names the library, tests/library; `scripts/cross-tests` builds it.
#![cfg(all(windows, feature = "sqlcipher"))]

mod common;
#[path = "common/itself.rs"]
mod itself;

use std::env;
use std::ffi::{CStr, c_void};
use std::os::windows::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use common::{Home, Kind, count, millis, secs};
use windows_sys::Win32::Foundation::FreeLibrary;
use windows_sys::Win32::System::LibraryLoader::{GetProcAddress, LoadLibraryW};

const LIBRARY: &str = "STRONGROOM_TEST_LIBRARY";
const CHILD: &str = "STRONGROOM_TEST_CHILD";
const FILE: &str = "STRONGROOM_TEST_FILE";

/// What the library has.
struct Loaded {
    handle: *mut c_void,
    begin: extern "C" fn(),
    written: extern "C" fn() -> u64,
}

#[allow(unsafe_code, reason = "the system's way to load a library")]
fn load() -> Loaded {
    let path: Vec<u16> = env::var_os(LIBRARY).unwrap().encode_wide().chain([0]).collect();
    // SAFETY: the path ends with a zero.
    let handle = unsafe { LoadLibraryW(path.as_ptr()) };
    assert!(!handle.is_null(), "{:?}", std::io::Error::last_os_error());
    // SAFETY: the names end with a zero, and the library is there.
    let find = |name: &CStr| unsafe { GetProcAddress(handle, name.as_ptr().cast()) }.unwrap();
    // SAFETY: the library has these functions, with these types.
    let (begin, written) = unsafe { (std::mem::transmute(find(c"begin")), std::mem::transmute(find(c"written"))) };
    Loaded { handle, begin, written }
}

/// Waits until the library has written more than `rows`.
fn wait_for(library: &Loaded, rows: u64) {
    while (library.written)() <= rows {
        std::thread::sleep(millis(1));
    }
}

/// The child of the tests below; in the parent's own run it does nothing.
#[test]
#[allow(unsafe_code, reason = "the system's way to let go of a library")]
fn child_that_loads_a_library() {
    let Ok(mode) = env::var(CHILD) else { return };
    let library = load();
    (library.begin)();
    wait_for(&library, 5);
    if mode == "let go" {
        // SAFETY: the handle is that of `load`, and is not used again.
        assert_ne!(unsafe { FreeLibrary(library.handle) }, 0);
        wait_for(&library, (library.written)() + 5);
    }
    println!("acknowledged {}", (library.written)());
    std::process::exit(0);
}

/// Says how long the child took.
fn run(mode: &str) -> Duration {
    let home = Home::new(Kind::KeyedFile);
    let begin = Instant::now();
    let mut child = itself::again(module_path!(), "child_that_loads_a_library");
    let output = child.env(CHILD, mode).env(FILE, home.path()).output().unwrap();
    let took = begin.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{mode}: {:?}: {said}", output.status);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = told.lines().find_map(|line| line.split_once("acknowledged ")?.1.trim().parse::<i64>().ok());
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let db = home.open().await;
        assert!(count(&db).await >= told.expect("the child was busy"), "{mode}: acknowledged and lost");
        let check: Option<String> = db.fetch_value("PRAGMA integrity_check", ()).await.unwrap();
        assert_eq!(check.as_deref(), Some("ok"), "{mode}");
    });
    took
}

#[test]
fn a_process_that_ends_does_not_wait_for_threads_of_a_library_that_windows_has_ended() {
    if env::var_os(LIBRARY).is_none() {
        return;
    }
    // The gate at exit waits for five seconds. The shortest of three, so that a busy machine does not count.
    let shortest = (0..3).map(|_| run("end")).min().unwrap();
    assert!(shortest < secs(5), "it took {shortest:?}");
}

#[test]
fn a_library_that_its_program_lets_go_of_stays_for_its_threads() {
    if env::var_os(LIBRARY).is_none() {
        return;
    }
    run("let go");
}
