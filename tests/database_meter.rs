//! What is measured on a meter of the crate `opentelemetry`.
#![cfg(all(feature = "opentelemetry", feature = "sqlcipher"))]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Home, Kind, eventually};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use strongroom::AsyncDatabase;
use strongroom::database::MeterMetrics;

/// A point of a metric: what it is, its attributes, and its number (of a histogram, how many).
#[derive(Clone, Debug)]
struct Point {
    name: String,
    unit: String,
    form: &'static str,
    attributes: BTreeMap<String, String>,
    number: i64,
    sum: f64,
}

/// Keeps what was exported last.
#[derive(Clone, Default)]
struct Exported(Arc<Mutex<Vec<Point>>>);

impl PushMetricExporter for Exported {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        *self.0.lock().unwrap() = points(metrics);
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

fn points(metrics: &ResourceMetrics) -> Vec<Point> {
    let mut points = Vec::new();
    for metric in metrics.scope_metrics().flat_map(opentelemetry_sdk::metrics::data::ScopeMetrics::metrics) {
        let mut add = |form, attributes: Vec<&KeyValue>, number, sum| {
            let attributes =
                attributes.into_iter().map(|pair| (pair.key.to_string(), pair.value.to_string())).collect();
            let (name, unit) = (metric.name().to_owned(), metric.unit().to_owned());
            points.push(Point { name, unit, form, attributes, number, sum });
        };
        match metric.data() {
            AggregatedMetrics::F64(MetricData::Histogram(histogram)) => histogram.data_points().for_each(|point| {
                add("histogram", point.attributes().collect(), i64::try_from(point.count()).unwrap(), point.sum());
            }),
            AggregatedMetrics::U64(MetricData::Sum(sum)) => sum.data_points().for_each(|point| {
                assert!(sum.is_monotonic());
                add("counter", point.attributes().collect(), i64::try_from(point.value()).unwrap(), 0.0);
            }),
            AggregatedMetrics::I64(MetricData::Sum(sum)) => sum.data_points().for_each(|point| {
                assert!(!sum.is_monotonic());
                add("level", point.attributes().collect(), point.value(), 0.0);
            }),
            other => panic!("{other:?}"),
        }
    }
    points
}

struct Collected {
    provider: SdkMeterProvider,
    exported: Exported,
}

impl Collected {
    fn new() -> Self {
        let exported = Exported::default();
        let reader = PeriodicReader::builder(exported.clone()).with_interval(Duration::from_secs(3600)).build();
        Self { provider: SdkMeterProvider::builder().with_reader(reader).build(), exported }
    }

    fn meter(&self) -> MeterMetrics {
        MeterMetrics::new(&self.provider.meter("test"))
    }

    fn collect(&self) -> Vec<Point> {
        self.exported.0.lock().unwrap().clear();
        self.provider.force_flush().unwrap();
        self.exported.0.lock().unwrap().clone()
    }
}

fn of<'p>(points: &'p [Point], name: &str, attribute: (&str, &str)) -> &'p Point {
    let is = |point: &&Point| {
        point.name == name && point.attributes.get(attribute.0).is_some_and(|value| value == attribute.1)
    };
    let found: Vec<_> = points.iter().filter(is).collect();
    assert_eq!(found.len(), 1, "{name}, {attribute:?}: {found:#?}");
    found[0]
}

const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER UNIQUE)";

