//! Loans that last too long: who has them is said in the log.

use std::sync::{Arc, Weak};
use std::time::Duration;

use scopeguard::guard;
use tokio::time::Instant;

use crate::clock::sleep_until;
use crate::connector::Connector;
use crate::pool::inner::PoolInner;

impl<C: Connector> PoolInner<C> {
    /// Looks after the loans that are watched until there are none; the chore of this number, which exists only while
    /// there are some.
    pub(in crate::pool) fn look_after_loans(self: &Arc<Self>, generation: u64, age: Duration) {
        let home = Arc::downgrade(self);
        let looking = guard(Arc::clone(&self.registry), move |registry| registry.looks_no_longer(generation));
        self.background(async move {
            while let Some(next) = looking.next_look(generation, age) {
                sleep_until(next).await;
                warn(&home, age);
            }
        });
    }
}

fn warn<C: Connector>(home: &Weak<PoolInner<C>>, age: Duration) {
    let Some(inner) = home.upgrade() else { return };
    for holder in inner.registry.take_overdue(age) {
        let held = Instant::now().saturating_duration_since(holder.since);
        tracing::warn!(
            pool = %inner.name,
            location = %holder.location,
            label = holder.label.as_deref().unwrap_or_default(),
            ?held,
            in_transaction = holder.in_transaction,
            "a connection is held for longer than {age:?}: {holder}"
        );
    }
}
