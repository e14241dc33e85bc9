//! Text as editors and shells of all systems save it.
//!
//! Floor 0.

use std::str;

/// The UTF-8 byte order mark, which editors put in front of a text and nobody means.
pub(crate) const MARK: &[u8] = b"\xef\xbb\xbf";

/// `bytes` without a byte order mark in front.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(MARK).unwrap_or(bytes)
}

/// The text in `bytes`, without a byte order mark; or what they are instead.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, &'static str> {
    if let Some(name) = wide(bytes) {
        return Err(name);
    }
    str::from_utf8(without_mark(bytes)).map_err(|_| "not UTF-8")
}

/// The name of an encoding of two or four bytes to a character, if `bytes` are that, with or without a mark. Texts here
/// begin with a Latin letter or a sign, so the zeros of the first characters tell.
pub(crate) fn wide(bytes: &[u8]) -> Option<&'static str> {
    let zero: Vec<bool> = bytes.iter().take(4).map(|byte| *byte == 0).collect();
    let wider = matches!(bytes, [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..])
        || matches!(zero[..], [true, true, true, false] | [false, true, true, true]);
    let wide = matches!(bytes, [0xff, 0xfe, _, 0, ..] | [0xfe, 0xff, 0, ..])
        || matches!(zero[..], [true, false, true, false] | [false, true, false, true]);
    if wider { Some("UTF-32") } else { wide.then_some("UTF-16") }
}

/// The same for bytes that need not be text, such as a key: only a mark tells, or that every character, from the first to
/// the last, has its zeros where the first has them.
pub(crate) fn surely_wide(bytes: &[u8]) -> Option<&'static str> {
    let name = wide(bytes)?;
    let is_marked = matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 0, 0xfe, 0xff, ..]);
    let width = if name == "UTF-32" { 4 } else { 2 };
    let like_the_first = |at: usize, byte: &u8| (*byte == 0) == (bytes[at % width] == 0);
    let is_latin =
        bytes.len().is_multiple_of(width) && bytes.iter().enumerate().all(|(at, byte)| like_the_first(at, byte));
    (is_marked || is_latin).then_some(name)
}
