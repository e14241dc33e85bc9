//! Calls that took long, in the log.

use std::time::Duration;

use super::{Event, Observer};

/// The observer that tells of calls that took at least so long, waiting and running together.
#[derive(Debug)]
pub(crate) struct SlowCalls(pub(crate) Duration);

impl Observer for SlowCalls {
    fn slow(&self) -> Option<Duration> {
        Some(self.0)
    }

    fn observe(&self, event: &Event<'_>) {
        let Event::CallEnded(call, outcome) = event else { return };
        if outcome.waiting + outcome.running < self.0 {
            return;
        }
        let (text, effort) = (call.query_text(), outcome.effort);
        let plan = effort.and_then(|effort| effort.plan.as_ref()).map(ToString::to_string);
        tracing::warn!(
            target: "strongroom::slow",
            call = call.kind.name(),
            statement = text.as_deref(),
            summary = call.summary.map(tracing::field::display),
            waiting = ?outcome.waiting,
            running = ?outcome.running,
            rows_returned = outcome.rows_returned,
            rows_affected = outcome.rows_affected,
            full_scan_steps = effort.map(|effort| effort.full_scan_steps),
            sorts = effort.map(|effort| effort.sorts),
            automatic_index_rows = effort.map(|effort| effort.automatic_index_rows),
            machine_steps = effort.map(|effort| effort.machine_steps),
            plan,
            error = outcome.error.map(|error| tracing::field::debug(error.kind())),
            location = %call.location,
            "a slow call"
        );
    }
}
