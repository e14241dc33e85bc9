//! What a placeholder stands for, by the tokens around it: a value, or a list.

use super::Dialect;
use super::lexer::Token;

/// What is bound to a placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Value,
    /// A value between the parentheses of `IN (..)`.
    Element,
    /// A list: behind `IN` or `NOT IN`, which begins at `start`, without a parenthesis.
    List {
        start: usize,
        negated: bool,
    },
}

/// What the tokens so far say of the next one.
#[derive(Default)]
pub(super) struct Surroundings {
    before: Before,
    open: Vec<Paren>,
}

#[derive(Clone, Copy, Default)]
enum Before {
    #[default]
    Other,
    Not(usize),
    In {
        start: usize,
        negated: bool,
    },
    /// The name of PostgreSQL's `position(a IN b)`, where `IN` asks for no list.
    Position,
    /// An element of `IN (..)` begins, or the whole of it.
    Element,
}

#[derive(Clone, Copy, PartialEq)]
enum Paren {
    Position,
    Elements,
    Other,
}

impl Surroundings {
    /// The role of a placeholder that comes next.
    pub(super) fn role(&self) -> Role {
        match (self.before, self.open.last()) {
            (Before::In { start, negated }, _) => Role::List { start, negated },
            (_, Some(Paren::Elements)) => Role::Element,
            _ => Role::Value,
        }
    }

    /// Takes note of a token that begins at `start`.
    pub(super) fn follow(&mut self, token: Token<'_>, start: usize, dialect: Dialect) {
        let inner = self.open.last().copied().unwrap_or(Paren::Other);
        let before = std::mem::take(&mut self.before);
        self.before = match (token, before) {
            (Token::Symbol(b'('), before) => {
                self.open.push(match before {
                    Before::In { .. } | Before::Element => Paren::Elements,
                    Before::Position => Paren::Position,
                    _ => Paren::Other,
                });
                if self.open.last() == Some(&Paren::Elements) { Before::Element } else { Before::Other }
            }
            (Token::Symbol(b')'), _) => {
                self.open.pop();
                Before::Other
            }
            (Token::Symbol(b','), _) if inner == Paren::Elements => Before::Element,
            // The elements come from a query.
            (token, Before::Element) if token.is_one_of(&["SELECT", "WITH", "TABLE"]) => {
                self.open.pop();
                self.open.push(Paren::Other);
                Before::Other
            }
            (token, Before::Element) if token.is("VALUES") => Before::Element,
            (token, _) if token.is("NOT") => Before::Not(start),
            (token, _) if token.is("IN") && inner == Paren::Position => Before::Other,
            (token, Before::Not(start)) if token.is("IN") => Before::In { start, negated: true },
            (token, _) if token.is("IN") => Before::In { start, negated: false },
            (token, _) if dialect == Dialect::Postgres && token.is("position") => Before::Position,
            _ => Before::Other,
        };
    }
}
