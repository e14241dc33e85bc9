//! Memory for keys: kept out of the swap file, out of core dumps, and out of the children of a fork.
//!
//! The cells lie on pages of their own, which are never given back. What the system refuses is done without, and told.
//! Nothing here takes a lock: a child of a fork drops what it has inherited, whatever another thread was at.
//!
//! `memfd_secret` is not used: while a process has such memory, Linux does not hibernate, and a child shares it.
//! Source: the notes in the manual page of that call.

use std::ops::{Deref, DerefMut};
use std::process;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64};

use zeroize::Zeroize as _;

/// The bytes of a key and a salt.
const KEY: usize = 48;
/// From cell to cell, which so share no line of a processor's cache.
const STRIDE: usize = 64;
/// A bit of `taken` for each.
const CELLS: usize = 64;
const LENGTH: usize = STRIDE * CELLS;

/// The pages, the newest first.
///
/// Release and Acquire: a page is written before the exchange that puts it here. A thread that loads it sees what it was made of,
/// and of the older ones, too, because the thread that added it had loaded those the same way.
static PAGES: AtomicPtr<KeyPage> = AtomicPtr::new(ptr::null_mut());

/// What the system does for the memory that holds the derived keys of open databases; see
/// [`key_protection`](crate::sqlcipher::key_protection).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyProtection {
    /// It stays in RAM and is never written to swap. Hibernation writes all of RAM.
    pub locked: bool,
    /// A core dump leaves it out.
    pub excluded_from_dumps: bool,
    /// The child of a fork finds zeros there. On Windows nothing forks.
    pub wiped_on_fork: bool,
}

const NONE: KeyProtection = KeyProtection { locked: false, excluded_from_dumps: false, wiped_on_fork: false };

struct KeyPage {
    start: *mut u8,
    /// Locks are not inherited, so a child has pages of its own.
    process: u32,
    protection: KeyProtection,
    /// A cell is given back with Release, after it was wiped, and taken with Acquire: its next owner writes after that, never
    /// before. What others take and give back meanwhile are changes of the same number (read and written in one), which hand
    /// that on.
    taken: AtomicU64,
    next: *const Self,
}

// SAFETY: `start` and `next` do not change once the page is among the others, and each cell is used by the one that has
// its bit.
unsafe impl Send for KeyPage {}
// SAFETY: as above.
unsafe impl Sync for KeyPage {}

impl KeyPage {
    /// All pages of this process.
    fn all() -> impl Iterator<Item = &'static Self> {
        let here = process::id();
        // SAFETY: a page among the others stays there for as long as the process.
        let first = unsafe { PAGES.load(Acquire).as_ref() };
        // SAFETY: as above; the last one has null.
        let pages = std::iter::successors(first, |page| unsafe { page.next.as_ref() });
        pages.filter(move |page: &&Self| page.process == here)
    }

    /// The number of a free cell, which is taken now.
    fn take(&self) -> Option<usize> {
        let free = |taken: u64| Some((!taken).trailing_zeros() as usize).filter(|cell| *cell < CELLS);
        let before = self.taken.fetch_update(AcqRel, Acquire, |taken| free(taken).map(|cell| taken | 1 << cell));
        free(before.ok()?)
    }

    /// A new page, whose first cell is taken.
    fn add() -> &'static Self {
        let (start, protection) = map().unwrap_or_else(|| (Box::leak(Box::new([0; LENGTH])).as_mut_ptr(), NONE));
        let (process, taken) = (process::id(), AtomicU64::new(1));
        let page = Box::leak(Box::new(Self { start, process, protection, taken, next: ptr::null() }));
        let mut next = PAGES.load(Acquire);
        loop {
            page.next = next;
            match PAGES.compare_exchange(next, page, AcqRel, Acquire) {
                Ok(_) => return page,
                Err(newer) => next = newer,
            }
        }
    }
}

/// Room for a key and its salt; zeros at first, and wiped on drop.
pub(in super::super) struct KeyCell {
    page: &'static KeyPage,
    number: usize,
}

