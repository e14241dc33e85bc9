//! What observers, listeners, watchers, sleep and migrations cost: the library beside itself, in one interleaved run.
//!
//! `cargo bench --bench costs --features testing,metrics,opentelemetry -- [name...]` prints one line per pair: the medians
//! of both in microseconds, of their differences, and of their ratios. `STRONGROOM_BENCH_ROUNDS` sets the rounds (15 by
//! default), `STRONGROOM_BENCH_SECONDS` the length of one (0.1 by default).
#![allow(clippy::cast_precision_loss, reason = "numbers here are small")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use strongroom::database::migrations::Migrations;
use strongroom::database::{ChangeStream, Event, MeterMetrics, MetricsFacade, Observer, WatchStream};
use strongroom::sqlcipher::{Synchronous, TemplateDatabase, Tuning};
use strongroom::{AsyncDatabase, DatabaseBuilder, PassphraseKeySource, Rows, Secret, SqlCipherConnector};
use tracing_subscriber::layer::SubscriberExt as _;

const READ: &str = "SELECT text FROM t WHERE id = $1";
const INSERT: &str = "INSERT INTO log (n) VALUES ($1)";
const ROWS: i64 = 1000;
const WATCHERS: usize = 1000;

fn set(name: &str, otherwise: f64) -> f64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median of an operation's time in microseconds; short ones are taken `at_once` many, so that the clock does not count.
async fn timed(at_once: u32, mut operation: impl AsyncFnMut()) -> f64 {
    let (mut times, began, length) = (Vec::new(), Instant::now(), set("STRONGROOM_BENCH_SECONDS", 0.1));
    while began.elapsed().as_secs_f64() < length || times.is_empty() {
        let before = Instant::now();
        for _ in 0..at_once {
            operation().await;
        }
        times.push(before.elapsed().as_secs_f64() * 1e6 / f64::from(at_once));
    }
    median(times)
}

struct Bench {
    wanted: Vec<String>,
    directory: tempfile::TempDir,
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|part| name.contains(part.as_str()))
    }

    fn builder(&self, name: &str) -> DatabaseBuilder<SqlCipherConnector> {
        let tuning = Tuning::default().synchronous(Synchronous::Normal);
        AsyncDatabase::builder(self.directory.path().join(name)).tuning(tuning)
    }

    async fn database(&self, builder: DatabaseBuilder<SqlCipherConnector>) -> AsyncDatabase {
        let db = builder.open().await.unwrap();
        let tables = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, text TEXT);
            CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, n INTEGER);
            CREATE TABLE IF NOT EXISTS watched (id INTEGER PRIMARY KEY, n INTEGER)";
        db.execute_script(tables).await.unwrap();
        let rows = (0..ROWS).map(|id| (id, format!("row {id}")));
        db.execute_many("INSERT OR IGNORE INTO t VALUES ($1, $2)", rows).await.unwrap();
        db
    }

    /// One pair: rounds of the one and of the other in turn, each round as `round` does it.
    async fn pair(&self, name: &str, goal: &str, mut round: impl AsyncFnMut(bool) -> f64) {
        if !self.wants(name) {
            return;
        }
        let (mut without, mut with) = (Vec::new(), Vec::new());
        // The first ones warm the caches of both.
        round(false).await;
        round(true).await;
        let rounds = set("STRONGROOM_BENCH_ROUNDS", 15.0);
        while (without.len() as f64) < rounds {
            // Who comes first has the fresher processor.
            let order = without.len() % 2 == 0;
            for is_with in [!order, order] {
                let time = round(is_with).await;
                if is_with { &mut with } else { &mut without }.push(time);
            }
        }
        let pairs = || without.iter().zip(&with);
        let more = median(pairs().map(|(without, with)| with - without).collect());
        let ratio = median(pairs().map(|(without, with)| with / without).collect());
        println!("{name:52} {:>10.2} {:>10.2} {more:>9.3} {ratio:>7.3}  {goal}", median(without), median(with));
    }
}

/// Point reads, one at a time.
async fn reads(db: &AsyncDatabase) -> f64 {
    let mut id = 0;
    timed(64, async || {
        id = (id + 379) % ROWS;
        db.fetch_value::<String>(READ, (id,)).await.unwrap();
    })
    .await
}

/// Inserts, one at a time.
async fn inserts(db: &AsyncDatabase) -> f64 {
    timed(16, async || {
        db.execute(INSERT, (7,)).await.unwrap();
    })
    .await
}

