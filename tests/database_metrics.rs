//! What is measured for the facade `metrics`: under which names, with which attributes, and how many of them.
#![cfg(all(feature = "metrics", feature = "sqlcipher"))]
#![allow(
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts, which are exact"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Home, Kind, eventually, poll_once, secs};
use futures_util::future::join_all;
use metrics::Unit::{Bytes, Count, Seconds};
use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use strongroom::database::MetricsFacade;
use strongroom::{AsyncDatabase, ErrorKind};

type Labels = BTreeMap<String, String>;

/// A metric as a recorder has it.
#[derive(Debug)]
struct Metric {
    kind: MetricKind,
    name: String,
    unit: Option<metrics::Unit>,
    labels: Labels,
    values: Vec<f64>,
}

/// All that was recorded since the last look.
struct Recorded(Vec<Metric>);

impl Recorded {
    fn take(snapshotter: &Snapshotter) -> Self {
        let metrics = snapshotter.snapshot().into_vec().into_iter().map(|(key, unit, _, value)| {
            let (kind, key) = key.into_parts();
            let label = |label: &metrics::Label| (label.key().to_owned(), label.value().to_owned());
            let values = match value {
                DebugValue::Counter(count) => vec![f64::from(u32::try_from(count).unwrap())],
                DebugValue::Gauge(level) => vec![level.into_inner()],
                DebugValue::Histogram(values) => values.into_iter().map(ordered).collect(),
            };
            Metric { kind, name: key.name().to_owned(), unit, labels: key.labels().map(label).collect(), values }
        });
        Self(metrics.collect())
    }

    fn named(&self, name: &str) -> Vec<&Metric> {
        self.0.iter().filter(|metric| metric.name == name).collect()
    }

    /// The values of the one metric that has these labels, perhaps among others.
    fn values(&self, name: &str, labels: &[(&str, &str)]) -> &[f64] {
        let has =
            |metric: &Metric| labels.iter().all(|(key, value)| metric.labels.get(*key).is_some_and(|is| is == value));
        let found: Vec<_> = self.named(name).into_iter().filter(|metric| has(metric)).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:#?}");
        &found[0].values
    }

    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let values = self.values(name, labels);
        assert_eq!(values.len(), 1, "{name}: {values:?}");
        values[0]
    }
}

fn ordered(value: impl Into<f64>) -> f64 {
    value.into()
}

const DURATION: &str = "db.client.operation.duration";
const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER UNIQUE)";

#[tokio::test]
async fn what_happens_is_measured_by_the_names_and_units_of_the_conventions() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (home, metrics) = (Home::new(Kind::PlainFile), MetricsFacade::new());
    let db = home.builder().observer(metrics.clone()).open().await.unwrap();
    db.execute_script(TABLE).await.unwrap();
    db.execute("INSERT INTO t (n) VALUES ($1)", (1,)).await.unwrap();
    db.fetch_all("SELECT * FROM t", ()).await.unwrap();
    metrics.collect();
    let recorded = Recorded::take(&recorder.snapshotter());
    let told: BTreeSet<_> = recorded
        .0
        .iter()
        .map(|metric| (&*metric.name, format!("{:?}", metric.kind), format!("{:?}", metric.unit.unwrap())))
        .collect();
    let expected = [
        ("db.client.connection.count", "Gauge", Count),
        ("db.client.connection.create_time", "Histogram", Seconds),
        ("db.client.connection.idle.max", "Gauge", Count),
        ("db.client.connection.idle.min", "Gauge", Count),
        ("db.client.connection.max", "Gauge", Count),
        ("db.client.connection.pending_requests", "Gauge", Count),
        ("db.client.connection.timeouts", "Counter", Count),
        ("db.client.connection.use_time", "Histogram", Seconds),
        ("db.client.connection.wait_time", "Histogram", Seconds),
        (DURATION, "Histogram", Seconds),
        ("db.client.response.returned_rows", "Histogram", Count),
        ("strongroom.database.size", "Gauge", Bytes),
        ("strongroom.log.checkpoint_failures", "Counter", Count),
        ("strongroom.log.frames", "Gauge", Count),
        ("strongroom.log.size", "Gauge", Bytes),
        ("strongroom.operation.wait_time", "Histogram", Seconds),
        ("strongroom.snapshot.hits", "Counter", Count),
        ("strongroom.statement.hits", "Counter", Count),
        ("strongroom.page_cache.hits", "Counter", Count),
        ("strongroom.page_cache.misses", "Counter", Count),
        ("strongroom.statement.misses", "Counter", Count),
    ];
    let expected = expected.map(|(name, kind, unit)| (name, kind.to_owned(), format!("{unit:?}")));
    assert_eq!(told, BTreeSet::from(expected));

    let name = home.path().file_name().unwrap().to_str().unwrap().to_owned();
    let insert =
        &recorded.named(DURATION).into_iter().find(|metric| metric.labels["strongroom.call"] == "execute").unwrap();
    let labels: Vec<_> = insert.labels.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(
        labels,
        [
            ("db.collection.name", "t"),
            ("db.namespace", &*name),
            ("db.operation.name", "INSERT"),
            ("db.query.summary", "INSERT t"),
            ("db.system.name", "sqlite"),
            ("strongroom.call", "execute"),
        ]
    );
    assert!(insert.values.len() == 1 && insert.values[0] > 0.0 && insert.values[0] < 60.0, "{insert:?}");
    assert_eq!(recorded.value("db.client.response.returned_rows", &[("db.query.summary", "SELECT t")]), 1.0);
    for metric in recorded.0.iter().filter(|metric| metric.name.starts_with("db.client.connection.")) {
        assert_eq!(metric.labels["db.client.connection.pool.name"], name, "{metric:?}");
    }
}

