//! Migrations as files: `0001_create_users.sql`.

use std::borrow::Cow;

use super::migration::Migration;
use crate::connector::Connector;
use crate::error::{Error, ErrorKind, Result};

/// What stands in a comment at the top of a file to say how it runs.
const MARK: &str = "strongroom:";

/// Whether a file is no migration of ours: of another kind, or the way back of another tool.
pub(super) fn is_foreign(path: &str) -> bool {
    let name = last(path);
    !has_ending(name, ".sql") || has_ending(name, ".down.sql")
}

/// A migration from a file of this name, with or without folders before it.
pub(super) fn migration<C: Connector>(path: &str, text: Cow<'static, str>) -> Result<Migration<C>> {
    let file = last(path);
    let (version, name) = number_and_name(file).ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("the file name {file} is not that of a migration"))
            .hint("begin it with a number, as in 0001_create_users.sql")
            .about(file.to_owned())
    })?;
    let directives = directives(&text).map_err(|line| {
        Error::new(ErrorKind::Config, format!("{file} says `{line}` at its top, which is taken for nothing"))
            .hint("write `-- strongroom: outside-transaction`, or `-- no-transaction` as the first line")
            .about(file.to_owned())
    })?;
    let mut migration = Migration::sql(version, name, text);
    for directive in directives {
        migration = match &*directive {
            "outside-transaction" => migration.outside_transaction(),
            "without-foreign-keys" => migration.without_foreign_keys(),
            "repeatable" => migration.repeatable(),
            other => {
                let message = format!("{file} asks for {other}, which means nothing");
                return Err(Error::new(ErrorKind::Config, message)
                    .hint("it can ask for outside-transaction, without-foreign-keys and repeatable")
                    .about(file.to_owned()));
            }
        };
    }
    Ok(migration)
}

fn last(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

fn has_ending(name: &str, ending: &str) -> bool {
    name.len()
        .checked_sub(ending.len())
        .and_then(|at| name.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(ending))
}

/// `0001_create_users.sql`, `20260301120000_create_users.up.sql`, `V1__create_users.sql`, `3.sql`.
fn number_and_name(file: &str) -> Option<(i64, String)> {
    let stem =
        if has_ending(file, ".up.sql") { &file[..file.len() - 7] } else { &file[..file.len().checked_sub(4)?] };
    let numbered = stem.strip_prefix(['V', 'U']).filter(|rest| rest.contains("__")).unwrap_or(stem);
    let digits = numbered.len() - numbered.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let (number, rest) = numbered.split_at(digits);
    let name = rest.trim_start_matches(['_', '-', ' ', '.']);
    if !rest.is_empty() && name.len() == rest.len() {
        return None;
    }
    let name = if name.is_empty() { number } else { name };
    Some((number.parse().ok()?, name.replace(['_', '-'], " ")))
}

/// sqlx's, in the first line and with any words behind it.
const SQLX: &str = "-- no-transaction";

const DIRECTIVES: [&str; 3] = ["outside-transaction", "without-foreign-keys", "repeatable"];

/// The words behind [`MARK`] in the comments at the top, and what [`SQLX`] stands for.
///
/// # Errors
/// The line, where one is written in another way: it would be ignored, and the file run as nobody meant it to.
fn directives(text: &str) -> Result<Vec<String>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    for (index, line) in comments_at_the_top(text).into_iter().enumerate() {
        let said = line.trim_start_matches(['-', '/', '*', '!']).trim_end_matches(['/', '*']).trim();
        let behind = line.strip_prefix(SQLX).filter(|_| index == 0 && text.starts_with(SQLX));
        if behind.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_'))) {
            found.push("outside-transaction".to_owned());
        } else if let Some(words) = said.strip_prefix(MARK) {
            found.extend(words.split([',', ' ', '\t']).filter(|word| !word.is_empty()).map(str::to_owned));
        } else if is_meant(&said.to_lowercase().replace('_', "-")) {
            return Err(line.to_owned());
        }
    }
    Ok(found)
}

