//! The spans and events of `tracing`: named by OpenTelemetry's conventions, and without any value or key.
#![cfg(feature = "sqlcipher")]

mod common;

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use common::{ENDLESS, Home, Kind, millis};
use futures_util::TryStreamExt as _;
use strongroom::database::BackupOptions;
use strongroom::{AsyncDatabase, PassphraseKeySource, Row};
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Instrument as _, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

type Fields = BTreeMap<String, String>;

/// A span that was closed.
#[derive(Clone, Debug, Default)]
struct Closed {
    name: &'static str,
    parent: Option<&'static str>,
    fields: Fields,
}

#[derive(Default)]
struct Captured {
    open: BTreeMap<u64, Closed>,
    closed: Vec<Closed>,
    /// Level, and all fields.
    events: Vec<(String, Fields)>,
    entered: usize,
}

/// Keeps everything.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Captured>>);

struct Into<'f>(&'f mut Fields);

impl Visit for Into<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Capture {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let parent = context.span(id).and_then(|span| Some(span.parent()?.name()));
        let mut span = Closed { name: attributes.metadata().name(), parent, ..Closed::default() };
        attributes.record(&mut Into(&mut span.fields));
        self.0.lock().unwrap().open.insert(id.into_u64(), span);
    }
    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        if let Some(span) = self.0.lock().unwrap().open.get_mut(&id.into_u64()) {
            values.record(&mut Into(&mut span.fields));
        }
    }
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::new();
        event.record(&mut Into(&mut fields));
        self.0.lock().unwrap().events.push((event.metadata().level().to_string(), fields));
    }
    fn on_enter(&self, _: &Id, _: Context<'_, S>) {
        self.0.lock().unwrap().entered += 1;
    }
    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let mut captured = self.0.lock().unwrap();
        let span = captured.open.remove(&id.into_u64());
        captured.closed.extend(span);
    }
}

impl Capture {
    /// Of this thread, until the guard is dropped.
    fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let capture = Self::default();
        let guard = tracing::subscriber::set_default(Registry::default().with(capture.clone()));
        (capture, guard)
    }

    fn take(&self) -> Vec<Closed> {
        std::mem::take(&mut self.0.lock().unwrap().closed)
    }

    /// All that was captured, as one text.
    fn everything(&self) -> String {
        let captured = self.0.lock().unwrap();
        let mut text = String::new();
        for span in captured.closed.iter().chain(captured.open.values()) {
            writeln!(text, "{} {:?}", span.name, span.fields).unwrap();
        }
        for (level, fields) in &captured.events {
            writeln!(text, "{level} {fields:?}").unwrap();
        }
        text
    }
}

const KEY: &str = "zq-the-passphrase-7";
const VALUE: &str = "zq-a-value-of-alice";

/// Calls of every kind, with values of every kind, that succeed and fail.
async fn every_call(home: &Home) {
    let path = home.path();
    let keyed = |path| AsyncDatabase::builder(path).key(PassphraseKeySource::new(KEY));
    let db = keyed(path.clone()).log_slow_calls(millis(0)).open().await.unwrap();
    db.execute_script(&format!("CREATE TABLE t (a UNIQUE, b); INSERT INTO t VALUES ('{VALUE}-0', 1)")).await.unwrap();
    db.execute("INSERT INTO t VALUES ($1, 2)", (VALUE,)).await.unwrap();
    db.execute("INSERT INTO t VALUES ($1, 2)", (VALUE,)).await.unwrap_err();
    db.execute_many("INSERT INTO t VALUES ($1, $2)", [(format!("{VALUE}-1"), VALUE)]).await.unwrap();
    for sql in [
        format!("SELECT a FROM t WHERE a = '{VALUE}'"),
        format!("SELECT a FROM t WHERE a = \"{VALUE}\""),
        format!("SELECT a /* {VALUE} */ FROM t -- {VALUE}"),
        format!("SELECT '{VALUE}"),
        format!("PRAGMA key = \"{KEY}\""),
        format!("PRAGMA rekey = '{KEY}'"),
        format!("ATTACH 'x' AS x KEY \"{KEY}\""),
        format!("ATTACH 'file:x?key={KEY}' AS x"),
    ] {
        db.fetch_all(&sql, ()).await.ok();
        db.fetch_stream(&sql, ()).try_collect::<Vec<Row>>().await.ok();
        db.execute_script(&sql).await.ok();
        let mut conn = db.connection().await.unwrap();
        conn.execute(&sql, ()).await.ok();
        drop(conn);
        let mut tx = db.begin().await.unwrap();
        tx.fetch_all(&sql, ()).await.ok();
        tx.rollback().await.ok();
    }
    let answers: Vec<Row> = db.fetch_stream("SELECT a FROM t WHERE a > $1", ("",)).try_collect().await.unwrap();
    assert_eq!(answers.len(), 3);
    db.transaction(async |tx| tx.fetch_all_as::<(String, String)>("SELECT a, b FROM t", ()).await).await.ok();
    db.fetch_value::<i64>("SELECT a FROM t", ()).await.unwrap_err();
    timeout(millis(20), db.fetch_all(ENDLESS, ())).await.unwrap_err();
    db.table_exists(VALUE).await.unwrap();
    if home.kind.is_file() {
        db.checkpoint().await.unwrap();
        let other = PassphraseKeySource::new(format!("{KEY}-other"));
        db.backup_with(home.directory.path().join("copy"), BackupOptions::new().key(other)).await.unwrap();
    }
    db.close().await.unwrap();
    if home.kind.is_file() {
        let wrong = PassphraseKeySource::new(format!("{KEY}-wrong"));
        AsyncDatabase::builder(&path).key(wrong).open().await.unwrap_err();
    }
}

