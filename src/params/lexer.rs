//! A lexer that knows just enough SQL to find placeholders: strings, quoted names, comments and words.

use std::ops::Range;

use super::{Dialect, Style};

/// A placeholder in the text.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) style: Style,
    /// The whole placeholder.
    pub(super) span: Range<usize>,
    /// Its number or name, without the sign.
    pub(super) name: Range<usize>,
    /// Behind `IN` or `NOT IN`, without a parenthesis: where that begins, and whether it is `NOT IN`.
    pub(super) list: Option<(usize, bool)>,
}

/// Goes through a statement and yields its placeholders.
pub(super) struct Lexer<'s> {
    bytes: &'s [u8],
    at: usize,
    dialect: Dialect,
    /// What stands before, comments and spaces aside.
    before: Before,
    /// `position(a IN b)` of PostgreSQL has begun.
    position: bool,
}

/// The words that make a list of the placeholder behind them.
#[derive(Clone, Copy)]
enum Before {
    Other,
    Not(usize),
    In { start: usize, negated: bool },
}

impl<'s> Lexer<'s> {
    pub(super) fn new(sql: &'s str, dialect: Dialect) -> Self {
        Self { bytes: sql.as_bytes(), at: 0, dialect, before: Before::Other, position: false }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    /// Moves behind the next `end`, or to the end of the text.
    fn skip_past(&mut self, end: &[u8]) {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        let found = rest.windows(end.len()).position(|window| window == end);
        self.at += found.map_or(rest.len(), |position| position + end.len());
    }

    /// From behind the opening quote to behind the closing one; a doubled quote stands for itself.
    fn skip_quoted(&mut self, quote: u8, backslash: bool) {
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            if byte == b'\\' && backslash {
                self.at += 1;
            } else if byte == quote {
                if self.peek(0) != Some(quote) {
                    return;
                }
                self.at += 1;
            }
        }
    }

    fn skip_comment(&mut self) {
        self.at += 2;
        if self.dialect != Dialect::Postgres {
            return self.skip_past(b"*/");
        }
        let mut depth = 1_usize;
        while depth > 0 && self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => (depth, self.at) = (depth + 1, self.at + 2),
                (Some(b'*'), Some(b'/')) => (depth, self.at) = (depth - 1, self.at + 2),
                _ => self.at += 1,
            }
        }
    }

    /// Moves over letters, digits, `_`, `$` and everything that is not ASCII, as both engines do in names.
    fn skip_word(&mut self) {
        while self.peek(0).is_some_and(|byte| is_word(byte) || byte == b'$') {
            self.at += 1;
        }
    }

    fn word(&mut self, before: Before) {
        let start = self.at;
        self.skip_word();
        let word = &self.bytes[start..self.at];
        self.position |= self.dialect == Dialect::Postgres && word.eq_ignore_ascii_case(b"position");
        self.before = match before {
            _ if word.eq_ignore_ascii_case(b"not") => Before::Not(start),
            Before::Not(start) if word.eq_ignore_ascii_case(b"in") => Before::In { start, negated: true },
            _ if word.eq_ignore_ascii_case(b"in") => Before::In { start, negated: false },
            _ => Before::Other,
        };
        let is_escape = matches!(&self.bytes[start..self.at], b"e" | b"E");
        if is_escape && self.dialect == Dialect::Postgres && self.peek(0) == Some(b'\'') {
            self.at += 1;
            self.skip_quoted(b'\'', true);
        }
    }

    /// A number and whatever is glued to it: `1e5`, `0x1F`.
    fn placeholder(&mut self, style: Style, is_part: fn(u8) -> bool) -> Token {
        let start = self.at;
        self.at += 1;
        while self.peek(0).is_some_and(is_part) {
            self.at += 1;
        }
        Token { style, span: start..self.at, name: start + 1..self.at, list: None }
    }

    /// `$1`; or a PostgreSQL string between `$tag$` and the same again.
    fn dollar(&mut self) -> Option<Token> {
        let digits = self.peek(1).is_some_and(|byte| byte.is_ascii_digit());
        if digits {
            return Some(self.placeholder(Style::Dollar, |byte| byte.is_ascii_digit()));
        }
        let start = self.at;
        self.at += 1;
        while self.peek(0).is_some_and(is_word) {
            self.at += 1;
        }
        if self.peek(0) == Some(b'$') && self.dialect == Dialect::Postgres {
            self.at += 1;
            let tag = &self.bytes[start..self.at];
            self.skip_past(tag);
        }
        None
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            let before = std::mem::replace(&mut self.before, Before::Other);
            let token = self.step(before)?;
            if let Some(mut token) = token {
                if let Before::In { start, negated } = before
                    && !self.position
                {
                    token.list = Some((start, negated));
                }
                return Some(token);
            }
        }
    }
}

impl Lexer<'_> {
    /// Moves over the next thing, which may be a placeholder; `None` at the end of the text.
    #[allow(clippy::option_option, reason = "the end, nothing yet, or a placeholder")]
    fn step(&mut self, before: Before) -> Option<Option<Token>> {
        let byte = self.peek(0)?;
        let next = self.peek(1);
        match byte {
            _ if byte.is_ascii_whitespace() => {
                self.before = before;
                self.at += 1;
            }
            b'\'' | b'"' => {
                self.at += 1;
                self.skip_quoted(byte, false);
            }
            b'`' if self.dialect == Dialect::Sqlite => {
                self.at += 1;
                self.skip_quoted(byte, false);
            }
            b'[' if self.dialect == Dialect::Sqlite => self.skip_past(b"]"),
            b'-' if next == Some(b'-') => {
                self.before = before;
                self.skip_past(b"\n");
            }
            b'/' if next == Some(b'*') => {
                self.before = before;
                self.skip_comment();
            }
            b'$' => return Some(self.dollar()),
            b'?' if next.is_some_and(|byte| byte.is_ascii_digit()) => {
                return Some(Some(self.placeholder(Style::Numbered, |byte| byte.is_ascii_digit())));
            }
            // `?|`, `?&` and a lone `?` are operators of PostgreSQL.
            b'?' if self.dialect != Dialect::Postgres => {
                return Some(Some(self.placeholder(Style::Question, |_| false)));
            }
            // `a::int` is a cast, `a[1:2]` a slice, `:=` an assignment.
            b':' if next == Some(b':') => self.at += 2,
            b':' | b'@' if next.is_some_and(is_name_start) => {
                return Some(Some(self.placeholder(Style::Named, is_word)));
            }
            b')' => {
                self.position = false;
                self.at += 1;
            }
            _ if is_word(byte) => self.word(before),
            _ => self.at += 1,
        }
        Some(None)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn is_name_start(byte: u8) -> bool {
    is_word(byte) && !byte.is_ascii_digit()
}
