//! What a database has measured of itself.

use super::handle::AsyncDatabase;
use crate::connector::Connector;
use crate::observer::Metrics;

impl<C: Connector> AsyncDatabase<C> {
    /// What calls and connections took so far: how many there were, and for how long each waited and ran. `None` unless the
    /// builder said [`metrics(true)`](crate::DatabaseBuilder::metrics).
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    /// use strongroom::database::CallKind;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let db = AsyncDatabase::builder(":memory:").metrics(true).open().await?;
    /// db.fetch_value::<i64>("SELECT 1", ()).await?;
    /// let metrics = db.metrics().expect("they were asked for");
    /// let fetches = &metrics.calls[&CallKind::Fetch];
    /// assert_eq!((fetches.running.count(), fetches.rows_returned), (1, 1));
    /// println!("99 of 100 ran for at most {:?}", fetches.running.quantile(0.99));
    /// # Ok(()) }
    /// ```
    pub fn metrics(&self) -> Option<Metrics> {
        self.inner.metrics.as_ref().map(|recorder| recorder.snapshot())
    }
}
