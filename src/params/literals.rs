//! The text of a statement without the values that stand in it, for logs and measurements.

use std::borrow::Cow;

use super::Dialect;
use super::lexer::{Token, Tokens};

/// Words behind which a name in quotes is a name. Elsewhere SQLite may take one in double quotes for a string.
const BEFORE_NAMES: [&str; 17] = [
    "AS",
    "BY",
    "COLUMN",
    "EXISTS",
    "FROM",
    "INDEX",
    "INTO",
    "JOIN",
    "ON",
    "REFERENCES",
    "SAVEPOINT",
    "SET",
    "TABLE",
    "TO",
    "TRIGGER",
    "UPDATE",
    "VIEW",
];

/// `sql` with `?` in the place of every string and number, and of whatever `PRAGMA`, `ATTACH` or `SET` is given. Comments are
/// left out.
pub(crate) fn without_literals(sql: &str, dialect: Dialect) -> Cow<'_, str> {
    let mut text = String::with_capacity(sql.len());
    let mut tokens = Tokens::of(sql, dialect);
    let (mut end, mut before, mut first, mut alters, mut hidden) = (0, Token::Symbol(b';'), true, false, Hidden::No);
    while let Some(token) = tokens.next() {
        let span = tokens.span();
        let apart = span.start > end && !text.is_empty();
        end = span.end;
        let is_end = token == Token::Symbol(b';');
        if hidden == Hidden::Told && !is_end {
            continue;
        }
        let value = match token {
            _ if is_end => false,
            Token::Literal => true,
            Token::Quoted(name) => !is_name(name, before, sql[end..].starts_with('.'), dialect),
            _ => hidden == Hidden::Next,
        };
        if apart {
            text.push(' ');
        }
        text.push_str(if value { "?" } else { &sql[span] });
        hidden = match hidden {
            _ if is_end => Hidden::No,
            Hidden::Next => Hidden::Told,
            Hidden::No if first && token.is_one_of(&["PRAGMA", "SET"]) => Hidden::Coming,
            Hidden::No if alters && token.is("SET") => Hidden::Coming,
            Hidden::No if first && token.is("ATTACH") => Hidden::Next,
            Hidden::Coming if token.is("TO") || matches!(token, Token::Symbol(b'=' | b'(')) => Hidden::Next,
            other => other,
        };
        // `ALTER ROLE app SET app.key TO ..`, as a setting by itself.
        alters = !is_end && (alters || first && token.is("ALTER"));
        let explains = first && token.is_one_of(&["EXPLAIN", "QUERY", "PLAN"]);
        (first, before) = (is_end || explains, token);
    }
    if text == sql { Cow::Borrowed(sql) } else { Cow::Owned(text) }
}

/// How far a statement is told of which the rest may be a key.
#[derive(Clone, Copy, PartialEq)]
enum Hidden {
    No,
    /// What follows an equals sign or a bracket is left out.
    Coming,
    /// The next token is left out.
    Next,
    /// The rest of the statement is left out.
    Told,
}

fn is_name(quoted: &str, before: Token<'_>, qualifies: bool, dialect: Dialect) -> bool {
    dialect == Dialect::Postgres
        || (dialect == Dialect::Sqlite && !quoted.starts_with('"'))
        || qualifies
        || before == Token::Symbol(b'.')
        || before.is_one_of(&BEFORE_NAMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_told_without_the_values_in_it() {
        let cases = [
            ("SELECT * FROM t WHERE id = $1", "SELECT * FROM t WHERE id = $1"),
            ("SELECT 'it''s', 17, 0x1F, 1.5e3, -4 FROM t", "SELECT ?, ?, ?, ?, -? FROM t"),
            ("INSERT INTO t VALUES (x'C0FFEE', :name, ?)", "INSERT INTO t VALUES (x?, :name, ?)"),
            ("SELECT a -- of 'alice'\n FROM t /* 5 */ ", "SELECT a FROM t"),
            ("SELECT 'never ended", "SELECT ?"),
            (r#"UPDATE "t" SET "a" = "alice" WHERE "t"."b" = [c]"#, r#"UPDATE "t" SET "a" = ? WHERE "t"."b" = [c]"#),
            (r#"SELECT a FROM t WHERE b = "alice""#, "SELECT a FROM t WHERE b = ?"),
            ("PRAGMA key = hush; SELECT 1", "PRAGMA key = ?; SELECT ?"),
            ("PRAGMA main.key(\"hush\")", "PRAGMA main.key(?"),
            ("PRAGMA user_version", "PRAGMA user_version"),
            ("ATTACH DATABASE 'f' AS f KEY hush", "ATTACH ?"),
            ("EXPLAIN QUERY PLAN PRAGMA key = hush", "EXPLAIN QUERY PLAN PRAGMA key = ?"),
            ("EXPLAIN ATTACH 'f' AS f KEY hush", "EXPLAIN ATTACH ?"),
            ("attach f as g key \"hush\"; DELETE FROM t", "attach ?; DELETE FROM t"),
            ("", ""),
        ];
        for (sql, told) in cases {
            assert_eq!(without_literals(sql, Dialect::Sqlite), told, "{sql}");
        }
        let cases = [
            ("SELECT $$alice$$, $tag$bob$tag$, E'c\\'d', \"Name\" FROM t", "SELECT ?, ?, ?, \"Name\" FROM t"),
            ("SET app.key TO hush", "SET app.key TO ?"),
            ("ALTER ROLE u IN DATABASE d SET app.key = hush", "ALTER ROLE u IN DATABASE d SET app.key = ?"),
            ("ALTER SYSTEM SET app.key TO hush; SELECT a", "ALTER SYSTEM SET app.key TO ?; SELECT a"),
            (
                "ALTER TABLE t ALTER a SET DEFAULT now(); UPDATE t SET a = b",
                "ALTER TABLE t ALTER a SET DEFAULT now(?; UPDATE t SET a = b",
            ),
            ("ALTER USER u PASSWORD 'hush'", "ALTER USER u PASSWORD ?"),
        ];
        for (sql, told) in cases {
            assert_eq!(without_literals(sql, Dialect::Postgres), told, "{sql}");
        }
    }
}
