//! What a listener was told of a commit.

use strongroom::database::Change;

pub(crate) fn tables(change: &Change) -> Vec<&str> {
    change.tables.iter().map(|table| &*table.table).collect()
}

pub(crate) fn counts(change: &Change, table: &str) -> (u64, u64, u64) {
    let told = change.table(table).unwrap_or_else(|| panic!("{table} in {change:?}"));
    assert!(told.exact, "{told:?}");
    (told.inserted, told.updated, told.deleted)
}
