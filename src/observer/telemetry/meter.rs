//! Metrics on a meter of the crate `opentelemetry`.

use std::fmt;
use std::sync::{Arc, Weak};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use super::names::{COUNTERS, HISTOGRAMS, Instrument, PolledInstrument, READINGS};
use super::series::{Attribute, PoolSeries, Pools, Sink};
use crate::observer::{Event, ObservedPool, Observer};

/// Measures calls and connections on a meter of the crate `opentelemetry` (feature `opentelemetry`), by the names and units of
/// OpenTelemetry's conventions: `db.client.operation.duration`, `db.client.connection.count` and so on. The guide *Observing*
/// lists them. One may observe several databases.
///
/// What happens is recorded as it happens. What *is*, such as the number of open connections, is read when the meter's reader
/// collects, until the last clone of this and the last database that it observes are gone.
///
/// ```
/// use opentelemetry::metrics::MeterProvider;
/// use strongroom::AsyncDatabase;
/// use strongroom::database::MeterMetrics;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// # let provider = opentelemetry::global::meter_provider();
/// let metrics = MeterMetrics::new(&provider.meter("app"));
/// let db = AsyncDatabase::builder(":memory:").observer(metrics.clone()).open().await?;
/// db.fetch_value::<i64>("SELECT 1", ()).await?; // `db.client.operation.duration`
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MeterMetrics {
    instruments: Instruments,
    pools: Arc<Pools>,
}

impl MeterMetrics {
    /// Makes the instruments on `meter`. To observe several databases, clone it: instruments of the same name on the same meter are
    /// read once for each time that they were made.
    pub fn new(meter: &Meter) -> Self {
        let pools = Arc::default();
        for reading in &READINGS {
            observe(meter, reading, Arc::downgrade(&pools));
        }
        Self { instruments: Instruments::new(meter), pools }
    }
}

impl Observer for MeterMetrics {
    /// Measures of one pool each are told to what [`for_pool`](Observer::for_pool) gives.
    fn observe(&self, _event: &Event<'_>) {}

    fn for_pool(&self, pool: &ObservedPool) -> Option<Box<dyn Observer>> {
        Some(Box::new(PoolSeries::new(self.instruments.clone(), pool, &self.pools)))
    }
}

impl fmt::Debug for MeterMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeterMetrics").finish_non_exhaustive()
    }
}

/// The instruments that are told as something happens, in the order of their tables.
#[derive(Clone)]
struct Instruments {
    histograms: Arc<[Histogram<f64>]>,
    counters: Arc<[Counter<u64>]>,
}

/// An instrument with its attributes.
struct Measured {
    histogram: Option<Histogram<f64>>,
    counter: Option<Counter<u64>>,
    attributes: Vec<KeyValue>,
}

impl Instruments {
    fn new(meter: &Meter) -> Self {
        let histogram = |instrument: &Instrument| {
            let builder = meter.f64_histogram(instrument.name).with_unit(instrument.unit);
            builder.with_description(instrument.description).with_boundaries(instrument.bounds.to_vec()).build()
        };
        let counter = |instrument: &Instrument| {
            let builder = meter.u64_counter(instrument.name).with_unit(instrument.unit);
            builder.with_description(instrument.description).build()
        };
        Self {
            histograms: HISTOGRAMS.into_iter().map(histogram).collect(),
            counters: COUNTERS.into_iter().map(counter).collect(),
        }
    }
}

impl Sink for Instruments {
    type Series = Measured;

    fn series(&self, instrument: &'static Instrument, attributes: &[Attribute]) -> Measured {
        let at = |table: &[&Instrument]| table.iter().position(|other| other.name == instrument.name);
        let histogram = at(&HISTOGRAMS).and_then(|at| self.histograms.get(at).cloned());
        let counter = at(&COUNTERS).and_then(|at| self.counters.get(at).cloned());
        Measured { histogram, counter, attributes: key_values(attributes).collect() }
    }

    fn record(&self, series: &Measured, value: f64) {
        if let Some(histogram) = &series.histogram {
            histogram.record(value, &series.attributes);
        }
    }

    fn increment(&self, series: &Measured) {
        if let Some(counter) = &series.counter {
            counter.add(1, &series.attributes);
        }
    }
}

fn key_values(attributes: &[Attribute]) -> impl Iterator<Item = KeyValue> {
    attributes.iter().map(|(name, value)| KeyValue::new(*name, value.clone()))
}

/// Has the meter read a number when it is collected.
fn observe(meter: &Meter, reading: &'static PolledInstrument, pools: Weak<Pools>) {
    let Instrument { name, unit, description, .. } = reading.instrument;
    let values = move || {
        let pools = pools.upgrade().map(|pools| pools.read()).unwrap_or_default();
        // What is not told is left out by the meter.
        let there = pools.into_iter().filter(|(_, readings)| readings.max_connections > 0);
        there.flat_map(move |(attributes, readings)| {
            (reading.values)(&readings).into_iter().map(move |(state, value)| {
                let state = state.map(|state| KeyValue::new("db.client.connection.state", state));
                (key_values(&attributes).chain(state).collect::<Vec<_>>(), value)
            })
        })
    };
    if reading.is_counter {
        let builder = meter.u64_observable_counter(name).with_unit(unit).with_description(description);
        builder
            .with_callback(move |told| values().for_each(|(attributes, value)| told.observe(value, &attributes)))
            .build();
    } else {
        let builder = meter.i64_observable_up_down_counter(name).with_unit(unit).with_description(description);
        builder
            .with_callback(move |told| {
                values().for_each(|(attributes, value)| {
                    told.observe(i64::try_from(value).unwrap_or(i64::MAX), &attributes);
                });
            })
            .build();
    }
}
