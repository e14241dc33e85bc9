//! A script taken apart.

use std::ops::Range;

use super::Dialect;
use super::lexer::{Token, Tokens};

/// The statements of a script, without the semicolons behind them.
pub(crate) fn statements(script: &str, dialect: Dialect) -> impl Iterator<Item = &str> {
    let mut tokens = Tokens::of(script, dialect);
    std::iter::from_fn(move || {
        let mut statement: Option<Range<usize>> = None;
        loop {
            match (tokens.next(), &mut statement) {
                (None | Some(Token::Symbol(b';')), Some(found)) => return Some(&script[found.clone()]),
                (None, None) => return None,
                (Some(Token::Symbol(b';')), None) => {}
                (Some(_), Some(found)) => found.end = tokens.span().end,
                (Some(_), None) => statement = Some(tokens.span()),
            }
        }
    })
}
