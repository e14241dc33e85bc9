//! Which SQLCipher the program is linked with.

use crate::error::{Error, ErrorKind, Result};
use crate::sqlcipher::ffi::library::{WAY_OUT, is_compiled_with};

/// The oldest SQLCipher with which the tests pass that were tried with it. 4.10 leaves databases in memory unencrypted, and
/// cannot open a file with a plain header by a raw key and its salt.
const OLDEST_CIPHER: (u32, u32) = (4, 19);

/// Refuses a SQLCipher that does not encrypt all that is promised. One that was not compiled as it asks for writes temporary
/// tables and sorted rows to files, in plaintext.
pub(super) fn check(version: &str) -> Result<()> {
    let fault = if parts(version) < OLDEST_CIPHER {
        "is too old: 4.19 is the oldest that works"
    } else if !is_compiled_with(c"TEMP_STORE=2") && !is_compiled_with(c"TEMP_STORE=3") {
        "was compiled so that temporary data can reach the disk in plaintext"
    } else {
        return Ok(());
    };
    let message = format!("the SQLCipher library of this program, {version}, {fault}");
    Err(Error::new(ErrorKind::Unsupported, message).hint(WAY_OUT))
}

/// The first two numbers of a version.
fn parts(version: &str) -> (u32, u32) {
    let mut numbers = version.split(|letter: char| !letter.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
