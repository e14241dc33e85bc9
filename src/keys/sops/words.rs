//! A command line in one text.

use std::ffi::OsString;

/// Words of a command line: split at white space, quotes keep words together, a backslash keeps a character. There is
/// no shell, so nothing is expanded.
pub(super) fn words(line: &str) -> Option<Vec<OsString>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(chars.next()?),
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take().map(OsString::from)),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word.map(OsString::from));
    (quote.is_none() && !words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn command_lines_are_split_without_a_shell() {
        let split = |line| words(line).map(|words| words.into_iter().map(|word| word.into_string().unwrap()).collect());
        let list = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(split("pass show 'my key' # comment"), list(&["pass", "show", "my key"]));
        assert_eq!(split(r#"a "b \"c\"" d\ e '' f'g'h"#), list(&["a", "b \"c\"", "d e", "", "fgh"]));
        assert_eq!(split("echo $HOME; ls *"), list(&["echo", "$HOME;", "ls", "*"]));
        for unusable in ["", "  ", "# only a comment", "'open", "end\\"] {
            assert_eq!(words(unusable), None, "{unusable}");
        }
    }
}
