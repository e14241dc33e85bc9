//! Reading placeholders: texts put together from pieces whose placeholders are known, and SQLite's own word for it.
#![cfg(feature = "sqlite")]

use proptest::prelude::*;
use strongroom::engine::{Dialect, Placeholders, Style};
use strongroom::rusqlite;

/// A piece of SQL, and whether it is a placeholder; `N` stands for its number or name.
const COMMON: &[&str] = &[
    "'text'",
    "'it''s $9 ? :z'",
    "\"name\"",
    "\"a \"\"$9\"\" ?9\"",
    "-- $9 ? :z\n",
    "/* $9 ? :z */",
    "1.5e3",
    "word",
    "a_1",
    "x$9",
    "é",
    "é$9",
    "(",
    ")",
    ",",
    "||",
    "-",
    "/",
    "*",
    "<=",
    "0x1F",
    "'--'",
    "\"/*\"",
    "'*/'",
    "\n",
    "+",
];
const SQLITE: &[&str] = &["[a $9 ?9 :z]", "`a ``$9`` ?`", "[']", "`\"`", "/* /* $9 */", "x'00'", "'\\'", "\"\\\""];
const POSTGRES: &[&str] = &[
    "E'it\\'s $9'",
    "e'\\\\'",
    "'\\'",
    "$$ $9 ' $$",
    "$tag$ $9 $other$ $$ $tag$",
    "/* a /* $9 */ ' */",
    "x::text",
    "a[1:2]",
    "?|",
    "?&",
    " ? ",
    "data @> x",
    "a @@b",
    "a <@b",
    "a <@ b",
    "U&'\\0041'",
    "$é$ $9 $é$",
];

fn pieces(dialect: Dialect) -> Vec<&'static str> {
    let own = if dialect == Dialect::Sqlite { SQLITE } else { POSTGRES };
    [COMMON, own].concat()
}

fn mark(style: Style, number: usize) -> String {
    match style {
        Style::Dollar => format!("${number}"),
        Style::Numbered => format!("?{number}"),
        Style::Question => "?".into(),
        _ if number.is_multiple_of(2) => format!("@n_{number}"),
        _ => format!(":n{number}é"),
    }
}

/// A statement in one dialect: pieces without placeholders, and numbers where placeholders stand between them.
fn statements() -> impl Strategy<Value = (Dialect, Style, String, Vec<usize>)> {
    let dialects = prop_oneof![Just(Dialect::Sqlite), Just(Dialect::Postgres)];
    dialects
        .prop_flat_map(|dialect| {
            let styles = match dialect {
                Dialect::Sqlite => vec![Style::Dollar, Style::Numbered, Style::Question, Style::Named],
                _ => vec![Style::Dollar, Style::Named],
            };
            let piece = prop_oneof![
                3 => proptest::sample::select(pieces(dialect)).prop_map(|text| (Some(text), 0)),
                1 => (1..5_usize).prop_map(|number| (None, number)),
            ];
            (Just(dialect), proptest::sample::select(styles), proptest::collection::vec(piece, 0..12))
        })
        .prop_map(|(dialect, style, pieces)| {
            let (mut sql, mut numbers) = (String::new(), Vec::new());
            for (text, number) in pieces {
                if text.is_none() {
                    numbers.push(number);
                }
                sql.push_str(&text.map_or_else(|| mark(style, number), Into::into));
                sql.push(' ');
            }
            (dialect, style, sql, numbers)
        })
}

/// Which value each placeholder takes, worked out from the list alone.
fn expected(style: Style, numbers: &[usize]) -> Vec<usize> {
    let mut names: Vec<usize> = Vec::new();
    let place = |names: &mut Vec<usize>, number| {
        names.iter().position(|known| *known == number).unwrap_or_else(|| {
            names.push(number);
            names.len() - 1
        })
    };
    let of = |(order, number): (usize, &usize)| match style {
        Style::Dollar | Style::Numbered => number - 1,
        Style::Question => order,
        _ => place(&mut names, *number),
    };
    numbers.iter().enumerate().map(of).collect()
}

