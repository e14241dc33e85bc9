//! The dashboard and the page about metrics name what is measured, and nothing else.
#![cfg(all(feature = "metrics", feature = "sqlcipher", feature = "testing"))]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

use common::poll_once;
use futures_util::future::join_all;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use strongroom::database::{MetricsFacade, TransactionOptions};
use strongroom::testing::{Fault, FaultyConnector, Point};
use strongroom::{AsyncDatabase, ErrorKind, SqlCipherConnector};

/// Makes everything happen that is measured, and gives what Prometheus is told.
async fn everything() -> String {
    // Of the whole process: the log is copied on a thread of its own.
    static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();
    let handle = INSTALLED.get_or_init(|| {
        let mut prometheus = PrometheusBuilder::new().with_recommended_naming(true);
        for (name, bounds) in MetricsFacade::bounds() {
            prometheus = prometheus.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds).unwrap();
        }
        prometheus.install_recorder().unwrap()
    });
    let (directory, metrics) = (tempfile::tempdir().unwrap(), MetricsFacade::new());
    let connector = FaultyConnector::new(SqlCipherConnector::new(directory.path().join("app.db")).key(common::key()));
    let faults = connector.faults();
    let db = AsyncDatabase::with_connector(connector).observer(metrics.clone()).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a UNIQUE)").await.unwrap();
    let held = db.connection().await.unwrap();
    let mut writes: Vec<_> = (0..3).map(|n| Box::pin(db.execute("INSERT INTO t VALUES ($1)", (n % 2,)))).collect();
    for write in &mut writes {
        assert!(poll_once(write.as_mut()).is_pending());
    }
    drop(held);
    assert_eq!(join_all(writes).await.iter().filter(|answer| answer.is_err()).count(), 1);
    faults.at(Point::Commit, Fault::Fail(ErrorKind::Serialization));
    let options = TransactionOptions::default();
    db.transaction_with(options, async |tx| tx.execute("DELETE FROM t", ()).await).await.unwrap();
    db.fetch_all("SELECT a FROM t", ()).await.unwrap();
    db.checkpoint().await.unwrap();
    let nowhere = AsyncDatabase::builder(directory.path().join("no/app.db")).observer(metrics.clone());
    nowhere.open().await.unwrap_err();
    metrics.collect();
    handle.render()
}

fn page(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The words of a text that begin as our metrics and their labels do.
fn words(text: &str, begins: [&str; 2]) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == '.'));
    let ours =
        words.map(|word| word.trim_end_matches('.')).filter(|word| begins.iter().any(|begin| word.starts_with(begin)));
    ours.map(str::to_owned).collect()
}

fn without_suffix(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

#[tokio::test]
async fn the_dashboard_names_every_metric_and_nothing_else() {
    let told = everything().await;
    let types = told.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let kinds: Vec<_> = types.map(|line| line.split_once(' ').unwrap()).collect();
    let metrics: BTreeSet<_> = kinds.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert!(metrics.len() >= 24, "misread, or less is measured than is known: {metrics:#?}");
    let histograms: BTreeSet<_> =
        kinds.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| *name).collect();
    // One without bounds of its own would be told as a summary.
    assert_eq!(histograms.len(), MetricsFacade::bounds().count());
    let lines = told.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('{'));
    let labels: BTreeSet<_> = lines.flat_map(|(_, labels)| words(labels, ["db_", "strongroom_"])).collect();

    let dashboard: serde_json::Value = serde_json::from_str(&page("docs/grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    let mut shown = BTreeSet::new();
    for word in expressions.iter().flat_map(|expression| words(expression, ["db_", "strongroom_"])) {
        let series = without_suffix(&word);
        if metrics.contains(&word) {
            assert!(!histograms.contains(&*word), "{word} is a histogram: it has buckets, a sum and a count");
            shown.insert(word);
        } else if histograms.contains(series) {
            shown.insert(series.to_owned());
        } else {
            assert!(labels.contains(&word), "{word} is neither a metric nor a label of one");
        }
    }
    assert_eq!(shown, metrics, "what is measured, and what the dashboard shows");
    let named = words(&page("docs/grafana.json"), ["db_", "strongroom_"]);
    let known =
        |word: &String| metrics.contains(without_suffix(word)) || metrics.contains(word) || labels.contains(word);
    assert_eq!(named.iter().filter(|word| !known(word)).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[tokio::test]
async fn the_page_names_every_metric() {
    let told = everything().await;
    let metrics = told.lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split_once(' ')?.0.to_owned()));
    let plain = |name: &str| {
        let suffixes = ["_total", "_seconds", "_bytes"];
        suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name).to_owned()
    };
    let measured: BTreeSet<_> = metrics.map(|name| plain(&name)).collect();
    let page = page("docs/observing.md");
    let part = page.split("## Metrics").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let rows =
        rows.filter(|(name, _)| name.contains('.')).map(|(name, _)| name.replace('.', "_")).collect::<BTreeSet<_>>();
    assert_eq!(rows, measured, "the rows of the page, and what is measured");
}
