//! The one table of what is measured: names, units, and where the numbers come from.
//!
//! `db.*` are those of OpenTelemetry's conventions for databases; `strongroom.*` is what these do not have.

use crate::observer::PoolReadings;

/// A number that is measured.
pub(super) struct Instrument {
    pub(super) name: &'static str,
    /// In the notation of UCUM, as the conventions have it.
    pub(super) unit: &'static str,
    pub(super) description: &'static str,
    /// The ends of the ranges of a histogram; of others there are none.
    pub(super) bounds: &'static [f64],
}

/// From a microsecond on; from a millisecond on they are those of the conventions. An engine in the process answers far below that.
const SECONDS: &[f64] =
    &[0.000_001, 0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
const COUNTS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0];

const fn seconds(name: &'static str, description: &'static str) -> Instrument {
    Instrument { name, unit: "s", description, bounds: SECONDS }
}

pub(super) const OPERATION_DURATION: Instrument =
    seconds("db.client.operation.duration", "How long calls took, waiting and running together");
pub(super) const OPERATION_WAIT: Instrument = seconds(
    "strongroom.operation.wait_time",
    "How long calls waited for a connection, or for their turn with the writer",
);
pub(super) const RETURNED_ROWS: Instrument = Instrument {
    name: "db.client.response.returned_rows",
    unit: "{row}",
    description: "How many rows fetches gave",
    bounds: COUNTS,
};
pub(super) const CREATE_TIME: Instrument =
    seconds("db.client.connection.create_time", "How long it took to open a connection");
pub(super) const WAIT_TIME: Instrument =
    seconds("db.client.connection.wait_time", "How long borrowers waited for a connection");
pub(super) const USE_TIME: Instrument = seconds("db.client.connection.use_time", "How long connections were lent");
pub(super) const GROUP_SIZE: Instrument = Instrument {
    name: "strongroom.group.size",
    unit: "{statement}",
    description: "How many statements that had waited for the writer shared a transaction",
    bounds: COUNTS,
};
pub(super) const COPY_TIME: Instrument =
    seconds("strongroom.log.copy_time", "How long it took to copy the log into the file");
pub(super) const KEY_TIME: Instrument = seconds("strongroom.key.answer_time", "How long key sources took to answer");

const fn count(name: &'static str, unit: &'static str, description: &'static str) -> Instrument {
    Instrument { name, unit, description, bounds: &[] }
}

pub(super) const CONNECT_FAILURES: Instrument =
    count("strongroom.connection.failures", "{attempt}", "Attempts to open a connection that failed");
pub(super) const REPEATS: Instrument =
    count("strongroom.transaction.repeats", "{transaction}", "Transactions that were run again after a conflict");

/// Those that are told as something happens.
pub(super) const HISTOGRAMS: [&Instrument; 9] = [
    &OPERATION_DURATION,
    &OPERATION_WAIT,
    &RETURNED_ROWS,
    &CREATE_TIME,
    &WAIT_TIME,
    &USE_TIME,
    &GROUP_SIZE,
    &COPY_TIME,
    &KEY_TIME,
];
pub(super) const COUNTERS: [&Instrument; 2] = [&CONNECT_FAILURES, &REPEATS];

/// What is read, each with the state of the connections that it is about. Empty where nothing is known.
type PolledValues = fn(&PoolReadings) -> Vec<(Option<&'static str>, u64)>;

/// A number that is read when somebody collects.
pub(super) struct PolledInstrument {
    pub(super) instrument: Instrument,
    /// It only grows.
    pub(super) is_counter: bool,
    pub(super) values: PolledValues,
}

const fn level(instrument: Instrument, values: PolledValues) -> PolledInstrument {
    PolledInstrument { instrument, is_counter: false, values }
}

const fn total(instrument: Instrument, values: PolledValues) -> PolledInstrument {
    PolledInstrument { instrument, is_counter: true, values }
}

fn one(value: u32) -> Vec<(Option<&'static str>, u64)> {
    vec![(None, u64::from(value))]
}

fn known(value: Option<u64>) -> Vec<(Option<&'static str>, u64)> {
    value.map(|value| (None, value)).into_iter().collect()
}

pub(super) static READINGS: [PolledInstrument; 15] = [
    level(count("db.client.connection.count", "{connection}", "Open connections, by their state"), |pool| {
        vec![(Some("idle"), u64::from(pool.idle_connections)), (Some("used"), u64::from(pool.active_connections))]
    }),
    level(count("db.client.connection.idle.max", "{connection}", "How many connections may be idle"), |pool| {
        one(pool.max_connections)
    }),
    level(count("db.client.connection.idle.min", "{connection}", "How many connections are kept"), |pool| {
        one(pool.min_connections)
    }),
    level(count("db.client.connection.max", "{connection}", "How many connections there may be"), |pool| {
        one(pool.max_connections)
    }),
    level(count("db.client.connection.pending_requests", "{request}", "Calls that wait for a connection"), |pool| {
        one(pool.waiting)
    }),
    total(count("db.client.connection.timeouts", "{timeout}", "Calls that got no connection in time"), |pool| {
        vec![(None, pool.timeouts)]
    }),
    level(count("strongroom.database.size", "By", "The size of the database's file"), |pool| {
        known(pool.engine.database_bytes)
    }),
    level(count("strongroom.log.size", "By", "The size of the write-ahead log's file"), |pool| {
        known(pool.engine.log_bytes)
    }),
    level(count("strongroom.log.frames", "{page}", "Pages in the log that the file did not have yet"), |pool| {
        known(pool.engine.log_frames)
    }),
    total(count("strongroom.log.checkpoint_failures", "{checkpoint}", "Checkpoints that failed"), |pool| {
        known(pool.engine.failed_checkpoints)
    }),
    total(count("strongroom.snapshot.hits", "{read}", "Reads that found their snapshot current"), |pool| {
        known(pool.engine.snapshot_hits)
    }),
    total(count("strongroom.statement.hits", "{statement}", "Runs of a statement that was prepared already"), |pool| {
        known(pool.engine.statement_hits)
    }),
    total(count("strongroom.statement.misses", "{statement}", "Runs of a statement that was prepared first"), |pool| {
        known(pool.engine.statement_misses)
    }),
    total(count("strongroom.page_cache.hits", "{page}", "Pages that were found in the cache"), |pool| {
        known(pool.engine.page_cache_hits)
    }),
    total(count("strongroom.page_cache.misses", "{page}", "Pages that were read from the files"), |pool| {
        known(pool.engine.page_cache_misses)
    }),
];
