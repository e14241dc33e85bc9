//! Which value each of SQLite's parameters takes, found out once for a statement.

use crate::error::{Error, ErrorKind, Reason, Result};
use crate::params::{Placeholders, Style};

/// SQLite keeps the names of parameters in a list and compares each with all before it: 1000 names take 5 ms, 32,766
/// take 5 s. Whether `?` could do instead of more than that, and which value each `?` takes.
pub(super) fn unnamed(placeholders: &Placeholders, sql: &str) -> Option<(String, Vec<usize>)> {
    const MANY: usize = 1000;
    const MOST: usize = 32_766;

    let count = placeholders.count();
    let numbered = matches!(placeholders.style(), Some(Style::Dollar | Style::Numbered));
    let unnamed = (numbered && count > MANY).then(|| placeholders.unnamed(sql))?;
    // Each `?` is a parameter of its own, also where a number was repeated.
    (unnamed.1.len() <= count.max(MOST)).then_some(unnamed)
}

/// Asks SQLite for its own list of parameters. A name that our reading does not account for would be bound silently to
/// the wrong value or to nothing. `order` says which values parameters without a name take, if not one after another.
pub(super) fn slots(
    placeholders: &Placeholders,
    order: Option<&[usize]>,
    statement: &rusqlite::Statement<'_>,
) -> Result<Vec<usize>> {
    let slot = |index: usize| -> Option<usize> {
        let Some(name) = statement.parameter_name(index) else {
            return order.map_or(Some(index - 1), |order| order.get(index - 1).copied());
        };
        let bare = name.get(1..)?;
        if name.starts_with(['$', '?']) {
            return bare.parse().ok().filter(|number: &usize| *number > 0).map(|number| number - 1);
        }
        placeholders.names().position(|known| known == bare)
    };
    let all = 1..=statement.parameter_count();
    all.map(|index| match slot(index) {
        Some(value) if value < placeholders.count() => Ok(value),
        _ => {
            let name = statement.parameter_name(index).unwrap_or("?");
            let error = Error::new(ErrorKind::Query, format!("{name} is not a placeholder this crate knows"));
            Err(error.because(Reason::Parameters).hint("use $1 or :name, and cast(... as type) instead of ::type"))
        }
    })
    .collect()
}
