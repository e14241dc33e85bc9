//! One statement, many sets of parameters.

use std::future::Future;
use std::sync::Arc;

use super::{Connection, Statement};
use crate::error::Result;
use crate::params::ParamSets;
use crate::row::Changes;

/// A bulk insert that has begun: sets are added until it is ended. It has the connection to itself meanwhile.
///
/// A handle that is dropped before its end leaves a transaction that can only be rolled back.
pub trait BulkInsert: Send {
    /// Adds sets. An engine may put its answer off, and says `None` then.
    ///
    /// # Errors
    /// The first error, of these sets or of those whose answer was put off; nothing more can be added.
    fn add(&mut self, sets: ParamSets) -> impl Future<Output = Result<Option<Changes>>> + Send;

    /// Ends it, and answers for the sets whose answer was put off; no changes if there are none.
    ///
    /// # Errors
    /// The first error of these sets.
    fn end(self) -> impl Future<Output = Result<Changes>> + Send;
}

/// A bulk insert that runs its statement for each set, for engines with no better way.
#[derive(Debug)]
pub struct OneByOne<'c, K> {
    connection: &'c mut K,
    sql: Arc<str>,
}

impl<'c, K> OneByOne<'c, K> {
    /// Nothing happens before the first sets.
    pub fn new(connection: &'c mut K, sql: Arc<str>) -> Self {
        Self { connection, sql }
    }
}

impl<K: Connection> BulkInsert for OneByOne<'_, K> {
    async fn add(&mut self, sets: ParamSets) -> Result<Option<Changes>> {
        let mut total = Changes::default();
        for (number, params) in sets.iter().enumerate() {
            let done = self.connection.run(Statement::new(Arc::clone(&self.sql), params)?).await;
            total.add(done.map_err(|error| error.context(format_args!("set {} of parameters", number + 1)))?.changes());
        }
        Ok(Some(total))
    }

    async fn end(self) -> Result<Changes> {
        Ok(Changes::default())
    }
}
