//! The one lexer of SQL: it knows just enough to tell words and placeholders from strings, quoted names and comments.

use std::ops::Range;

use super::{Dialect, Style};

/// A piece of SQL. White space and comments are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'s> {
    /// A keyword or a name.
    Word(&'s str),
    /// A name in quotes, with them.
    Quoted(&'s str),
    /// A placeholder, with its number or name without the sign.
    Placeholder(Style, &'s str),
    /// A string or a number.
    Literal,
    /// Anything else.
    Symbol(u8),
}

impl Token<'_> {
    /// Whether this is the keyword `word`, in any case.
    pub(crate) fn is(self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found.eq_ignore_ascii_case(word))
    }

    /// Whether this is one of these keywords.
    pub(crate) fn is_one_of(self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(word))
    }
}

/// The tokens of a text.
#[derive(Clone)]
pub(crate) struct Tokens<'s> {
    sql: &'s str,
    dialect: Dialect,
    /// Where the token begins that was given last.
    start: usize,
    at: usize,
    /// How many brackets are open, in PostgreSQL.
    brackets: usize,
}

/// A text without the byte order mark that editors put in front of it. SQLite takes the mark for white space; PostgreSQL
/// refuses it.
pub(crate) fn unmarked(sql: &str) -> &str {
    sql.strip_prefix('\u{feff}').unwrap_or(sql)
}

impl<'s> Tokens<'s> {
    pub(crate) fn of(sql: &'s str, dialect: Dialect) -> Self {
        Self { sql, dialect, start: 0, at: sql.len() - unmarked(sql).len(), brackets: 0 }
    }

    /// Where the token stands that was given last.
    pub(crate) fn span(&self) -> Range<usize> {
        self.start..self.at
    }

    fn rest(&self) -> &'s [u8] {
        &self.sql.as_bytes()[self.at..]
    }

    /// The text from the beginning of this token.
    fn text(&self) -> &'s str {
        &self.sql[self.start..self.at]
    }

    /// Moves over the bytes that satisfy `part`.
    fn skip_while(&mut self, part: impl Fn(u8) -> bool) {
        self.at += self.rest().iter().take_while(|byte| part(**byte)).count();
    }

    /// Moves behind the next `end`, or to the end of the text.
    fn skip_past(&mut self, end: &str) {
        self.at = self.sql[self.at..].find(end).map_or(self.sql.len(), |found| self.at + found + end.len());
    }

    /// From the opening quote to behind the closing one; a doubled quote stands for itself.
    fn skip_quoted(&mut self, quote: u8, backslash: bool) {
        self.at += 1;
        while let Some(&byte) = self.rest().first() {
            self.at += 1;
            if byte == b'\\' && backslash {
                self.at = self.sql.len().min(self.at + 1);
            } else if byte == quote {
                if self.rest().first() != Some(&quote) {
                    return;
                }
                self.at += 1;
            }
        }
    }

    /// Comments nest in PostgreSQL.
    fn skip_comment(&mut self) {
        self.at += 2;
        if self.dialect != Dialect::Postgres {
            return self.skip_past("*/");
        }
        let mut depth = 1_usize;
        while depth > 0 {
            match self.rest() {
                [b'/', b'*', ..] => (depth, self.at) = (depth + 1, self.at + 2),
                [b'*', b'/', ..] => (depth, self.at) = (depth - 1, self.at + 2),
                [] => return,
                _ => self.at += 1,
            }
        }
    }

    /// Letters, digits, `_`, `$` and everything that is not ASCII, as both engines have it in names; or `E'string'`.
    fn word(&mut self) -> Token<'s> {
        self.skip_while(|byte| is_word(byte) || byte == b'$');
        let word = self.text();
        let escapes = self.dialect == Dialect::Postgres && matches!(word, "e" | "E");
        if escapes && self.rest().first() == Some(&b'\'') {
            self.skip_quoted(b'\'', true);
            return Token::Literal;
        }
        Token::Word(word)
    }

    fn quoted(&mut self, quote: u8) -> Token<'s> {
        self.skip_quoted(quote, false);
        if quote == b'\'' { Token::Literal } else { Token::Quoted(self.text()) }
    }

    fn placeholder(&mut self, style: Style, is_part: fn(u8) -> bool) -> Token<'s> {
        self.at += 1;
        self.skip_while(is_part);
        Token::Placeholder(style, &self.text()[1..])
    }

    /// `$1`; or a PostgreSQL string between `$tag$` and the same again.
    fn dollar(&mut self) -> Token<'s> {
        if self.rest().get(1).is_some_and(u8::is_ascii_digit) {
            return self.placeholder(Style::Dollar, |byte| byte.is_ascii_digit());
        }
        self.at += 1;
        self.skip_while(is_word);
        if self.dialect != Dialect::Postgres || self.rest().first() != Some(&b'$') {
            return Token::Symbol(b'$');
        }
        self.at += 1;
        self.skip_past(self.text());
        Token::Literal
    }

    fn symbol(&mut self, byte: u8) -> Token<'s> {
        match byte {
            b'[' => self.brackets += 1,
            b']' => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        self.at += 1;
        Token::Symbol(byte)
    }

    /// Whether the `@` here ends one of PostgreSQL's operators, as in `a @@to_tsquery(..)` and `a <@b`. No operator of its own
    /// ends in another one before it, so that `a=@name` has a placeholder.
    fn is_in_operator(&self) -> bool {
        matches!(self.sql.as_bytes()[..self.start].last(), Some(b'@' | b'<'))
    }

    /// Whether the colon here parts the bounds of a slice, as in `a[i:j]`: it stands between brackets, right behind a
    /// bound. One behind the bracket, a comma or white space begins a placeholder: `a[:i]`, `a[:i : :j]`.
    fn is_in_slice(&self) -> bool {
        let before = self.sql.as_bytes()[..self.start].last().copied().unwrap_or_default();
        self.brackets > 0 && (is_word(before) || matches!(before, b'"' | b'\'' | b')' | b']'))
    }
}