#[tokio::test]
async fn a_failure_has_its_kind_and_the_code_of_the_engine() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let db = AsyncDatabase::builder(":memory:").observer(MetricsFacade::new()).open().await.unwrap();
    db.execute_script(TABLE).await.unwrap();
    db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
    let twice = db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap_err();
    db.fetch_all("SELEC 1", ()).await.unwrap_err();
    let recorded = Recorded::take(&recorder.snapshotter());
    let of = |kind: ErrorKind| {
        recorded
            .named(DURATION)
            .into_iter()
            .filter(|metric| metric.labels.get("error.type") == Some(&format!("{kind:?}")))
            .collect::<Vec<_>>()
    };
    let [unique] = of(ErrorKind::Constraint)[..] else { panic!("{:#?}", recorded.0) };
    assert_eq!((unique.labels["db.response.status_code"].as_str(), unique.values.len()), (twice.code().unwrap(), 1));
    let [query] = of(ErrorKind::Query)[..] else { panic!("{:#?}", recorded.0) };
    assert_eq!(query.labels["strongroom.call"], "fetch");
    // What failed gave no rows: it is not told as if it had found none.
    assert!(recorded.named("db.client.response.returned_rows").is_empty());
}

#[tokio::test]
async fn no_label_has_anything_of_a_text_or_a_value_in_it() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let metrics = MetricsFacade::new();
    let db = AsyncDatabase::builder(":memory:").observer(metrics.clone()).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES ('hunter2')").await.unwrap();
    db.execute("INSERT INTO t VALUES ('hunter2')", ()).await.unwrap();
    db.fetch_all("SELECT a AS hunter2 FROM t WHERE a = $1 /* hunter2 */", ("hunter2",)).await.unwrap();
    db.execute("INSERT INTO hunter2 VALUES (1)", ()).await.unwrap_err();
    db.fetch_all("PRAGMA user_version", ()).await.unwrap();
    db.execute_many("INSERT INTO t VALUES ($1)", [("hunter2",), ("hunter2",)]).await.unwrap();
    db.transaction(async |tx| tx.execute("DELETE FROM t WHERE a = 'hunter2'", ()).await).await.unwrap();
    metrics.collect();
    let recorded = Recorded::take(&recorder.snapshotter());
    let all = format!("{:?}", recorded.0);
    assert!(!all.contains("hunter2"), "{all}");
    assert!(all.contains("BATCH INSERT t"), "{all}");
}