/// Is told, and does nothing.
struct Nothing;

impl Observer for Nothing {
    fn observe(&self, _: &Event<'_>) {}
}

/// A recorder that adds up what it is told, for what the facade costs without one that does more.
#[derive(Default)]
struct Sums {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl metrics::HistogramFn for Sums {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers here are small")]
    fn record(&self, value: f64) {
        self.count.fetch_add(1, Relaxed);
        self.nanos.fetch_add((value * 1e9) as u64, Relaxed);
    }
}

struct Adding;

impl metrics::Recorder for Adding {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::noop()
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::from_arc(Arc::new(Sums::default()))
    }
}

struct Nowhere;

impl PushMetricExporter for Nowhere {
    async fn export(&self, _: &ResourceMetrics) -> OTelSdkResult {
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

/// Reads and inserts without anyone who looks, and with each kind of those who do.
async fn observers(bench: &Bench) {
    let plain = bench.database(bench.builder("unobserved.db")).await;
    let provider = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(Nowhere).build()).build();
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let observed = [
        ("an observer that does nothing", "", bench.builder("nothing.db").observer(Nothing)),
        ("db.metrics()", "", bench.builder("recorder.db").metrics(true)),
        ("the facade `metrics`", "+0.150 us", bench.builder("facade.db").observer(MetricsFacade::installed())),
        (
            "a meter of OpenTelemetry",
            "",
            bench.builder("meter.db").observer(MeterMetrics::new(&provider.meter("costs"))),
        ),
    ];
    // What a read tells the recorder: three numbers of the call, and two of the loan of its connection.
    let metadata = metrics::Metadata::new("costs", metrics::Level::INFO, None);
    let histograms = ["a", "b", "c", "d", "e"].map(|name| {
        metrics::with_recorder(|recorder| recorder.register_histogram(&metrics::Key::from_static_name(name), &metadata))
    });
    bench
        .pair("five numbers, told to that recorder", "", async |with| {
            timed(64, async || {
                if with {
                    for histogram in &histograms {
                        histogram.record(0.001);
                    }
                }
            })
            .await
        })
        .await;
    for (what, goal, builder) in observed {
        let db = bench.database(builder).await;
        bench.pair(&format!("read, {what}"), goal, async |with| reads(if with { &db } else { &plain }).await).await;
        bench.pair(&format!("insert, {what}"), goal, async |with| inserts(if with { &db } else { &plain }).await).await;
        db.close().await.unwrap();
    }
    let adding = {
        let _installed = metrics::set_default_local_recorder(&Adding);
        let db = bench.database(bench.builder("adding.db").observer(MetricsFacade::installed())).await;
        // Each series is registered where it is first told.
        reads(&db).await;
        inserts(&db).await;
        db
    };
    let (what, goal) = ("the facade, whose recorder adds up", "+0.150 us");
    bench.pair(&format!("read, {what}"), goal, async |with| reads(if with { &adding } else { &plain }).await).await;
    bench.pair(&format!("insert, {what}"), goal, async |with| inserts(if with { &adding } else { &plain }).await).await;
    adding.close().await.unwrap();
    let subscriber: Arc<dyn tracing::Subscriber + Send + Sync> = Arc::new(
        tracing_subscriber::registry()
            .with(tracing_subscriber::fmt::layer().with_writer(std::io::sink))
            .with(tracing_subscriber::filter::LevelFilter::TRACE),
    );
    let spans = async |with: bool, work: fn(&AsyncDatabase) -> futures_util::future::LocalBoxFuture<'_, f64>| {
        let _guard = with.then(|| tracing::subscriber::set_default(Arc::clone(&subscriber)));
        work(&plain).await
    };
    bench.pair("read, spans written to nowhere", "", async |with| spans(with, |db| Box::pin(reads(db))).await).await;
    bench
        .pair("insert, spans written to nowhere", "", async |with| spans(with, |db| Box::pin(inserts(db))).await)
        .await;
    plain.close().await.unwrap();
}

/// Commits while somebody listens, or watches another table.
async fn listeners(bench: &Bench) {
    let alone = bench.database(bench.builder("alone.db")).await;
    let followed = bench.database(bench.builder("followed.db")).await;
    let mut changes = followed.changes().await.unwrap();
    let listener = tokio::spawn(async move { while changes.next().await.is_some() {} });
    bench.pair("insert, one listener", "1.05", async |with| inserts(if with { &followed } else { &alone }).await).await;
    listener.abort();

    let watched = bench.database(bench.builder("watched.db")).await;
    let other = bench.database(bench.builder("one_watcher.db")).await;
    let watch = async |db: &AsyncDatabase, count: usize| {
        let mut streams: Vec<WatchStream<Rows>> =
            (0..count).map(|n| db.watch("SELECT count(*) + $1 FROM watched", (i64::try_from(n).unwrap(),))).collect();
        for stream in &mut streams {
            stream.next().await.unwrap().unwrap();
        }
        streams
    };
    let (_many, _one) = (watch(&watched, WATCHERS).await, watch(&other, 1).await);
    let name = format!("insert, 1 or {WATCHERS} watchers of another table");
    bench.pair(&name, "1.00", async |with| inserts(if with { &watched } else { &other }).await).await;

    let told = bench.database(bench.builder("told.db")).await;
    let mut events: ChangeStream = told.changes().await.unwrap();
    bench
        .pair("insert, and insert until its event is here", "+100 us", async |with| {
            timed(1, async || {
                told.execute(INSERT, (7,)).await.unwrap();
                if with {
                    events.next().await.unwrap();
                }
            })
            .await
        })
        .await;
}

fn schema() -> Migrations {
    (1..=20).fold(Migrations::new(), |list, n| {
        list.sql(n, format!("table {n}"), format!("CREATE TABLE m{n} (id INTEGER PRIMARY KEY, text TEXT)"))
    })
}

fn keyed(path: &Path) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path).key(PassphraseKeySource::new(Secret::raw_key([7; 32])))
}