impl<'s> Iterator for Tokens<'s> {
    type Item = Token<'s>;

    fn next(&mut self) -> Option<Token<'s>> {
        let (sqlite, postgres) = (self.dialect == Dialect::Sqlite, self.dialect == Dialect::Postgres);
        loop {
            self.start = self.at;
            let rest = self.rest();
            let next = rest.get(1).copied().unwrap_or_default();
            return Some(match *rest.first()? {
                byte if byte.is_ascii_whitespace() => {
                    self.at += 1;
                    continue;
                }
                b'-' if next == b'-' => {
                    self.skip_past("\n");
                    continue;
                }
                b'/' if next == b'*' => {
                    self.skip_comment();
                    continue;
                }
                quote @ (b'\'' | b'"') => self.quoted(quote),
                b'`' if sqlite => self.quoted(b'`'),
                b'[' if sqlite => {
                    self.skip_past("]");
                    Token::Quoted(self.text())
                }
                b'$' => self.dollar(),
                b'?' if next.is_ascii_digit() => self.placeholder(Style::Numbered, |byte| byte.is_ascii_digit()),
                // `?|`, `?&` and a lone `?` are operators of PostgreSQL.
                b'?' if !postgres => self.placeholder(Style::Question, |_| false),
                // `a::int` is a cast, `a[1:2]` and `a[i:j]` are slices, `:=` is an assignment.
                b':' if next == b':' => {
                    self.at += 1;
                    self.symbol(b':')
                }
                b':' if self.is_in_slice() => self.symbol(b':'),
                b'@' if postgres && self.is_in_operator() => self.symbol(b'@'),
                b':' | b'@' if is_word(next) && !next.is_ascii_digit() => self.placeholder(Style::Named, is_word),
                byte if byte.is_ascii_digit() => {
                    self.skip_while(|byte| is_word(byte) || matches!(byte, b'$' | b'.'));
                    Token::Literal
                }
                byte if is_word(byte) => self.word(),
                byte => self.symbol(byte),
            });
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}