#[tokio::test]
async fn tables_without_end_are_no_series_without_end() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let db = AsyncDatabase::builder(":memory:").observer(MetricsFacade::new()).open().await.unwrap();
    let tables = 0..1100;
    let script: Vec<_> = tables.clone().map(|n| format!("CREATE TABLE t{n} (a)")).collect();
    db.execute_script(&script.join(";")).await.unwrap();
    for n in tables.clone() {
        db.fetch_all(&format!("SELECT a FROM t{n}"), ()).await.unwrap();
    }
    // Those that are known stay known.
    db.fetch_all("SELECT a FROM t3", ()).await.unwrap();
    let recorded = Recorded::take(&recorder.snapshotter());
    let series = recorded.named(DURATION);
    assert!(series.len() > 900 && series.len() <= 1010, "{}", series.len());
    assert_eq!(
        series.iter().map(|metric| metric.values.len()).sum::<usize>(),
        tables.len() + 2,
        "each call is counted"
    );
    assert!(
        recorded.values(DURATION, &[("db.collection.name", "_OTHER"), ("db.query.summary", "SELECT _OTHER")]).len()
            > 90
    );
    assert_eq!(recorded.values(DURATION, &[("db.collection.name", "t3")]).len(), 2);
}

#[tokio::test]
async fn the_state_of_the_pool_is_that_of_the_moment_when_it_is_collected() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (home, metrics) = (Home::new(Kind::PlainFile), MetricsFacade::new());
    let db = home.builder().pool_max(5).pool_name("orders").observer(metrics.clone()).open().await.unwrap();
    let pool = [("db.client.connection.pool.name", "orders")];
    let state = |state| [pool[0], ("db.client.connection.state", state)];
    let reader = db.read_connection().await.unwrap();
    let writer = db.connection().await.unwrap();
    let mut waiting = Box::pin(db.connection());
    assert!(poll_once(waiting.as_mut()).is_pending());
    metrics.collect();
    let recorded = Recorded::take(&recorder.snapshotter());
    assert_eq!(recorded.value("db.client.connection.count", &state("used")), 2.0);
    assert_eq!(recorded.value("db.client.connection.count", &state("idle")), 0.0);
    assert_eq!(recorded.value("db.client.connection.pending_requests", &pool), 1.0);
    assert_eq!(recorded.value("db.client.connection.max", &pool), 5.0);
    assert_eq!(recorded.value("db.client.connection.idle.max", &pool), 5.0);
    assert_eq!(recorded.value("db.client.connection.idle.min", &pool), 1.0);
    drop((waiting, writer, reader));
    let (used, idle) = common_state(&metrics, &recorder.snapshotter(), &pool);
    assert_eq!((used, idle), (0.0, 2.0));

    db.close().await.unwrap();
    assert_eq!(common_state(&metrics, &recorder.snapshotter(), &pool), (0.0, 0.0));
    drop(db);
    assert_eq!(common_state(&metrics, &recorder.snapshotter(), &pool), (0.0, 0.0));
}

fn common_state(metrics: &MetricsFacade, snapshotter: &Snapshotter, pool: &[(&str, &str)]) -> (f64, f64) {
    metrics.collect();
    let recorded = Recorded::take(snapshotter);
    let of = |state| recorded.value("db.client.connection.count", &[pool[0], ("db.client.connection.state", state)]);
    (of("used"), of("idle"))
}

#[tokio::test(start_paused = true)]
async fn calls_that_got_no_connection_are_counted_with_the_time_they_waited() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let metrics = MetricsFacade::new();
    let db = AsyncDatabase::builder(":memory:").pool_timeout(secs(5)).observer(metrics.clone()).open().await.unwrap();
    db.execute_script(TABLE).await.unwrap();
    let held = db.connection().await.unwrap();
    let other = db.clone();
    let late = tokio::spawn(async move { other.execute("INSERT INTO t (n) VALUES (1)", ()).await });
    tokio::task::yield_now().await;
    tokio::time::advance(secs(6)).await;
    assert_eq!(late.await.unwrap().unwrap_err().kind(), ErrorKind::PoolExhausted);
    drop(held);
    metrics.collect();
    let recorded = Recorded::take(&recorder.snapshotter());
    assert_eq!(recorded.value("db.client.connection.timeouts", &[]), 1.0);
    let failed = [("error.type", "PoolExhausted")];
    assert!(recorded.value("strongroom.operation.wait_time", &failed) >= 5.0);
    assert!(recorded.value(DURATION, &failed) >= 5.0);
}

