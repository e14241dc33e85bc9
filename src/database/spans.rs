//! The spans of calls, by the names of OpenTelemetry's conventions for databases.
//!
//! The name of a span of `tracing` is fixed, so that of the conventions is in the field `otel.name`, where the bridges look for
//! it.

use tracing::Span;
use tracing::field::{Empty, debug};

use crate::lock::foreign;
use crate::observer::{CallOutcome, ObservedCall, Observers, system};

/// What filters name.
pub(super) const TARGET: &str = "strongroom::call";

/// The span of a call that begins, a child of the caller's.
pub(super) fn of(call: &ObservedCall<'_>) -> Span {
    let text = call.query_text();
    tracing::debug_span!(
        target: TARGET,
        "call",
        otel.name = Empty,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = call.system(),
        db.namespace = call.namespace,
        db.operation.name = Empty,
        db.operation.batch.size = Empty,
        db.collection.name = Empty,
        db.query.summary = Empty,
        db.query.text = text.as_deref(),
        db.response.returned_rows = Empty,
        db.response.affected_rows = Empty,
        db.response.status_code = Empty,
        error.type = Empty,
        strongroom.call = call.kind.name(),
        strongroom.waiting_us = Empty,
        code.file.path = call.location.file(),
        code.line.number = call.location.line(),
    )
}

/// What is known of a call at its end. Its name is given only here, because a subscriber that prints fields adds what is recorded
/// twice.
pub(super) fn end(span: &Span, call: &ObservedCall<'_>, outcome: &CallOutcome<'_>) {
    let batch = if outcome.sets > 1 { "BATCH " } else { "" };
    let name = call.summary.map(|summary| format!("{batch}{summary}"));
    span.record("otel.name", name.as_deref().unwrap_or(call.kind.name()));
    if let Some(summary) = call.summary {
        span.record("db.query.summary", name);
        // The conventions want these two from the engine, and not out of the text.
        if !summary.is_from_text() {
            span.record("db.operation.name", format!("{batch}{}", summary.operation));
            if let Some(table) = &summary.table {
                span.record("db.collection.name", &**table);
            }
        }
    }
    if outcome.sets > 1 {
        span.record("db.operation.batch.size", outcome.sets);
    }
    span.record("db.response.returned_rows", outcome.rows_returned);
    span.record("db.response.affected_rows", outcome.rows_affected);
    span.record("strongroom.waiting_us", u64::try_from(outcome.waiting.as_micros()).unwrap_or(u64::MAX));
    if let Some(error) = outcome.error {
        // The kind alone: the text of an error may name what a user calls things.
        span.record("error.type", debug(error.kind()));
        if let Some(code) = error.code() {
            span.record("db.response.status_code", code);
        }
        span.record("otel.status_code", "ERROR");
    }
}

/// The span of statements that share a transaction. It belongs to no caller, so it is a child of none, and follows from all.
pub(super) fn of_group(observers: &Observers, callers: impl ExactSizeIterator<Item = Option<Span>>) -> Span {
    foreign();
    let span = tracing::debug_span!(
        target: TARGET,
        parent: None,
        "group",
        otel.name = "group",
        otel.kind = "internal",
        db.system.name = system(observers.dialect, observers.engine),
        db.namespace = observers.namespace.as_deref(),
        db.operation.batch.size = callers.len(),
        strongroom.failed = Empty,
    );
    for caller in callers.flatten() {
        span.follows_from(caller.id());
    }
    span
}
