//! The spans of calls, by the names of OpenTelemetry's conventions for databases.
//!
//! The name of a span of `tracing` is fixed, so that of the conventions is in the field `otel.name`, where the bridges look for
//! it.

use tracing::field::{Empty, debug, display};
use tracing::{Level, Span};

use crate::observer::{CallOutcome, ObservedCall};
use crate::params::Dialect;

/// What filters name.
const TARGET: &str = "strongroom::call";

/// Whether somebody takes them.
#[inline]
pub(super) fn are_wanted() -> bool {
    tracing::enabled!(target: TARGET, Level::DEBUG)
}

/// The span of a call that begins, a child of the caller's.
pub(super) fn of(call: &ObservedCall<'_>) -> Span {
    if !are_wanted() {
        return Span::none();
    }
    let text = call.query_text();
    tracing::debug_span!(
        target: TARGET,
        "call",
        otel.name = call.kind.name(),
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = system(call),
        db.operation.name = Empty,
        db.collection.name = Empty,
        db.query.summary = Empty,
        db.query.text = text.as_deref(),
        db.response.returned_rows = Empty,
        db.response.affected_rows = Empty,
        error.type = Empty,
        strongroom.call = call.kind.name(),
        strongroom.waiting_us = Empty,
        code.file.path = call.location.file(),
        code.line.number = call.location.line(),
    )
}

/// What is known of a call at its end.
pub(super) fn end(span: &Span, call: &ObservedCall<'_>, outcome: &CallOutcome<'_>) {
    if span.is_disabled() {
        return;
    }
    if let Some(summary) = call.summary {
        span.record("otel.name", display(summary));
        span.record("db.query.summary", display(summary));
        span.record("db.operation.name", summary.operation);
        if let Some(table) = &summary.table {
            span.record("db.collection.name", &**table);
        }
    }
    span.record("db.response.returned_rows", outcome.rows_returned);
    span.record("db.response.affected_rows", outcome.rows_affected);
    span.record("strongroom.waiting_us", u64::try_from(outcome.waiting.as_micros()).unwrap_or(u64::MAX));
    if let Some(error) = outcome.error {
        // The kind alone: the text of an error may name what a user calls things.
        span.record("error.type", debug(error.kind()));
        span.record("otel.status_code", "ERROR");
    }
}

fn system(call: &ObservedCall<'_>) -> &'static str {
    match call.dialect {
        Dialect::Sqlite => "sqlite",
        Dialect::Postgres => "postgresql",
        Dialect::Other => call.engine,
    }
}
