//! Keeps bound values out of errors.
//!
//! SQLite's own messages name tables and columns, but some functions, virtual tables and `RAISE` quote what they were
//! given: "bad JSON path: '..'", "fts5: syntax error near \"..\"". Errors are logged; values must not be.

use rusqlite::ffi;

use crate::value::ValueRef;

/// What stands in place of a part of a value.
const PART: &str = "...";

/// Takes the values out of an error's message: each as a whole, and its parts where something is quoted.
pub(crate) fn withhold(error: rusqlite::Error, values: &mut Vec<(usize, ValueRef<'_>)>) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, Some(message)) if may_quote(code.extended_code) && !values.is_empty() => {
            rusqlite::Error::SqliteFailure(code, Some(without(message, values)))
        }
        other => other,
    }
}

/// The messages of constraints are made of the schema only.
fn may_quote(extended: i32) -> bool {
    !matches!(
        extended,
        ffi::SQLITE_CONSTRAINT_UNIQUE
            | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
            | ffi::SQLITE_CONSTRAINT_ROWID
            | ffi::SQLITE_CONSTRAINT_NOTNULL
            | ffi::SQLITE_CONSTRAINT_CHECK
            | ffi::SQLITE_CONSTRAINT_FOREIGNKEY
            | ffi::SQLITE_CONSTRAINT_DATATYPE
    )
}

fn without(mut message: String, values: &[(usize, ValueRef<'_>)]) -> String {
    let mut texts: Vec<_> = values.iter().filter_map(|(number, value)| Some((*number, text(value)?))).collect();
    // A value may be a part of another one.
    texts.sort_by_key(|(_, text)| std::cmp::Reverse(text.len()));
    for (number, text) in &texts {
        let placeholder = format!("${number}");
        for quoted in [text.clone(), text.replace('\'', "''"), text.replace('"', "\"\"")] {
            message = replace_words(&message, &quoted, &placeholder);
        }
    }
    for part in quoted_parts(&message) {
        if texts.iter().any(|(_, text)| text.contains(&part)) {
            message = replace_words(&message, &part, PART);
        }
    }
    message
}

/// How SQLite would write it.
fn text(value: &ValueRef<'_>) -> Option<String> {
    let text = match value {
        ValueRef::Text(text) | ValueRef::List(text) => (*text).to_owned(),
        ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        _ => return None,
    };
    (!text.trim().is_empty()).then_some(text)
}

/// What stands in quotes or brackets, and behind the last colon.
fn quoted_parts(message: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for (open, close) in [('\'', '\''), ('"', '"'), ('[', ']')] {
        if let (Some(first), Some(last)) = (message.find(open), message.rfind(close))
            && first + 1 < last
        {
            parts.push(message[first + 1..last].to_owned());
            parts.extend(message[first + 1..last].split([open, close]).map(str::to_owned));
        }
    }
    parts.extend(message.rsplit_once(": ").map(|(_, tail)| tail.to_owned()));
    parts.retain(|part| !part.trim().is_empty() && !part.starts_with('$') && part != PART);
    parts
}

/// Replaces `old` where it does not stand in the middle of a word.
fn replace_words(message: &str, old: &str, new: &str) -> String {
    let is_word = |next: Option<char>| next.is_some_and(|next| next.is_alphanumeric() || next == '_');
    let (starts, ends) = (is_word(old.chars().next()), is_word(old.chars().next_back()));
    let mut replaced = String::with_capacity(message.len());
    let mut from = 0;
    while let Some(at) = message[from..].find(old).map(|at| from + at) {
        let end = at + old.len();
        let inside =
            starts && is_word(message[..at].chars().next_back()) || ends && is_word(message[end..].chars().next());
        replaced.push_str(&message[from..at]);
        replaced.push_str(if inside { old } else { new });
        from = end;
    }
    replaced + &message[from..]
}
