//! Lists as one parameter.

use std::fmt::Write as _;
use std::str::Chars;

use crate::error::{Error, ErrorKind, Reason, Result};
use crate::value::{IntoValue, Value, ValueRef};

/// Values for `IN $1`: as many as there are, none included, without building text.
///
/// `id IN $1` and `id NOT IN $1` (without parentheses) take a list, in every engine and style of placeholders. The
/// statement stays one text, however long the list, so it is prepared once; SQLite reads the list by `json_each`,
/// PostgreSQL as an array.
///
/// ```
/// use strongroom::{AsyncDatabase, list};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// # #[cfg(feature = "sqlite")] {
/// let db = AsyncDatabase::builder(":memory:").open().await?;
/// db.execute_script("CREATE TABLE t (id INTEGER); INSERT INTO t VALUES (1), (2), (3)").await?;
/// let ids: Vec<i64> = db.fetch_all_as("SELECT id FROM t WHERE id IN $1", (list([1, 3, 5]),)).await?;
/// assert_eq!(ids, [1, 3]);
/// # }
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Reason::Type`] for blobs, and floats that are no numbers: no text can hold them.
pub fn list<T: IntoValue>(values: impl IntoIterator<Item = T>) -> Result<Value> {
    let mut text = String::from("[");
    for value in values {
        if text.len() > 1 {
            text.push(',');
        }
        match value.into_value()? {
            Value::Null => text.push_str("null"),
            Value::Bool(value) => text.push_str(if value { "true" } else { "false" }),
            Value::Integer(value) => text.push_str(&value.to_string()),
            Value::Real(value) if value.is_finite() => text.extend([format!("{value:?}")]),
            Value::Text(value) => quote(&mut text, &value),
            other => return Err(unlisted(&other)),
        }
    }
    text.push(']');
    Ok(Value::List(text))
}

/// Lets an error of [`list`](crate::list) surface where the statement runs.
#[diagnostic::do_not_recommend]
impl IntoValue for Result<Value> {
    fn into_value(self) -> Result<Value> {
        self
    }
}

#[cold]
fn unlisted(value: &Value) -> Error {
    let message = format!("a value of type {} cannot stand in a list", value.as_ref().type_name());
    let error = Error::new(ErrorKind::Query, message).because(Reason::Type);
    error.hint("lists hold integers, finite floats, texts, bools and NULL")
}

fn quote(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            // Writing into memory cannot fail.
            '\0'..='\x1f' => drop(write!(text, "\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
}

/// Whether a value can stand behind `IN`.
pub(crate) fn is_list(value: ValueRef<'_>) -> bool {
    match value {
        ValueRef::List(_) => true,
        // Of a field that is written as JSON.
        ValueRef::Text(text) => text.starts_with('[') && text.ends_with(']'),
        _ => false,
    }
}

/// The same list as PostgreSQL writes an array: `{1,NULL,"a"}`. It knows no escape but a backslash before the character itself.
pub(crate) fn to_array(list: &str) -> String {
    let mut array = String::with_capacity(list.len());
    let mut quoted = false;
    let mut rest = list.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                quoted = !quoted;
                array.push(c);
            }
            '\\' => match unescaped(&mut rest) {
                Some(meant @ ('"' | '\\')) => array.extend([c, meant]),
                meant => array.extend(meant),
            },
            '[' if !quoted => array.push('{'),
            ']' if !quoted => array.push('}'),
            c => array.push(c),
        }
    }
    array
}

/// The character for which an escape of JSON stands; `None` if it is none.
fn unescaped(rest: &mut Chars<'_>) -> Option<char> {
    let code = |rest: &mut Chars<'_>| {
        let code = u16::from_str_radix(rest.as_str().get(..4)?, 16).ok()?;
        rest.nth(3)?;
        Some(code)
    };
    Some(match rest.next()? {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'u' => {
            let first = code(rest)?;
            // What no single code stands for is written as two.
            let second = if (0xd800..0xdc00).contains(&first) && rest.as_str().starts_with("\\u") {
                rest.nth(1);
                code(rest)
            } else {
                None
            };
            char::decode_utf16([first].into_iter().chain(second)).next()?.ok()?
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: Result<Value>) -> String {
        let Ok(Value::List(text)) = value else { unreachable!() };
        text
    }

    #[test]
    fn an_array_has_the_elements_of_the_list() {
        let list = text(list(["a", "b]", "\"", "\\", "\n", "é", "NULL", ""]));
        assert_eq!(to_array(&list), "{\"a\",\"b]\",\"\\\"\",\"\\\\\",\"\n\",\"é\",\"NULL\",\"\"}");
        assert_eq!(to_array("[1,null,true]"), "{1,null,true}");
        assert_eq!(to_array("[]"), "{}");
        let escaped = r#"["\n\r\t\b\f\/\u0022\u005c\ud83d\ude00\u00e9"]"#;
        assert_eq!(to_array(escaped), "{\"\n\r\t\u{8}\u{c}/\\\"\\\\\u{1f600}é\"}");
    }

    proptest! {
        #[test]
        fn a_list_is_json(texts in proptest::collection::vec(any::<String>(), 0..8)) {
            let found: Vec<String> = serde_json::from_str(&text(list(&texts))).unwrap();
            prop_assert_eq!(found, texts);
        }

        #[test]
        fn any_text_is_turned_to_its_end(list in "\\[[\\[\\]\"\\\\u0-9a,]{0,20}\\]") {
            to_array(&list);
        }
    }
}