impl KeyCell {
    pub(in super::super) fn new() -> Self {
        let found = KeyPage::all().find_map(|page| page.take().map(|number| Self { page, number }));
        found.unwrap_or_else(|| Self { page: KeyPage::add(), number: 0 })
    }

    fn start(&self) -> *mut [u8; KEY] {
        // SAFETY: the page has as many cells, and the number is one of them.
        unsafe { self.page.start.add(self.number * STRIDE).cast() }
    }
}

impl Deref for KeyCell {
    type Target = [u8; KEY];

    fn deref(&self) -> &[u8; KEY] {
        // SAFETY: the memory is readable for as long as the process, and only this cell uses these bytes.
        unsafe { &*self.start() }
    }
}

impl DerefMut for KeyCell {
    fn deref_mut(&mut self) -> &mut [u8; KEY] {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { &mut *self.start() }
    }
}

impl Drop for KeyCell {
    fn drop(&mut self) {
        self.zeroize();
        self.page.taken.fetch_and(!(1 << self.number), Release);
    }
}

/// What the system does for the memory that holds the derived keys of this process: what all of it has.
///
/// A key is derived once, and stands there until its database is closed. Where something is false, the system refused it
/// (`ulimit -l`), or has no such thing; the database works all the same. `SECURITY.md` says what this protects from, and
/// what not: SQLCipher keeps a masked copy of its own for each connection.
///
/// ```
/// let protection = strongroom::sqlcipher::key_protection();
/// # #[cfg(target_os = "linux")]
/// assert!(protection.excluded_from_dumps && protection.wiped_on_fork);
/// ```
pub fn key_protection() -> KeyProtection {
    let cell = KeyCell::new();
    let all = |one: KeyProtection, page: &KeyPage| KeyProtection {
        locked: one.locked && page.protection.locked,
        excluded_from_dumps: one.excluded_from_dumps && page.protection.excluded_from_dumps,
        wiped_on_fork: one.wiped_on_fork && page.protection.wiped_on_fork,
    };
    KeyPage::all().fold(cell.page.protection, all)
}

/// Fresh memory, and what was done for it.
#[cfg(unix)]
fn map() -> Option<(*mut u8, KeyProtection)> {
    // SAFETY: asks for new memory, and names none that is in use.
    let start = unsafe {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(ptr::null_mut(), LENGTH, rights, libc::MAP_PRIVATE | libc::MAP_ANON, -1, 0)
    };
    if start == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the memory was made above, and is nobody else's.
    let locked = unsafe { libc::mlock(start, LENGTH) } == 0;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: as above; both only tell what becomes of it elsewhere.
    let (excluded_from_dumps, wiped_on_fork) = unsafe {
        let advise = |advice| libc::madvise(start, LENGTH, advice) == 0;
        (advise(libc::MADV_DONTDUMP), advise(libc::MADV_WIPEONFORK))
    };
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let (excluded_from_dumps, wiped_on_fork) = (false, false);
    Some((start.cast(), KeyProtection { locked, excluded_from_dumps, wiped_on_fork }))
}

#[cfg(windows)]
fn map() -> Option<(*mut u8, KeyProtection)> {
    use std::ffi::c_void;

    // memoryapi.h; MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE.
    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn VirtualAlloc(start: *mut c_void, length: usize, kind: u32, rights: u32) -> *mut c_void;
        fn VirtualLock(start: *mut c_void, length: usize) -> i32;
    }
    // SAFETY: asks for new memory, and names none that is in use.
    let start = unsafe { VirtualAlloc(ptr::null_mut(), LENGTH, 0x3000, 4) };
    if start.is_null() {
        return None;
    }
    // SAFETY: the memory was made above, and is nobody else's.
    let locked = unsafe { VirtualLock(start, LENGTH) } != 0;
    Some((start.cast(), KeyProtection { locked, wiped_on_fork: true, ..NONE }))
}

#[cfg(not(any(unix, windows)))]
fn map() -> Option<(*mut u8, KeyProtection)> {
    None
}
