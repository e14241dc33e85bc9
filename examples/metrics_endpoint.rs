//! A `/metrics` for Prometheus, without a web framework. With an address it serves until it is stopped, and works meanwhile:
//!
//!     cargo run --features vendored-openssl,metrics --example metrics_endpoint -- 127.0.0.1:9464
//!
//! Without one it asks itself once. docs/grafana.json is a dashboard for these metrics.

use std::time::Duration;

use futures_util::future::join_all;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use strongroom::AsyncDatabase;
use strongroom::database::MetricsFacade;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone)]
struct Endpoint {
    prometheus: PrometheusHandle,
    metrics: MetricsFacade,
}

impl Endpoint {
    async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            let endpoint = self.clone();
            tokio::spawn(async move { endpoint.answer(stream).await });
        }
    }

    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(&mut stream).lines();
        let request = lines.next_line().await?.unwrap_or_default();
        while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
        let (status, body) = if request.starts_with("GET /metrics ") {
            self.metrics.collect(); // what is now; what has happened was recorded then
            self.prometheus.run_upkeep();
            ("200 OK", self.prometheus.render())
        } else {
            ("404 Not Found", "the metrics are at /metrics\n".to_owned())
        };
        let kind = "Content-Type: text/plain; version=0.0.4\r\nConnection: close";
        let head = format!("HTTP/1.1 {status}\r\n{kind}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut prometheus = PrometheusBuilder::new().with_recommended_naming(true);
    for (name, bounds) in MetricsFacade::bounds() {
        prometheus = prometheus.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)?;
    }
    let prometheus = prometheus.install_recorder()?;
    let metrics = MetricsFacade::installed();
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("shop.db");
    let db = AsyncDatabase::builder(&path).observer(metrics.clone()).open().await?;
    db.execute_script("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT NOT NULL CHECK (item <> ''))").await?;

    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let here = listener.local_addr()?;
    let server = tokio::spawn(Endpoint { prometheus, metrics }.serve(listener));

    for round in 0.. {
        // Several at once share a commit. One of them has no item, and is refused.
        let items = (0..8).map(|number| if number == 5 { String::new() } else { format!("item {round}.{number}") });
        let orders = items.map(|item| db.execute("INSERT INTO orders (item) VALUES ($1)", (item,)));
        for (number, answer) in join_all(orders).await.into_iter().enumerate() {
            assert_eq!(answer.is_err(), number == 5);
        }
        db.fetch_all("SELECT item FROM orders ORDER BY id DESC LIMIT 10", ()).await?;
        if round % 50 == 49 {
            // Sooner than by itself, so that there is something to see of it.
            db.checkpoint().await?;
        }
        match address {
            Some(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            None if round == 9 => break,
            None => {}
        }
    }

    let mut client = TcpStream::connect(here).await?;
    client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await?;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await?;
    // The order in which a recorder tells them is its own.
    let wanted =
        ["db_client_operation_duration_seconds_count", "db_client_connection_max", "strongroom_statement_misses"];
    let mut lines: Vec<_> = answer.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name))).collect();
    lines.sort_unstable();
    println!("{}", lines.join("\n"));
    server.abort();
    db.close().await?;
    Ok(())
}