#[tokio::test]
async fn no_value_and_no_key_stands_in_any_span_or_event() {
    for kind in [Kind::KeyedFile, Kind::KeyedMemory] {
        let (capture, _listening) = Capture::listen();
        every_call(&Home::new(kind)).await;
        let text = capture.everything();
        let told: Vec<_> = text
            .lines()
            .filter(|line| line.contains(KEY) || line.contains("passphrase-7"))
            .chain(text.lines().filter(|line| line.contains(VALUE)))
            .collect();
        assert_eq!(told, [""; 0]);
        for present in ["INSERT t", "SELECT t", "Constraint", "Cancelled", "db.query.text", "strongroom.waiting_us"] {
            assert!(text.contains(present), "{present}");
        }
        let captured = capture.0.lock().unwrap();
        assert!(captured.open.is_empty(), "{:?}", captured.open);
    }
}

#[tokio::test]
async fn a_span_has_the_names_of_the_conventions_and_the_callers_span_as_its_parent() {
    let (capture, _listening) = Capture::listen();
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)").await.unwrap();
    capture.take();
    let sql = "INSERT INTO users (name) VALUES ($1)";
    let writes = (0..3).map(|_| db.execute(sql, ("alice",)));
    let request = async {
        futures_util::future::try_join_all(writes).await?;
        db.fetch_all("SELECT * FROM users WHERE id < 17 AND name = $1", ("alice",)).await
    };
    request.instrument(tracing::info_span!("request")).await.unwrap();
    let spans = capture.take();
    let calls: Vec<_> = spans.iter().filter(|span| span.name == "call").collect();
    assert_eq!(calls.len(), 4, "{spans:?}");
    for span in &calls {
        assert_eq!(span.parent, Some("request"));
    }
    for (span, name, rows) in [(calls[0], "INSERT users", ("0", "1")), (calls[3], "SELECT users", ("3", "0"))] {
        let field = |name: &str| span.fields.get(name).map_or("", |value| value.as_str());
        let (operation, table) = name.split_once(' ').unwrap();
        assert_eq!(field("otel.name"), name);
        assert_eq!(field("otel.kind"), "client");
        assert_eq!(field("db.system.name"), "sqlite");
        assert_eq!(field("db.query.summary"), name);
        assert_eq!((field("db.operation.name"), field("db.collection.name")), (operation, table));
        assert_eq!((field("db.response.returned_rows"), field("db.response.affected_rows")), rows);
        assert_eq!(field("code.file.path"), file!());
        assert!(!span.fields.contains_key("error.type"));
    }
    assert_eq!(calls[3].fields["db.query.text"], "SELECT * FROM users WHERE id < ? AND name = $1");

    db.execute("INSERT INTO users (id) VALUES (1)", ()).await.unwrap_err();
    let spans = capture.take();
    let failed = &spans[0].fields;
    assert_eq!((&*failed["error.type"], &*failed["otel.status_code"]), ("Constraint", "ERROR"));
    assert_eq!(failed["otel.name"], "INSERT users");
}

#[tokio::test]
async fn a_subscriber_that_wants_no_spans_gets_none_and_opening_and_closing_are_told() {
    let capture = Capture::default();
    let subscriber = Registry::default().with(capture.clone()).with(tracing_subscriber::filter::LevelFilter::INFO);
    let _listening = tracing::subscriber::set_default(subscriber);
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.fetch_all("SELECT 1", ()).await.unwrap();
    db.close().await.unwrap();
    let captured = capture.0.lock().unwrap();
    assert_eq!((captured.entered, captured.closed.len()), (0, 0));
    let told: Vec<_> = captured.events.iter().map(|(level, fields)| (&**level, &*fields["message"])).collect();
    assert_eq!(told, [("INFO", "the database is open"), ("INFO", "the pool is closed")]);
    let opened = &captured.events[0].1;
    assert_eq!(opened["encrypted"], "true");
    assert!(opened["database"].ends_with("app.db") && opened.contains_key("key_source"), "{opened:?}");
}
