//! Metrics for the crate `metrics`, a facade: the program says which recorder takes them.

use std::fmt;
use std::sync::Arc;

use metrics::{Counter, Histogram, Key, KeyName, Label, Level, Metadata, SharedString, Unit, with_recorder};

use super::names::{COUNTERS, HISTOGRAMS, Instrument, READINGS};
use super::series::{Attribute, PoolSeries, Pools, Sink};
use crate::observer::{Event, ObservedPool, Observer};

/// Measures calls and connections for the recorder of the crate `metrics` (feature `metrics`), by the names and units of
/// OpenTelemetry's conventions: `db.client.operation.duration`, `db.client.connection.count` and so on. The guide *Observing*
/// lists them. One may observe several databases.
///
/// What happens is recorded as it happens. What *is*, such as the number of open connections, is told by
/// [`collect`](Self::collect): call it before a scrape is answered, or every few seconds.
///
/// ```
/// use strongroom::AsyncDatabase;
/// use strongroom::database::MetricsFacade;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// let metrics = MetricsFacade::new();
/// let db = AsyncDatabase::builder(":memory:").observer(metrics.clone()).open().await?;
/// db.fetch_value::<i64>("SELECT 1", ()).await?; // `db.client.operation.duration`
/// metrics.collect(); // `db.client.connection.count`
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct MetricsFacade {
    pools: Arc<Pools>,
    is_installed: bool,
}

impl MetricsFacade {
    /// One that observes nothing yet. The recorder may be installed before or after.
    pub fn new() -> Self {
        Self::default()
    }

    /// For the recorder that is installed by now and stays: each series is registered with it once. That spares a look-up in the
    /// recorder for each number, which is most of what measuring costs, and counters are told from zero on. Without a recorder,
    /// nothing is recorded ever. With one that forgets series that were idle, take [`new`](Self::new).
    ///
    /// ```
    /// use metrics_exporter_prometheus::PrometheusBuilder;
    /// use strongroom::AsyncDatabase;
    /// use strongroom::database::MetricsFacade;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let prometheus = PrometheusBuilder::new().install_recorder()?;
    /// let db = AsyncDatabase::builder(":memory:").observer(MetricsFacade::installed()).open().await?;
    /// db.fetch_value::<i64>("SELECT 1", ()).await?;
    /// assert!(prometheus.render().contains("db_client_operation_duration"));
    /// # Ok(()) }
    /// ```
    pub fn installed() -> Self {
        Self { is_installed: true, ..Self::default() }
    }

    /// The ends of the ranges of each histogram, by its name, for a recorder that has to be told them; those of the conventions,
    /// and finer ones below a millisecond.
    pub fn bounds() -> impl Iterator<Item = (&'static str, &'static [f64])> {
        HISTOGRAMS.into_iter().map(|histogram| (histogram.name, histogram.bounds))
    }

    /// Tells the recorder of this thread the state of all pools that are observed, and describes all metrics to it. Pools of the same
    /// name, as of two files that are called the same, are told as one. Blocks for a moment: it asks for the sizes of files.
    pub fn collect(&self) {
        describe();
        for (attributes, readings) in self.pools.read() {
            for reading in &READINGS {
                for (state, value) in (reading.values)(&readings) {
                    let state = state.map(|state| ("db.client.connection.state", state.into()));
                    let attributes: Vec<_> = attributes.iter().cloned().chain(state).collect();
                    let key = key(&reading.instrument, &attributes);
                    if reading.is_counter {
                        with_recorder(|recorder| recorder.register_counter(&key, &METADATA).absolute(value));
                    } else {
                        #[allow(clippy::cast_precision_loss, reason = "counts and bytes")]
                        with_recorder(|recorder| recorder.register_gauge(&key, &METADATA).set(value as f64));
                    }
                }
            }
        }
    }
}

impl Observer for MetricsFacade {
    /// Measures of one pool each are told to what [`for_pool`](Observer::for_pool) gives.
    fn observe(&self, _event: &Event<'_>) {}

    fn for_pool(&self, pool: &ObservedPool) -> Option<Box<dyn Observer>> {
        describe();
        Some(if self.is_installed {
            Box::new(PoolSeries::new(InstalledSink, pool, &self.pools))
        } else {
            Box::new(PoolSeries::new(FacadeSink, pool, &self.pools))
        })
    }
}

impl fmt::Debug for MetricsFacade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsFacade").finish_non_exhaustive()
    }
}

static METADATA: Metadata<'static> = Metadata::new("strongroom", Level::INFO, None);

/// Whichever recorder is there when something is measured: it may be installed later than the database is opened.
#[derive(Clone, Copy)]
struct FacadeSink;

impl Sink for FacadeSink {
    type Series = Key;

    fn series(&self, instrument: &'static Instrument, attributes: &[Attribute]) -> Key {
        key(instrument, attributes)
    }

    fn record(&self, series: &Key, value: f64) {
        with_recorder(|recorder| recorder.register_histogram(series, &METADATA).record(value));
    }

    fn increment(&self, series: &Key) {
        with_recorder(|recorder| recorder.register_counter(series, &METADATA).increment(1));
    }
}

/// The recorder that was there when a series was first told.
#[derive(Clone, Copy)]
struct InstalledSink;

enum InstalledSeries {
    Histogram(Histogram),
    Counter(Counter),
}

impl Sink for InstalledSink {
    type Series = InstalledSeries;

    fn series(&self, instrument: &'static Instrument, attributes: &[Attribute]) -> InstalledSeries {
        let key = key(instrument, attributes);
        let is_counter = COUNTERS.iter().any(|counter| counter.name == instrument.name);
        with_recorder(|recorder| {
            if is_counter {
                InstalledSeries::Counter(recorder.register_counter(&key, &METADATA))
            } else {
                InstalledSeries::Histogram(recorder.register_histogram(&key, &METADATA))
            }
        })
    }

    fn record(&self, series: &InstalledSeries, value: f64) {
        if let InstalledSeries::Histogram(histogram) = series {
            histogram.record(value);
        }
    }

    fn increment(&self, series: &InstalledSeries) {
        if let InstalledSeries::Counter(counter) = series {
            counter.increment(1);
        }
    }
}

fn key(instrument: &Instrument, attributes: &[Attribute]) -> Key {
    let labels = attributes.iter().map(|(name, value)| Label::new(*name, value.clone().into_owned()));
    Key::from_parts(instrument.name, labels.collect::<Vec<_>>())
}

fn describe() {
    let described = |instrument: &Instrument| {
        let unit = match instrument.unit {
            "s" => Unit::Seconds,
            "By" => Unit::Bytes,
            _ => Unit::Count,
        };
        (KeyName::from(instrument.name), Some(unit), SharedString::from(instrument.description))
    };
    with_recorder(|recorder| {
        for instrument in HISTOGRAMS {
            let (name, unit, text) = described(instrument);
            recorder.describe_histogram(name, unit, text);
        }
        for instrument in COUNTERS {
            let (name, unit, text) = described(instrument);
            recorder.describe_counter(name, unit, text);
        }
        for reading in &READINGS {
            let (name, unit, text) = described(&reading.instrument);
            if reading.is_counter {
                recorder.describe_counter(name, unit, text);
            } else {
                recorder.describe_gauge(name, unit, text);
            }
        }
    });
}
