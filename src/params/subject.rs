//! What a statement is about, read from its words, where the engine does not tell.
//!
//! Nothing is guessed: where the words could be about more than one table, or could mean something else, no table is told.

use super::Dialect;
use super::lexer::{Token, Tokens};

const OPERATIONS: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"];

/// Told without a table.
const OTHERS: [&str; 13] = [
    "ALTER", "ANALYZE", "CALL", "COPY", "CREATE", "DROP", "EXPLAIN", "GRANT", "LISTEN", "NOTIFY", "REVOKE", "TRUNCATE",
    "VACUUM",
];

/// The operation of a statement, and its table if there is no doubt about it.
pub(crate) fn subject(sql: &str, dialect: Dialect) -> Option<(&'static str, Option<String>)> {
    let tokens: Vec<_> = Tokens::of(sql, dialect).collect();
    let known = |token: Token<'_>, words: &[&'static str]| words.iter().copied().find(|word| token.is(word));
    let first = *tokens.first()?;
    if let Some(operation) = known(first, &OTHERS) {
        return Some((operation, None));
    }
    if let Some(operation) = known(first, &OPERATIONS) {
        let is_alone = tokens[1..].iter().all(|token| !token.is("SELECT") && *token != Token::Symbol(b';'));
        return Some((operation, if is_alone { table(operation, &tokens) } else { None }));
    }
    // Behind named queries, which may read and write others.
    let is_main = |pair: &[Token<'_>]| pair[0] == Token::Symbol(b')') && pair[1].is_one_of(&OPERATIONS);
    let mut depth = 0_usize;
    let mut main = tokens.windows(2).filter(|pair| {
        depth = depth_after(depth, &pair[0]);
        depth == 0 && is_main(pair)
    });
    let main = main.next().filter(|_| first.is("WITH"))?;
    known(main[1], &OPERATIONS).map(|operation| (operation, None))
}

/// The table of a statement that has no query within.
fn table(operation: &str, tokens: &[Token<'_>]) -> Option<String> {
    let at = match operation {
        "SELECT" => {
            let mut froms = tokens.iter().enumerate().filter(|(_, token)| token.is("FROM"));
            let (at, _) = froms.next()?;
            // `EXTRACT(year FROM x)`, `IS DISTINCT FROM x`.
            let is_clause = froms.next().is_none()
                && tokens[..at].iter().fold(0, depth_after) == 0
                && !tokens[at - 1].is("DISTINCT");
            is_clause.then_some(at + 1)?
        }
        "UPDATE" => 1,
        _ => tokens.get(1).filter(|token| token.is_one_of(&["INTO", "FROM"])).map(|_| 2)?,
    };
    let at = if tokens.get(at)?.is("ONLY") { at + 1 } else { at };
    let (name, rest) = name(&tokens[at..])?;
    let is_one = match operation {
        // Only a word, an alias perhaps, stands between a lone table and the next clause.
        "SELECT" => !rest.first().is_some_and(|token| *token == Token::Symbol(b'(')) && !has_more(rest),
        "INSERT" => true,
        _ => !rest.iter().any(|token| token.is_one_of(&["USING", "FROM"])),
    };
    is_one.then_some(name)
}

/// Whether the list of tables goes on.
fn has_more(rest: &[Token<'_>]) -> bool {
    let mut depth = 0_usize;
    for token in rest {
        depth = depth_after(depth, token);
        match token {
            Token::Symbol(b',') if depth == 0 => return true,
            token if token.is_one_of(&["JOIN", "TABLE"]) => return true,
            token if depth == 0 && token.is_one_of(&["WHERE", "GROUP", "ORDER", "LIMIT", "FOR"]) => break,
            _ => {}
        }
    }
    rest.iter().any(|token| token.is_one_of(&["UNION", "INTERSECT", "EXCEPT", "TABLE", "JOIN"]))
}

/// A name with those that qualify it, as it is written, and what follows.
fn name<'t, 's>(tokens: &'t [Token<'s>]) -> Option<(String, &'t [Token<'s>])> {
    let mut name = String::new();
    let mut rest = tokens;
    loop {
        match rest {
            [Token::Word(word), ..] => name.push_str(word),
            [Token::Quoted(quoted), ..] => name.push_str(quoted.get(1..quoted.len().checked_sub(1)?)?),
            _ => return None,
        }
        rest = &rest[1..];
        if rest.first() != Some(&Token::Symbol(b'.')) {
            return Some((name, rest));
        }
        name.push('.');
        rest = &rest[1..];
    }
}

