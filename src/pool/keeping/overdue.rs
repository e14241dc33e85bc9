//! Loans that last too long: who has them is said in the log.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::sleep_until;
use crate::connector::Connector;
use crate::pool::holders::Registry;
use crate::pool::inner::Inner;

impl<C: Connector> Inner<C> {
    /// Looks after the loans that are watched until there are none; a task that exists only while there are some.
    pub(in crate::pool) fn look_after_loans(self: &Arc<Self>, age: Duration) {
        let (home, looking) = (Arc::downgrade(self), Looking(Arc::clone(&self.registry)));
        self.background(async move {
            while let Some(due) = looking.0.next_due(age) {
                sleep_until(due).await;
                warn(&home, age);
            }
        });
    }
}

/// Ends with the runtime, too; the next loan that is watched then finds nobody who looks.
struct Looking(Arc<Registry>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.nobody_looks();
    }
}

fn warn<C: Connector>(home: &Weak<Inner<C>>, age: Duration) {
    let Some(inner) = home.upgrade() else { return };
    for holder in inner.registry.take_overdue(age) {
        let held = Instant::now().saturating_duration_since(holder.since);
        tracing::warn!(
            pool = %inner.settings.name,
            location = %holder.location,
            label = holder.label.as_deref().unwrap_or_default(),
            ?held,
            in_transaction = holder.in_transaction,
            "a connection is held for longer than {age:?}: {holder}"
        );
    }
}
