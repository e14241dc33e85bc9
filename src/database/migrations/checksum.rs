//! What tells whether the text of a migration is still the one that ran.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The text as it counts: without a byte order mark, with line feeds only, and without white space at its end, none of
/// which an editor or a version control system leaves alone.
pub(super) fn normalised(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_end();
    if text.contains('\r') { text.replace("\r\n", "\n").into() } else { text.into() }
}

/// The checksum as the history keeps it.
pub(super) fn of(text: &str) -> String {
    hex(&Sha256::digest(normalised(text).as_bytes()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn line_endings_the_mark_and_the_end_of_the_text_do_not_count() {
        let sum = of("CREATE TABLE t (a);\nSELECT 1");
        for same in ["CREATE TABLE t (a);\r\nSELECT 1\r\n", "\u{feff}CREATE TABLE t (a);\nSELECT 1\n\n  "] {
            assert_eq!(of(same), sum, "{same:?}");
        }
        for other in ["CREATE TABLE t (a);\n\nSELECT 1", " CREATE TABLE t (a);\nSELECT 1", ""] {
            assert_ne!(of(other), sum, "{other:?}");
        }
    }
}
