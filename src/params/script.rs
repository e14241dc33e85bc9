//! A script taken apart.

use std::ops::Range;

use super::Dialect;
use super::lexer::{Token, Tokens};

/// The statements of a script, without the semicolons behind them. As psql has it, one goes on behind a semicolon within
/// parentheses (`CREATE RULE .. DO (a; b)`) and between BEGIN ATOMIC and its END (the body of a function).
pub(crate) fn statements(script: &str, dialect: Dialect) -> impl Iterator<Item = &str> {
    let mut tokens = Tokens::of(script, dialect);
    std::iter::from_fn(move || {
        let mut statement: Option<Range<usize>> = None;
        let (mut nested, mut last) = (Nested::default(), Token::Literal);
        loop {
            let token = tokens.next();
            match (token, &mut statement) {
                (None, Some(found)) => return Some(&script[found.clone()]),
                (Some(Token::Symbol(b';')), Some(found)) if nested.is_over() => return Some(&script[found.clone()]),
                (None, None) => return None,
                (Some(Token::Symbol(b';')), None) => {}
                (Some(_), Some(found)) => found.end = tokens.span().end,
                (Some(_), None) => statement = Some(tokens.span()),
            }
            if let Some(token) = token {
                nested.go_on(last, token);
                last = token;
            }
        }
    })
}

/// What is open within a statement.
#[derive(Default)]
struct Nested {
    parentheses: usize,
    /// BEGIN ATOMIC, and each CASE within, as it has an END too.
    bodies: usize,
}

impl Nested {
    fn is_over(&self) -> bool {
        self.parentheses == 0 && self.bodies == 0
    }

    fn go_on(&mut self, last: Token<'_>, token: Token<'_>) {
        // `t.end` and `AS end` are names.
        let is_name = last == Token::Symbol(b'.') || last.is("AS");
        match token {
            Token::Symbol(b'(') => self.parentheses += 1,
            Token::Symbol(b')') => self.parentheses = self.parentheses.saturating_sub(1),
            token if last.is("BEGIN") && token.is("ATOMIC") => self.bodies += 1,
            _ if self.bodies == 0 || is_name => {}
            token if token.is("CASE") => self.bodies += 1,
            token if token.is("END") => self.bodies -= 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_at_a_semicolon_that_stands_in_nothing_else() {
        let body = "create function f() returns int begin atomic select case when true then 1 end; \
                    select t.end as end from (values (1)) t(\"end\"); end";
        let rule = "create rule r as on insert to t do also (delete from a; delete from b)";
        for (script, parts) in [
            (format!(";{body} ; {rule};; commit"), vec![body, rule, "commit"]),
            (
                "begin; select case 1 when 1 then 2 end; end".into(),
                vec!["begin", "select case 1 when 1 then 2 end", "end"],
            ),
            ("select 1); commit".into(), vec!["select 1)", "commit"]),
            (
                "select atomic; begin /* ; */ atomic select ';' -- ;\n; end; end".into(),
                vec!["select atomic", "begin /* ; */ atomic select ';' -- ;\n; end", "end"],
            ),
            (String::new(), vec![]),
        ] {
            assert_eq!(statements(&script, Dialect::Postgres).collect::<Vec<_>>(), parts, "{script}");
        }
    }
}