#[tokio::test]
async fn a_meter_has_the_instruments_of_the_conventions() {
    let collected = Collected::new();
    let home = Home::new(Kind::PlainFile);
    let db = home.builder().observer(collected.meter()).open().await.unwrap();
    db.execute_script(TABLE).await.unwrap();
    db.execute("INSERT INTO t (n) VALUES ($1)", (1,)).await.unwrap();
    let twice = db.execute("INSERT INTO t (n) VALUES ($1)", (1,)).await.unwrap_err();
    db.fetch_all("SELECT * FROM t", ()).await.unwrap();
    let reader = db.read_connection().await.unwrap();
    let points = collected.collect();
    let told: BTreeSet<_> = points.iter().map(|point| (&*point.name, point.form, &*point.unit)).collect();
    let expected = [
        ("db.client.connection.count", "level", "{connection}"),
        ("db.client.connection.create_time", "histogram", "s"),
        ("db.client.connection.idle.max", "level", "{connection}"),
        ("db.client.connection.idle.min", "level", "{connection}"),
        ("db.client.connection.max", "level", "{connection}"),
        ("db.client.connection.pending_requests", "level", "{request}"),
        ("db.client.connection.timeouts", "counter", "{timeout}"),
        ("db.client.connection.use_time", "histogram", "s"),
        ("db.client.connection.wait_time", "histogram", "s"),
        ("db.client.operation.duration", "histogram", "s"),
        ("db.client.response.returned_rows", "histogram", "{row}"),
        ("strongroom.database.size", "level", "By"),
        ("strongroom.log.checkpoint_failures", "counter", "{checkpoint}"),
        ("strongroom.log.frames", "level", "{page}"),
        ("strongroom.log.size", "level", "By"),
        ("strongroom.operation.wait_time", "histogram", "s"),
        ("strongroom.snapshot.hits", "counter", "{read}"),
        ("strongroom.statement.hits", "counter", "{statement}"),
        ("strongroom.page_cache.hits", "counter", "{page}"),
        ("strongroom.page_cache.misses", "counter", "{page}"),
        ("strongroom.statement.misses", "counter", "{statement}"),
    ];
    assert_eq!(told, BTreeSet::from(expected));

    let fetch = of(&points, "db.client.operation.duration", ("db.query.summary", "SELECT t"));
    assert_eq!((fetch.number, &*fetch.attributes["db.system.name"]), (1, "sqlite"));
    assert!(fetch.sum > 0.0 && fetch.sum < 60.0, "in seconds: {fetch:?}");
    assert_eq!((&*fetch.attributes["db.operation.name"], &*fetch.attributes["db.collection.name"]), ("SELECT", "t"));
    let failed = of(&points, "db.client.operation.duration", ("error.type", "Constraint"));
    assert_eq!(failed.attributes["db.response.status_code"], twice.code().unwrap());
    assert_eq!(of(&points, "db.client.connection.count", ("db.client.connection.state", "used")).number, 1);
    let name = home.path().file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(of(&points, "db.client.connection.max", ("db.client.connection.pool.name", &name)).number, 10);
    drop(reader);
    for _ in 0..40 {
        db.fetch_all("SELECT * FROM t", ()).await.unwrap();
    }
    let (points, stats) = (collected.collect(), db.engine_stats());
    let pages = ["hits", "misses"].map(|which| {
        of(&points, &format!("strongroom.page_cache.{which}"), ("db.namespace", &name)).number.cast_unsigned()
    });
    assert_eq!(pages, [stats.page_cache_hits, stats.page_cache_misses]);
    assert!(pages[0] >= 16, "each read wants a page: {pages:?}");
    assert_eq!(of(&points, "db.client.connection.count", ("db.client.connection.state", "used")).number, 0);
    assert_eq!(
        of(&points, "strongroom.database.size", ("db.namespace", &name)).number,
        i64::try_from(db.sizes().await.unwrap().file_bytes).unwrap()
    );
}

#[tokio::test]
async fn one_meter_takes_several_databases_and_forgets_those_that_are_gone() {
    let collected = Collected::new();
    let metrics = collected.meter();
    let open = |name| AsyncDatabase::builder(":memory:").pool_max(3).pool_name(name).observer(metrics.clone()).open();
    let (one, two, other) = (open("same").await.unwrap(), open("same").await.unwrap(), open("other").await.unwrap());
    drop(metrics);
    let max =
        |name| of(&collected.collect(), "db.client.connection.max", ("db.client.connection.pool.name", name)).number;
    assert_eq!((max("same"), max("other")), (6, 3));
    one.close().await.unwrap();
    assert_eq!(max("same"), 3);
    // The last handle is enough; closing then goes on in the background.
    drop((two, other));
    let levels = || collected.collect().into_iter().filter(|point| point.form != "histogram").count();
    eventually("nothing is read any more", || levels() == 0).await;
}
