//! Wiping what zeroizing types cannot reach: the stack that cryptographic code has run on.

use zeroize::Zeroize;

/// Runs `work` and overwrites the stack below this frame afterwards.
///
/// The ciphers wipe their own values, but values that are moved or spilled leave copies on the stack, and the thread
/// (a worker of the blocking pool) lives on. 64 KiB is several times what the deepest call here uses.
pub(super) fn with_clean_stack<T>(work: impl FnOnce() -> T) -> T {
    let result = deeper(work);
    scrub();
    result
}

#[inline(never)]
fn deeper<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
#[allow(clippy::large_stack_arrays, reason = "to cover a large part of the stack is what it is for")]
fn scrub() {
    let mut stack = [u64::MAX; 8 << 10];
    stack.zeroize();
    std::hint::black_box(&stack);
}