/// Whether a comment, in lower case, can only be one of ours or sqlx's that is misspelled.
fn is_meant(said: &str) -> bool {
    let mut words =
        said.split(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | '.')).filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default();
    let behind = said.strip_prefix("strongroom").map(str::trim_start);
    match behind {
        Some(rest) if first == "strongroom" || rest.starts_with(':') => words.any(|word| DIRECTIVES.contains(&word)),
        _ => {
            ["no-transaction", "no-transactions", DIRECTIVES[0], DIRECTIVES[1]].contains(&first)
                || said == DIRECTIVES[2]
        }
    }
}

fn comments_at_the_top(text: &str) -> Vec<&str> {
    let mut within = false;
    let lines = text.lines().map(str::trim).take_while(|line| {
        let is_comment = within || line.is_empty() || line.starts_with("--") || line.starts_with("/*");
        within = (within || line.starts_with("/*")) && !line.contains("*/");
        is_comment
    });
    lines.filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::NoConnector;
    use crate::database::migrations::migration::MigrationWay;

    fn parsed(path: &str, text: &'static str) -> Result<Migration<NoConnector>> {
        migration(path, text.into())
    }

    #[test]
    fn numbers_and_names_stand_in_the_name_of_a_file() {
        for (path, version, name) in [
            ("0001_create_users.sql", 1, "create users"),
            ("a/b\\20260301120000_add-index.up.sql", 20_260_301_120_000, "add index"),
            ("V12__orders.SQL", 12, "orders"),
            ("7.sql", 7, "7"),
            ("3-x.sql", 3, "x"),
        ] {
            let migration = parsed(path, "").unwrap();
            assert_eq!((migration.version(), migration.name()), (version, name), "{path}");
        }
        for path in ["users.sql", "1users.sql", "99999999999999999999_x.sql", "-1_x.sql", "V_x.sql", ".sql", "sql", ""]
        {
            let error = parsed(path, "").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{path}");
        }
    }

    #[test]
    fn how_a_file_runs_stands_at_its_top() {
        for (text, way, repeatable) in [
            ("SELECT 1", MigrationWay::Transaction, false),
            ("-- no-transaction\nVACUUM", MigrationWay::Outside, false),
            (
                "-- Tidies up.\r\n\r\n-- strongroom: outside-transaction, repeatable\r\nVACUUM",
                MigrationWay::Outside,
                true,
            ),
            ("--strongroom: without-foreign-keys", MigrationWay::WithoutForeignKeys, false),
            ("-- no-transaction because of the index\nVACUUM", MigrationWay::Outside, false),
            ("-- no-transaction: VACUUM\nVACUUM", MigrationWay::Outside, false),
            ("/* (c)\n\n * all of us */\n-- strongroom: outside-transaction\nVACUUM", MigrationWay::Outside, false),
            (
                "-- No transaction is open here.\n-- Made for strongroom, with repeatable reads.\nSELECT 1",
                MigrationWay::Transaction,
                false,
            ),
            ("-- strongroom keeps outside of this.\nSELECT 1", MigrationWay::Transaction, false),
            ("SELECT 1;\n-- strongroom: outside-transaction", MigrationWay::Transaction, false),
        ] {
            let migration = parsed("1_x.sql", text).unwrap();
            assert_eq!((migration.way, migration.repeatable), (way, repeatable), "{text}");
        }
        for text in [
            "-- strongroom: no-transaction",
            "-- strongroom: outside-transaction because of the index",
            "-- Strongroom: outside-transaction",
            "-- strongroom : outside-transaction",
            "-- strongroom outside-transaction",
            "--no-transaction",
            "-- no_transaction",
            "-- NO-TRANSACTION",
            "-- no-transactions",
            "-- Adds an index.\n-- no-transaction",
            "/* no-transaction */ VACUUM",
            "/* by all of us\n   strongroom, without_foreign_keys */",
            "-- outside-transaction",
            "-- repeatable",
        ] {
            let error = parsed("1_x.sql", text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.to_string().contains("1_x.sql"), "{error}");
        }
    }
}
