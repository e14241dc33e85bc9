//! The table of Windows' own errors in docs/platforms.md, beside those that are really provoked.

use std::path::Path;

use strongroom::{Error, Reason};

const PAGE: &str = include_str!("../../docs/platforms.md");

/// Fails unless a row of the page says what `error` says, of files in this folder.
pub(crate) fn says(error: &Error, folder: &Path) {
    let text = error.to_string().replace(&format!("{}\\", folder.display()), "");
    let (wrong, way_out) = text.split_once("; ").expect("a way out");
    let reason = match error.reason() {
        Reason::Unspecified => String::new(),
        reason => format!(", `{reason:?}`"),
    };
    let passes = if error.is_transient() { " **may pass**" } else { "" };
    let row = format!("| `{:?}`{reason}{passes} | {wrong} | {way_out} |", error.kind());
    assert!(PAGE.lines().any(|line| line.ends_with(&row)), "docs/platforms.md should have a row that ends with {row}");
}
