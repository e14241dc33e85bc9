//! One statement, many sets of parameters.

use std::sync::Arc;

use futures_util::future::join;

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
    let mut sets = sets.into_iter().fuse();
    let mut draw = || sets.by_ref().take(SETS).map(IntoParams::into_params).collect::<Result<Vec<Params>>>();
    let mut total = Changes::default();
    let mut done = 0;
    let mut chunk = draw()?;
    while !chunk.is_empty() {
        let count = chunk.len();
        // While the engine works on one chunk, the next is drawn.
        let (changes, next) = join(connection.run_many(Arc::clone(&sql), chunk), async { draw() }).await;
        let changes = changes
            .map_err(|error| if done == 0 { error } else { error.context(format_args!("after {done} sets")) })?;
        total.rows_affected += changes.rows_affected;
        total.last_insert_id = changes.last_insert_id.or(total.last_insert_id);
        done += count;
        chunk = next?;
    }
    Ok(total)
}
