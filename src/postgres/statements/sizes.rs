//! How large a database and its tables are, as the server tells.

use crate::connector::{Connection as _, Maintained, Maintenance, Sizes, Statement, TableSize};
use crate::error::Result;
use crate::postgres::changes::shown;
use crate::postgres::connection::PostgresConnection;

const DATABASE: &str = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database()), \
     CAST(pg_catalog.current_setting('block_size') AS bigint)";

/// A partitioned table has nothing itself, its partitions have. Temporary tables of others are none of ours.
const TABLES: &str = "SELECT CAST(n.nspname AS text), CAST(c.relname AS text), \
         pg_catalog.pg_total_relation_size(c.oid), pg_catalog.pg_indexes_size(c.oid) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
         AND NOT pg_catalog.pg_is_other_temp_schema(n.oid) \
     ORDER BY 3 DESC, 1, 2";

impl PostgresConnection {
    pub(crate) async fn tell_sizes(&mut self, task: Maintenance) -> Result<Maintained> {
        match task {
            Maintenance::Sizes => {
                let rows = self.run(Statement::new(DATABASE, ())?).await?;
                let mut sizes = Sizes::default();
                if let Some(row) = rows.first() {
                    (sizes.file_bytes, sizes.page_size) = (row.get(0)?, row.get(1)?);
                    sizes.pages = sizes.file_bytes / sizes.page_size.max(1);
                }
                Ok(Maintained::Sizes(sizes))
            }
            Maintenance::TableSizes => {
                let mut tables = Vec::new();
                for row in &self.run(Statement::new(TABLES, ())?).await? {
                    let name = shown(&row.get::<String>(0)?, &row.get::<String>(1)?).to_string();
                    // A table that was dropped meanwhile has no size.
                    if let (Some(bytes), Some(index_bytes)) = (row.get(2)?, row.get(3)?) {
                        tables.push(TableSize { name, bytes, index_bytes, unused_bytes: 0 });
                    }
                }
                Ok(Maintained::TableSizes(tables))
            }
            task => Err(task.unsupported()),
        }
    }
}