/// Where the rewritten statement has placeholders; it names each by its number.
fn rewritten(found: &Placeholders, sql: &str, dialect: Dialect) -> usize {
    let text = found.rewrite(sql);
    Placeholders::scan(&text, dialect).unwrap().count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn placeholders_are_found_in_order_and_nothing_else_is((dialect, style, sql, numbers) in statements()) {
        let expected = expected(style, &numbers);
        let count = expected.iter().map(|index| index + 1).max().unwrap_or(0);
        let gap = (0..count).any(|index| !expected.contains(&index));
        let scanned = Placeholders::scan(&sql, dialect);
        prop_assert_eq!(scanned.is_err(), gap, "{}: {:?}", sql, scanned);
        let Ok(found) = scanned else { return Ok(()) };
        prop_assert_eq!(found.count(), count, "{}", sql);
        prop_assert_eq!(found.style(), (!numbers.is_empty()).then_some(style), "{}", sql);
        prop_assert_eq!(rewritten(&found, &sql, dialect), count);
        let names = if style == Style::Named { count } else { 0 };
        prop_assert_eq!(found.names().len(), names);
    }

    #[test]
    fn two_styles_in_one_statement_are_always_refused(
        (dialect, style, sql, _) in statements(),
        step in 1..3_usize,
    ) {
        let styles = [Style::Dollar, Style::Numbered, Style::Named];
        let place = styles.iter().position(|known| *known == style);
        let other = styles[place.map_or(step, |place| (place + step) % 3)];
        let mixed = format!("{} {sql} {}", mark(style, 1), mark(other, 1));
        prop_assert!(Placeholders::scan(&mixed, dialect).is_err(), "{}", mixed);
    }

    #[test]
    fn no_text_makes_it_panic(sql in "\\PC{0,60}", bytes in "[$?:@a1'\"`\\[\\]/*\\-\n é(]{0,40}") {
        for dialect in [Dialect::Sqlite, Dialect::Postgres, Dialect::Other] {
            for text in [&sql, &bytes] {
                if let Ok(found) = Placeholders::scan(text, dialect) {
                    found.rewrite(text);
                }
            }
        }
    }

    /// The promise of the SQLite engine: whatever SQLite itself takes for a parameter is either what was read here, with
    /// the same number of occurrences and the same names, or the statement is refused.
    #[test]
    fn sqlite_itself_sees_the_same_parameters_or_the_statement_is_refused(
        parts in proptest::collection::vec(proptest::sample::select(vec![
            "$1", "$2", "?1", "?2", "?", ":a", "@a", ":b", "$a", "$1::text", ":a::b", "$1a", "a$1", "$1$2", "$$", "#1",
            ":1", "@1", "$1(x)", "::a", "x", "1", "'$1'", "'", "\"?\"", "\"", "[?1]", "[", "]", "`:a`", "`", "--", "\n",
            "/*", "*/", "/", "*", "-", " ", " ", ",", "||", "+", "(", ")", "é", "$é", ":é", "@é1", "?1a", "1?", "1$1",
            "x'00'", "0x", "1e", ".5", "->", "->>", "\u{b}", "\u{c}", "\t", "\\",
        ]), 0..9),
        glue in proptest::sample::select(vec!["", " ", " || "]),
    ) {
        let sql = format!("SELECT {}", parts.join(glue));
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let Ok(statement) = connection.prepare(&sql) else { return Ok(()) };
        let Ok(found) = Placeholders::scan(&sql, Dialect::Sqlite) else { return Ok(()) };
        let theirs: Vec<Option<&str>> =
            (1..=statement.parameter_count()).map(|index| statement.parameter_name(index)).collect();
        // A name that the engine would refuse: neither `$1`, `?1` nor one of ours.
        let numbered = |name: &str| name[1..].parse::<usize>().is_ok_and(|number| (1..=found.count()).contains(&number));
        let unknown = theirs.iter().flatten().any(|name| match name.as_bytes()[0] {
            b'$' | b'?' => !numbered(name),
            _ => !found.names().any(|known| known == &name[1..]),
        });
        prop_assume!(!unknown);
        let distinct = match found.style() {
            Some(Style::Named) => theirs.iter().flatten().map(|name| &name[1..]).collect::<std::collections::BTreeSet<_>>().len(),
            _ => theirs.len(),
        };
        prop_assert_eq!(distinct, found.count(), "{}: SQLite sees {:?}, we see {:?}", sql, theirs, found);
    }
}
