//! Loans that last too long: who has them is said in the log.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use super::inner::{Inner, spawn};
use crate::Connector;

impl<C: Connector> Inner<C> {
    /// Looks after the loans that are watched until there are none; a task that exists only while there are some.
    pub(super) fn look_after_loans(self: &Arc<Self>, age: Duration) {
        let (home, registry) = (Arc::downgrade(self), Arc::clone(&self.registry));
        spawn(self.runtime.get_or_init(Handle::current), async move {
            while let Some(due) = registry.next_due(age) {
                sleep_until(due).await;
                warn(&home, age);
            }
        });
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
