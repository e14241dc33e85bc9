//! What the server says in the message of an error, without the values that it quotes.

use std::borrow::Cow;

/// A message without the values in it; `has_position` if it tells a place in the text of the statement.
pub(super) fn without_values<'m>(message: &'m str, state: &str, has_position: bool) -> Cow<'m, str> {
    if quotes_values(state, has_position) { without_quotes(message) } else { Cow::Borrowed(message) }
}

/// Whether what a message quotes may be a value: in class 22 it is; and where a syntax error has no place in the text of a
/// statement, it is one in a value, such as a search (`tsquery`) or a path (`jsonpath`).
fn quotes_values(state: &str, has_position: bool) -> bool {
    state.starts_with("22") || state == "42601" && !has_position
}

/// Cuts out all from the first quotation mark to the last, for the value between may hold such marks itself; to the end
/// where one has no other that closes it. The marks are those of the translations of PostgreSQL 15, and what other
/// languages have.
fn without_quotes(message: &str) -> Cow<'_, str> {
    const MARKS: &[char] = &[
        '"', '\'', '`', '«', '»', '‹', '›', '„', '“', '”', '‟', '‚', '‘', '’', '‛', '「', '」', '『', '』', '《', '》',
        '〈', '〉', '＂',
    ];
    let Some((before, _)) = message.split_once(MARKS) else { return Cow::Borrowed(message) };
    let closed = message.matches(MARKS).count().is_multiple_of(2);
    let after = message.rsplit_once(MARKS).filter(|_| closed).map_or("", |(_, after)| after);
    Cow::Owned(format!("{before}…{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_values_are_cut_out() {
        assert_eq!(
            without_quotes("invalid input syntax for type integer: \"hunter2\""),
            "invalid input syntax for type integer: …"
        );
        assert_eq!(without_quotes("\"a\" and \"b\" and \"c"), "…");
        assert_eq!(without_quotes("division by zero"), "division by zero");
        assert_eq!(without_quotes("value \"9\" is out of range for type int"), "value … is out of range for type int");
        assert_eq!(without_quotes(""), "");
    }

    #[test]
    fn a_value_that_holds_quotes_is_cut_out_in_every_language() {
        let values = [
            "hunter2",
            "{\"password\":\"hunter2\"}",
            "a\"hunter2",
            "it's hunter2",
            "»hunter2",
            "“hunter2”",
            "'hunter2'",
        ];
        let said = [
            "invalid input syntax for type uuid: \"%s\"",
            "value \"%s\" is out of range for type integer",
            "ungültige Eingabesyntax für Typ uuid: »%s«",
            "Wert »%s« ist außerhalb des gültigen Bereichs für Typ integer",
            "el valor «%s» está fuera de rango para el tipo integer",
            "la valeur « %s » est en dehors des limites pour le type integer",
            "syntaxe invalide pour l'énumération : « %s »",
            "valore \"%s\" fuori dall'intervallo consentito per il tipo integer",
            "\"uuid\"型の入力構文が不正です: \"%s\"",
            "値「%s」は型integerの範囲外です",
            "nieprawidłowa składnia: „%s”",
            "ogiltig indatasyntax: ”%s”",
            "无效的类型语法: “%s”",
        ];
        for message in said {
            for value in values {
                let said = message.replace("%s", value);
                let cut = without_quotes(&said);
                assert!(!cut.contains("hunter2") && cut.contains('…'), "{message} with {value}: {cut}");
            }
        }
    }

    #[test]
    fn a_syntax_error_of_a_statement_is_quoted_and_one_of_a_value_is_not() {
        for (state, has_position, expected) in [
            ("22P02", true, true),
            ("22023", false, true),
            ("42601", true, false),
            ("42601", false, true),
            ("42P01", false, false),
        ] {
            assert_eq!(quotes_values(state, has_position), expected, "{state}");
        }
    }
}
