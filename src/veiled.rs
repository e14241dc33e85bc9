//! Names that may turn out to be private keys: a key that stands in place of a path, a variable or a recipient.
//!
//! Floor 0. Errors and `Debug` name what they are about, so whatever is shown goes through here.

use std::borrow::Cow;
use std::fmt;

/// What stands for a key that is not shown.
const HIDDEN: &str = "[REDACTED]";
/// How private keys of age and its plugins begin, in letters of any case. Behind that come names, a `1` and the key (bech32).
const AGE: [&str; 2] = ["AGE-SECRET-KEY-", "AGE-PLUGIN-"];
/// So many letters and digits follow the `1` at least, the checksum: less is the name of a file or program.
const DATA: usize = 6;
/// How the first line of other private keys begins, and the last words and the end of it: PGP's say BLOCK.
const ARMOR: [&str; 2] = ["-----BEGIN ", "PRIVATE KEY"];
const ARMOR_END: &str = "-----";

/// A name that is shown without the private keys in it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Veiled<T>(pub(crate) T);

impl<T: fmt::Debug> fmt::Debug for Veiled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_keys(&if f.alternate() { format!("{:#?}", self.0) } else { format!("{:?}", self.0) }))
    }
}

impl<T: fmt::Display> fmt::Display for Veiled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_keys(&self.0.to_string()))
    }
}

/// Whether there is a private key in `text`.
pub(crate) fn holds_a_key(text: &str) -> bool {
    find(text).is_some()
}

/// The text with a word in place of each private key.
pub(crate) fn without_keys(text: &str) -> Cow<'_, str> {
    if !holds_a_key(text) {
        return Cow::Borrowed(text);
    }
    let (mut shown, mut rest) = (String::new(), text);
    while let Some((start, length)) = find(rest) {
        shown.push_str(&rest[..start]);
        shown.push_str(HIDDEN);
        rest = &rest[start + length..];
    }
    Cow::Owned(shown + rest)
}

/// Where the first private key begins, and how long it is.
fn find(text: &str) -> Option<(usize, usize)> {
    text.match_indices(['a', 'A', '-']).find_map(|(start, _)| {
        let (before, here) = text.split_at(start);
        let length = if here.starts_with('-') { armored(here) } else { of_age(before, here) };
        length.map(|length| (start, length))
    })
}

/// The length of a key of age at the beginning of `text`: to the end of the word, and beyond the ends of lines, also as
/// `Debug` has them, for a key that was wrapped. In small letters, which a path may have, it begins a word.
fn of_age(before: &str, text: &str) -> Option<usize> {
    let begins = |start: &str| text.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start));
    let start = AGE.into_iter().find(|start| begins(start))?;
    let is_within = before.ends_with(|c: char| c.is_ascii_alphanumeric())
        && !["\\n", "\\r", "\\t"].iter().any(|end| before.ends_with(end));
    if is_within && !text.starts_with(start) {
        return None;
    }
    let end =
        text.find(|c: char| !(c.is_ascii_alphanumeric() || c.is_control() || "-\\".contains(c))).unwrap_or(text.len());
    let data = |(at, _)| text[at + 1..end].chars().filter(char::is_ascii_alphanumeric).count();
    text[..end]
        .match_indices('1')
        .find(|(at, _)| *at >= start.len())
        .map(data)
        .filter(|data| *data >= DATA)
        .map(|_| end)
}

/// The length of an armored key at the beginning of `text`: to its last line, or to the end.
fn armored(text: &str) -> Option<usize> {
    let label = text.strip_prefix(ARMOR[0])?;
    let words = label.find(ARMOR[1]).filter(|at| *at < 32)? + ARMOR[1].len();
    let head = ARMOR[0].len() + words + label[words..].find(ARMOR_END).filter(|at| *at < 16)? + ARMOR_END.len();
    let end = |end: usize| {
        let words = head + end + text[head + end..].find(ARMOR[1])? + ARMOR[1].len();
        Some(words + text[words..].find(ARMOR_END)? + ARMOR_END.len())
    };
    Some(text[head..].find("-----END ").and_then(end).unwrap_or(text.len()))
}
