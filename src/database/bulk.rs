//! One statement, many sets of parameters.

use std::sync::Arc;

use crate::{Changes, Connection, IntoParams, Params, Result};

/// How many sets cross to the engine at a time: enough that the crossing does not count, few enough that memory stays
/// flat however long the iterator is.
const SETS: usize = 1024;

/// Runs `sql` for every set, inside a transaction that the caller has begun.
pub(super) async fn run<K, I>(connection: &mut K, sql: &str, sets: I) -> Result<Changes>
where
    K: Connection,
    I: IntoIterator<Item: IntoParams>,
{
    let sql: Arc<str> = sql.into();
    let mut sets = sets.into_iter();
    let mut total = Changes::default();
    let mut done = 0;
    loop {
        let chunk: Vec<Params> = sets.by_ref().take(SETS).map(IntoParams::into_params).collect::<Result<_>>()?;
        let count = chunk.len();
        if count > 0 {
            let changes = connection
                .run_many(Arc::clone(&sql), chunk)
                .await
                .map_err(|error| if done == 0 { error } else { error.context(format_args!("after {done} sets")) })?;
            total.rows_affected += changes.rows_affected;
            total.last_insert_id = changes.last_insert_id.or(total.last_insert_id);
            done += count;
        }
        if count < SETS {
            return Ok(total);
        }
    }
}