/// Migrations with nothing to do, databases for tests, sleep, and a pool that only reads.
async fn life(bench: &Bench) {
    let (list, db) = (schema(), bench.database(bench.builder("migrated.db")).await);
    db.migrate(&list).await.unwrap();
    bench
        .pair("read, and 20 migrations of which none is to do", "1 ms", async |with| {
            if !with {
                return reads(&db).await;
            }
            timed(1, async || {
                assert!(db.migrate(&list).await.unwrap().ran.is_empty());
            })
            .await
        })
        .await;
    for (kind, goal, encrypted) in [("plain", "1 ms", false), ("encrypted", "3 ms", true)] {
        let opening = move |path: std::path::PathBuf| {
            if encrypted { keyed(&path) } else { AsyncDatabase::builder(path) }
        };
        let template = TemplateDatabase::new(opening, async |db| db.migrate(&schema()).await.map(drop)).await.unwrap();
        let from_nothing = bench.directory.path().join(format!("{kind}.db"));
        bench
            .pair(&format!("a migrated {kind} database: anew, and copied"), goal, async |with| {
                timed(1, async || {
                    if with {
                        let copy = template.copy().await.unwrap();
                        copy.fetch_value::<i64>("SELECT count(*) FROM m20", ()).await.unwrap();
                    } else {
                        let db = opening(from_nothing.clone()).open().await.unwrap();
                        db.migrate(&schema()).await.unwrap();
                        db.close().await.unwrap();
                        std::fs::remove_file(&from_nothing).unwrap();
                    }
                })
                .await
            })
            .await;
        let db = opening(bench.directory.path().join(format!("sleepy {kind}.db"))).open().await.unwrap();
        db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
        bench
            .pair(&format!("a {kind} read, and one after suspend()"), "5 ms", async |with| {
                timed(1, async || {
                    if with {
                        db.suspend().await.unwrap();
                    }
                    db.fetch_value::<i64>("SELECT a FROM t", ()).await.unwrap();
                })
                .await
            })
            .await;
    }
    let writable = bench.database(bench.builder("both.db")).await;
    let reading = bench.builder("both.db").read_only().open().await.unwrap();
    bench
        .pair("read, of a pool that only reads", "1.00", async |with| {
            reads(if with { &reading } else { &writable }).await
        })
        .await;
}

fn main() {
    let wanted = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let bench = Bench { wanted, directory: tempfile::tempdir().unwrap() };
    println!("{:52} {:>10} {:>10} {:>9} {:>7}  goal", "us at the median", "without", "with", "more", "ratio");
    // One thread runs the callers, so that a subscriber of that thread sees all of them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        observers(&bench).await;
        listeners(&bench).await;
        life(&bench).await;
    });
}
