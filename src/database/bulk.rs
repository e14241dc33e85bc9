//! One statement, many sets of parameters.

use std::sync::Arc;

use futures_util::future::join;

use super::observed;
use crate::connector::{BulkInsert as _, Connection};
use crate::error::{Error, Result};
use crate::params::{IntoParams, ParamSets};
use crate::row::Changes;
use crate::turn;

/// How many sets cross to the engine first: few, because it has nothing to do until then.
const FIRST: usize = 1024;

/// How many cross at most: enough that the crossing does not count. Each time four times as many, up to this.
const SETS: usize = 32_768;

/// How many are drawn before the engine's answers are looked after again.
const STEP: usize = 256;

/// How many bytes they may take together, so that memory stays flat however long the iterator is.
const BYTES: usize = 2 << 20;

/// Appends the next sets, [`STEP`] at most, to a chunk; false when there are no more.
pub(super) type SetSource<'a> = Box<dyn FnMut(&mut ParamSets) -> Result<bool> + Send + 'a>;

/// The sets of an iterator. Its type ends here: a future that names it can often not be spawned, because closures over
/// borrowed items are then "not general enough".
pub(super) fn source<'a, I>(sets: I) -> SetSource<'a>
where
    I: IntoIterator<Item: IntoParams, IntoIter: Send + 'a>,
{
    let mut sets = sets.into_iter().fuse();
    Box::new(move |chunk| {
        for _ in 0..STEP {
            if chunk.bytes() >= BYTES {
                break;
            }
            let Some(set) = sets.next() else { return Ok(false) };
            set.append_to(chunk)?;
        }
        Ok(true)
    })
}

/// Runs `sql` for every set, inside a transaction that the caller has begun.
pub(super) async fn run<K: Connection>(connection: &mut K, sql: Arc<str>, sets: SetSource<'_>) -> Result<Changes> {
    let total = insert(connection, sql, sets).await;
    if observed::is_observed() {
        observed::ran(connection, 0, *total.as_ref().unwrap_or(&Changes::default()));
    }
    total
}

async fn insert<K: Connection>(connection: &mut K, sql: Arc<str>, mut sets: SetSource<'_>) -> Result<Changes> {
    let mut size = FIRST;
    let mut draw = async || {
        let mut chunk = ParamSets::new();
        while chunk.len() < size && chunk.bytes() < BYTES {
            if !sets(&mut chunk)? {
                break;
            }
            turn::pass().await;
        }
        size = SETS.min(4 * size);
        Ok::<_, Error>(chunk)
    };
    let mut total = Changes::default();
    let (mut done, mut unanswered) = (0, 0);
    let after = |done, error: Error| if done == 0 { error } else { error.context(format_args!("after {done} sets")) };
    let mut chunk = draw().await?;
    let mut bulk = connection.bulk(sql).await?;
    while !chunk.is_empty() {
        unanswered += chunk.len();
        observed::given(chunk.len());
        // While the engine works on one chunk, the next is drawn.
        let (changes, next) = join(bulk.add(chunk), draw()).await;
        if let Some(changes) = changes.map_err(|error| after(done, error))? {
            total.add(changes);
            done += std::mem::take(&mut unanswered);
        }
        chunk = next?;
    }
    total.add(bulk.end().await.map_err(|error| after(done, error))?);
    Ok(total)
}