/// In how many parentheses one is behind a token.
fn depth_after(depth: usize, token: &Token<'_>) -> usize {
    match token {
        Token::Symbol(b'(') => depth + 1,
        Token::Symbol(b')') => depth.saturating_sub(1),
        _ => depth,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_tell_the_table_only_where_there_is_no_doubt() {
        let cases = [
            ("SELECT * FROM users WHERE id = $1", Some(("SELECT", Some("users")))),
            ("select a, b from public.\"Users\" u order by 1", Some(("SELECT", Some("public.Users")))),
            ("SELECT * FROM ONLY users", Some(("SELECT", Some("users")))),
            ("SELECT * FROM users, orders", Some(("SELECT", None))),
            ("SELECT * FROM users u CROSS JOIN orders", Some(("SELECT", None))),
            ("SELECT * FROM users WHERE id IN (SELECT user_id FROM orders)", Some(("SELECT", None))),
            ("SELECT * FROM users UNION TABLE orders", Some(("SELECT", None))),
            ("SELECT * FROM users WHERE (TABLE orders) IS NULL", Some(("SELECT", None))),
            ("SELECT * FROM generate_series(1, 3)", Some(("SELECT", None))),
            ("SELECT extract(year FROM born) FROM users", Some(("SELECT", None))),
            ("SELECT extract(year FROM $1)", Some(("SELECT", None))),
            ("SELECT $1 IS DISTINCT FROM mail", Some(("SELECT", None))),
            ("SELECT 'FROM users'", Some(("SELECT", None))),
            ("SELECT 1 /* FROM users */ -- FROM users", Some(("SELECT", None))),
            ("SELECT $$ FROM users $$", Some(("SELECT", None))),
            ("INSERT INTO users (name) VALUES ($1) RETURNING id", Some(("INSERT", Some("users")))),
            ("INSERT INTO users SELECT * FROM others", Some(("INSERT", None))),
            ("UPDATE users SET name = $1", Some(("UPDATE", Some("users")))),
            ("UPDATE users SET name = o.name FROM others o", Some(("UPDATE", None))),
            ("DELETE FROM a.b.users WHERE id = $1", Some(("DELETE", Some("a.b.users")))),
            ("DELETE FROM users USING others", Some(("DELETE", None))),
            ("MERGE INTO users USING others ON true WHEN MATCHED THEN DELETE", Some(("MERGE", None))),
            ("WITH x AS (SELECT 1) SELECT * FROM x", Some(("SELECT", None))),
            ("WITH x AS (SELECT (1)), y AS (DELETE FROM t RETURNING *) INSERT INTO u TABLE y", Some(("INSERT", None))),
            ("WITH update AS (SELECT 1) SELECT * FROM update", Some(("SELECT", None))),
            ("WITH x AS (SELECT 1)", None),
            ("CREATE TABLE users (id int)", Some(("CREATE", None))),
            ("EXPLAIN SELECT * FROM users", Some(("EXPLAIN", None))),
            ("SET app.key = hush", None),
            ("VALUES (1)", None),
            ("SELECT 1; DELETE FROM users", Some(("SELECT", None))),
            ("SELECT * FROM", Some(("SELECT", None))),
            ("UPDATE", Some(("UPDATE", None))),
            ("DELETE FROM \"", Some(("DELETE", None))),
            ("FROM users", None),
            ("", None),
        ];
        for (sql, told) in cases {
            let found = subject(sql, Dialect::Postgres);
            let found = found.as_ref().map(|(operation, table)| (*operation, table.as_deref()));
            assert_eq!(found, told, "{sql}");
        }
    }
}