#[tokio::test]
async fn what_only_an_embedded_engine_has_is_measured_too() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (home, metrics) = (Home::new(Kind::PlainFile), MetricsFacade::new());
    let db = home.builder().observer(metrics.clone()).open().await.unwrap();
    db.execute_script(TABLE).await.unwrap();
    // One runs, the others wait, and share a transaction.
    let held = db.connection().await.unwrap();
    let mut writes: Vec<_> = (0..7).map(|n| Box::pin(db.execute("INSERT INTO t (n) VALUES ($1)", (n,)))).collect();
    for write in &mut writes {
        assert!(poll_once(write.as_mut()).is_pending());
    }
    drop(held);
    for write in join_all(writes).await {
        write.unwrap();
    }
    // The pages of the cache are asked for after every sixteenth statement.
    for _ in 0..40 {
        db.fetch_all("SELECT n FROM t", ()).await.unwrap();
    }
    metrics.collect();
    let (stats, recorded) = (db.engine_stats(), Recorded::take(&recorder.snapshotter()));
    let sizes = db.sizes().await.unwrap();
    assert_eq!(recorded.values("strongroom.group.size", &[]).iter().sum::<f64>(), 7.0);
    assert_eq!(recorded.value("strongroom.database.size", &[]) as u64, sizes.file_bytes);
    assert_eq!(recorded.value("strongroom.log.size", &[]) as u64, sizes.log_bytes);
    assert!(recorded.value("strongroom.log.frames", &[]) >= 1.0);
    assert_eq!(recorded.value("strongroom.log.checkpoint_failures", &[]), 0.0);
    assert_eq!(recorded.value("strongroom.snapshot.hits", &[]) as u64, stats.snapshot_hits);
    assert!(recorded.value("strongroom.statement.hits", &[]) >= 3.0);
    assert!(recorded.value("strongroom.statement.misses", &[]) >= 2.0);
    let pages = ["strongroom.page_cache.hits", "strongroom.page_cache.misses"];
    let pages = pages.map(|name| recorded.value(name, &[]) as u64);
    assert_eq!(pages, [stats.page_cache_hits, stats.page_cache_misses]);
    assert!(pages[0] >= 16, "each read wants a page: {pages:?}");

    db.checkpoint().await.unwrap();
    metrics.collect();
    let recorded = Recorded::take(&recorder.snapshotter());
    assert_eq!(recorded.value("strongroom.log.frames", &[]), 0.0);
}

#[tokio::test]
async fn several_databases_are_told_apart_by_name_and_added_up_where_it_is_the_same() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let metrics = MetricsFacade::new();
    let open = |name| AsyncDatabase::builder(":memory:").pool_max(3).pool_name(name).observer(metrics.clone()).open();
    let (one, two, other) = (open("same").await.unwrap(), open("same").await.unwrap(), open("other").await.unwrap());
    for db in [&one, &two, &other] {
        db.fetch_all("SELECT 1", ()).await.unwrap();
    }
    metrics.collect();
    let recorded = Recorded::take(&recorder.snapshotter());
    let max = |recorded: &Recorded, name| {
        recorded.value("db.client.connection.max", &[("db.client.connection.pool.name", name)])
    };
    assert_eq!((max(&recorded, "same"), max(&recorded, "other")), (6.0, 3.0));
    one.close().await.unwrap();
    metrics.collect();
    let recorded = Recorded::take(&recorder.snapshotter());
    assert_eq!((max(&recorded, "same"), max(&recorded, "other")), (3.0, 3.0));
    // The last handle is enough; closing then goes on in the background.
    drop((two, other));
    eventually("both are told as empty", || {
        metrics.collect();
        let recorded = Recorded::take(&recorder.snapshotter());
        (max(&recorded, "same"), max(&recorded, "other")) == (0.0, 0.0)
    })
    .await;
}

