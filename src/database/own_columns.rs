//! What a table does with the values that an insert gives it.

use super::transaction::Transaction;
use crate::connector::{Connection, Connector};
use crate::error::Result;
use crate::params::Dialect;

/// Columns of the target that do not take every value that they are given.
#[derive(Debug, Default)]
pub(super) struct OwnColumns {
    /// Those that it computes.
    pub(super) computed: Vec<String>,
    /// Whether it numbers rows itself, unless told otherwise.
    pub(super) numbers: bool,
}

impl OwnColumns {
    pub(super) async fn of<C: Connector<Connection: Connection>>(
        transaction: &mut Transaction<C>,
        dialect: Dialect,
        table: &str,
    ) -> Result<Self> {
        let rows = match dialect {
            Dialect::Sqlite => {
                let (schema, table) =
                    table.split_once('.').map_or((None, table), |(schema, table)| (Some(schema), table));
                let sql = "SELECT name, 1 FROM pragma_table_xinfo($1, $2) WHERE hidden IN (2, 3)";
                transaction.fetch_all(sql, (table, schema)).await?
            }
            Dialect::Postgres => {
                let sql = "SELECT CAST(attname AS text), attgenerated <> '' FROM pg_catalog.pg_attribute \
                           WHERE attrelid = to_regclass(CAST($1 AS text)) AND NOT attisdropped \
                           AND (attgenerated <> '' OR attidentity = 'a')";
                transaction.fetch_all(sql, (quoted(table),)).await?
            }
            _ => return Ok(Self::default()),
        };
        let mut own = Self::default();
        for row in &rows {
            if row.get::<bool>(1)? {
                own.computed.push(row.get(0)?);
            } else {
                own.numbers = true;
            }
        }
        Ok(own)
    }
}

/// A name that may have a schema before it.
pub(super) fn quoted(table: &str) -> String {
    table.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(".")
}
