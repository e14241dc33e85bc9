//! What a trigger sends.
//!
//! `<transaction> <number> <oid> <kind> <rows> <keys> <length> <schema><table>`: the number makes each message of a transaction
//! a different one, because PostgreSQL sends equal ones once; the keys are separated by commas, or `-`; the length is that of the
//! schema's name in characters.

use std::sync::Arc;

use crate::feed::{ChangeKind, TableChange};

/// Where all triggers send to.
pub(crate) const CHANNEL: &str = "strongroom_changes";

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The number of the transaction.
    pub(super) transaction: u64,
    /// The table's own number, which outlives its name.
    pub(super) oid: u32,
    pub(super) table: Arc<str>,
    pub(super) what: What,
    rows: u64,
    keys: Option<Vec<i64>>,
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Rows(ChangeKind),
    Truncated,
    /// Its triggers were put in place or taken away.
    Schema,
}

impl Message {
    /// `None` for what is no such message.
    pub(super) fn read(payload: &str) -> Option<Self> {
        let mut parts = payload.splitn(8, ' ');
        let mut next = || parts.next();
        let transaction = next()?.parse().ok()?;
        let _number = next()?;
        let oid = next()?.parse().ok()?;
        let what = match next()? {
            "i" => What::Rows(ChangeKind::Insert),
            "u" => What::Rows(ChangeKind::Update),
            "d" => What::Rows(ChangeKind::Delete),
            "t" => What::Truncated,
            "s" => What::Schema,
            _ => return None,
        };
        let rows = u64::from(next()?.parse::<u32>().ok()?);
        let keys = match next()? {
            "-" => None,
            keys => Some(keys.split(',').map(|key| key.parse().ok()).collect::<Option<Vec<i64>>>()?),
        };
        let (length, names): (usize, _) = (next()?.parse().ok()?, next()?);
        let cut = names.char_indices().map(|(at, _)| at).chain([names.len()]).nth(length)?;
        let (schema, table) = names.split_at(cut);
        Some(Self { transaction, oid, table: shown(schema, table), what, rows, keys })
    }

    /// Adds what it tells to what is known of its table.
    pub(super) fn tell(&self, change: &mut TableChange) {
        match (self.what, &self.keys) {
            (What::Rows(kind), Some(keys)) => keys.iter().for_each(|key| change.row(kind, *key)),
            (What::Rows(kind), None) => {
                // Of a commit, either all rows are told or none.
                change.rows = None;
                change.count(kind, self.rows);
            }
            (What::Truncated | What::Schema, _) => change.exact = false,
        }
    }
}

/// The name by which a table is told.
pub(crate) fn shown(schema: &str, table: &str) -> Arc<str> {
    if schema == "public" { table.into() } else { format!("{schema}.{table}").into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_and_what_is_none_is_not() {
        let read = |payload: &str| Message::read(payload).map(|message| (message.table, message.rows, message.keys));
        assert_eq!(read("77 1 16384 i 2 - 6 publict"), Some(("t".into(), 2, None)));
        assert_eq!(
            read("77 2 16384 u 2 -7,9 5 \u{df} a b\u{e4} c"),
            Some(("\u{df} a b.\u{e4} c".into(), 2, Some(vec![-7, 9])))
        );
        assert_eq!(read("77 2 16384 d 0 - 9 publict"), None, "a length that is beyond the names");
        for other in ["", "hello", "77 1 1 x 1 - 1 ab", "77 1 1 i -1 - 1 ab", "77 1 1 i 1 1,,2 1 ab", "77 1 1 i 1 -"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