/// Whoever reads a counter that falls takes it for one of a program that was started anew.
#[tokio::test]
async fn counters_go_on_when_a_database_is_closed_and_opened_again() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let metrics = MetricsFacade::new();
    let name = &[("db.client.connection.pool.name", "again")];
    let mut before = 0.0;
    for round in 1..=3 {
        let open = || AsyncDatabase::builder(":memory:").pool_name("again").observer(metrics.clone()).open();
        let (db, other) = (open().await.unwrap(), open().await.unwrap());
        for db in [&db, &db, &db, &other] {
            db.fetch_all("SELECT 1", ()).await.unwrap();
        }
        metrics.collect();
        let recorded = Recorded::take(&recorder.snapshotter());
        let hits = recorded.value("strongroom.statement.hits", name);
        assert!(hits > before, "{round}: {hits} after {before}");
        other.close().await.unwrap();
        metrics.collect();
        db.close().await.unwrap();
        metrics.collect();
        let recorded = Recorded::take(&recorder.snapshotter());
        before = recorded.value("strongroom.statement.hits", name);
        assert!(before >= hits, "{round}: it fell to {before}");
        assert_eq!(recorded.value("db.client.connection.max", name), 0.0);
    }
}

/// Programs open their databases early; nothing that is measured may be lost for good by that.
#[tokio::test]
async fn a_recorder_that_comes_later_is_told_from_then_on() {
    let metrics = MetricsFacade::new();
    let db = AsyncDatabase::builder(":memory:").observer(metrics.clone()).open().await.unwrap();
    db.fetch_all("SELECT 1", ()).await.unwrap();
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    db.fetch_all("SELECT 1", ()).await.unwrap();
    metrics.collect();
    let recorded = Recorded::take(&recorder.snapshotter());
    let [duration] = recorded.named(DURATION)[..] else { panic!("{:#?}", recorded.0) };
    assert_eq!((duration.values.len(), duration.unit), (1, Some(Seconds)));
}

#[tokio::test]
async fn a_recorder_that_is_there_to_stay_is_told_the_same() {
    let told = async |metrics: MetricsFacade, recorder: &DebuggingRecorder| {
        let _guard = metrics::set_default_local_recorder(recorder);
        let db = AsyncDatabase::builder(":memory:").observer(metrics.clone()).open().await.unwrap();
        db.execute_script("CREATE TABLE t (a UNIQUE)").await.unwrap();
        for _ in 0..3 {
            db.execute("INSERT INTO t VALUES (1)", ()).await.ok();
            db.fetch_all("SELECT a FROM t", ()).await.unwrap();
        }
        metrics.collect();
        let recorded = Recorded::take(&recorder.snapshotter());
        let series = |metric: &Metric| (metric.name.clone(), metric.labels.clone(), metric.values.len());
        // One that is registered before anything happens is told as nothing.
        let happened = |metric: &&Metric| {
            metric.kind == MetricKind::Gauge
                || !["failures", "repeats", "size"].iter().any(|end| metric.name.ends_with(end))
        };
        recorded.0.iter().filter(happened).map(series).collect::<BTreeSet<_>>()
    };
    let always_asked = told(MetricsFacade::new(), &DebuggingRecorder::new()).await;
    let asked_once = told(MetricsFacade::installed(), &DebuggingRecorder::new()).await;
    assert!(always_asked.len() > 15);
    assert_eq!(asked_once, always_asked);
}

/// To borrow a connection is no operation of the database; what is done with it is.
#[tokio::test]
async fn a_borrowed_connection_is_measured_by_what_is_done_with_it() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let db = AsyncDatabase::builder(":memory:").observer(MetricsFacade::new()).open().await.unwrap();
    let mut connection = db.connection().await.unwrap();
    connection.fetch_all("SELECT 1", ()).await.unwrap();
    drop(connection);
    let recorded = Recorded::take(&recorder.snapshotter());
    let calls: Vec<_> =
        recorded.named(DURATION).iter().map(|metric| metric.labels["strongroom.call"].clone()).collect();
    assert_eq!(calls, ["fetch"]);
    assert_eq!(recorded.values("db.client.connection.use_time", &[]).len(), 1);
}
