//! The spans and events of `tracing`: named by OpenTelemetry's conventions, and without any value or key.
#![cfg(feature = "sqlcipher")]

mod common;
#[cfg(feature = "postgres")]
#[path = "common/postgres.rs"]
mod postgres;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use common::{ENDLESS, Home, Kind, millis};
use futures_util::{TryStreamExt as _, poll};
use strongroom::database::BackupOptions;
use strongroom::sqlcipher::Tuning;
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
    /// What it follows from.
    causes: Vec<u64>,
    id: u64,
    /// The threads on which it was entered.
    threads: BTreeSet<String>,
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
        let name = attributes.metadata().name();
        let mut span = Closed { name, parent, id: id.into_u64(), ..Closed::default() };
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
    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        let mut captured = self.0.lock().unwrap();
        captured.entered += 1;
        if let Some(span) = captured.open.get_mut(&id.into_u64()) {
            span.threads.insert(format!("{:?}", std::thread::current().id()));
        }
    }
    fn on_follows_from(&self, id: &Id, cause: &Id, _: Context<'_, S>) {
        if let Some(span) = self.0.lock().unwrap().open.get_mut(&id.into_u64()) {
            span.causes.push(cause.into_u64());
        }
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
        assert_eq!(field("db.namespace"), "app.db");
        assert_eq!((field("db.operation.batch.size"), field("db.response.status_code")), ("", ""));
    }
    assert_eq!(calls[3].fields["db.query.text"], "SELECT * FROM users WHERE id < ? AND name = $1");

    db.execute("INSERT INTO users (id) VALUES (1)", ()).await.unwrap_err();
    let spans = capture.take();
    assert_eq!(spans.len(), 1, "{spans:?}");
    let failed = &spans[0].fields;
    assert_eq!((&*failed["error.type"], &*failed["otel.status_code"]), ("Constraint", "ERROR"));
    assert_eq!(failed["otel.name"], "INSERT users");
    assert_eq!(failed["db.response.status_code"], "1555", "SQLITE_CONSTRAINT_PRIMARYKEY");
}

#[tokio::test]
async fn many_sets_of_parameters_are_a_batch_and_one_is_none() {
    let (capture, _listening) = Capture::listen();
    let db = Home::new(Kind::PlainMemory).open().await;
    db.execute_script("CREATE TABLE users (name TEXT)").await.unwrap();
    for sets in [3, 1] {
        capture.take();
        db.execute_many("INSERT INTO users VALUES ($1)", (0..sets).map(|n| (n,))).await.unwrap();
        let spans = capture.take();
        let named = |name: &str| spans.iter().find(|span| span.fields["strongroom.call"] == name).unwrap();
        let field = |name: &str| named("execute_many").fields.get(name).map_or("", |value| value.as_str());
        let batch = if sets == 3 { "BATCH " } else { "" };
        assert_eq!(field("db.operation.batch.size"), if sets == 3 { "3" } else { "" });
        assert_eq!(field("otel.name"), format!("{batch}INSERT users"));
        assert_eq!(field("db.query.summary"), format!("{batch}INSERT users"));
        assert_eq!(field("db.operation.name"), format!("{batch}INSERT"));
        assert_eq!(field("db.collection.name"), "users");
        assert_eq!(field("db.namespace"), ":memory:");
    }
}

#[tokio::test]
async fn a_group_is_a_span_of_its_own_that_follows_from_its_callers() {
    let (capture, _listening) = Capture::listen();
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().tuning(Tuning::default().group_commit(true)).open().await.unwrap();
    db.execute_script("CREATE TABLE t (n UNIQUE)").await.unwrap();
    let writer = db.connection().await.unwrap();
    capture.take();
    let writes = [1, 2, 2].map(|n| db.execute("INSERT INTO t VALUES ($1)", (n,)));
    let mut writes = Box::pin(futures_util::future::join_all(writes));
    assert!(poll!(&mut writes).is_pending());
    drop(writer);
    writes.instrument(tracing::info_span!("request")).await;
    // The driver of the lane goes on for a moment.
    db.close().await.unwrap();
    let spans = capture.take();
    let group = spans.iter().find(|span| span.name == "group").unwrap_or_else(|| panic!("{spans:?}"));
    let inserts = |span: &&Closed| span.fields.get("otel.name").is_some_and(|name| name == "INSERT t");
    let callers: Vec<_> = spans.iter().filter(inserts).collect();
    assert_eq!((callers.len(), group.parent), (3, None));
    assert_eq!(group.causes, callers.iter().map(|span| span.id).collect::<Vec<_>>());
    assert_eq!(group.fields["db.operation.batch.size"], "3");
    assert_eq!((&*group.fields["strongroom.failed"], &*group.fields["otel.kind"]), ("1", "internal"));
    assert!(!group.threads.is_empty(), "it is entered while the group runs");
    assert!(capture.0.lock().unwrap().open.is_empty());
}

#[tokio::test]
async fn the_callers_span_goes_along_to_the_thread_on_which_a_long_statement_or_a_closure_runs() {
    let (capture, _listening) = Capture::listen();
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    capture.take();
    db.fetch_value::<i64>(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000) SELECT max(i) FROM n",
        (),
    )
    .await
    .unwrap();
    async { db.interact(|connection| connection.execute_batch("SELECT 1")).await.unwrap() }
        .instrument(tracing::info_span!("request"))
        .await;
    let spans = capture.take();
    for name in ["call", "request"] {
        let span = spans.iter().find(|span| span.name == name).unwrap();
        assert!(span.threads.len() > 1, "{span:?}");
    }
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn of_postgresql_the_summary_is_what_the_words_say_and_the_code_is_the_sqlstate() {
    let Some(server) = postgres::server() else { return };
    let db = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    let (capture, _listening) = Capture::listen();
    db.execute_script("CREATE TABLE users (id bigint PRIMARY KEY, name text)").await.unwrap();
    capture.take();
    db.execute("INSERT INTO users VALUES ($1, $2)", (1, VALUE)).await.unwrap();
    db.fetch_all("SELECT * FROM users WHERE name = $1", (VALUE,)).await.unwrap();
    db.fetch_all("SELECT * FROM users a, users b", ()).await.unwrap();
    db.execute("INSERT INTO users VALUES ($1, $2)", (1, VALUE)).await.unwrap_err();
    db.fetch_all(&format!("SELECT id FROM users WHERE name = '{VALUE}' OR name = $$ {VALUE} $$ OR id = 4711"), ())
        .await
        .unwrap();
    let spans = capture.take();
    let field = |span: &Closed, name: &str| span.fields.get(name).cloned().unwrap_or_default();
    let names: Vec<_> = spans.iter().map(|span| field(span, "otel.name")).collect();
    assert_eq!(names, ["INSERT users", "SELECT users", "SELECT", "INSERT users", "SELECT users"]);
    let texts: Vec<_> = spans.iter().map(|span| field(span, "db.query.text")).collect();
    let insert = "INSERT INTO users VALUES ($1, $2)";
    assert_eq!(
        texts,
        [
            insert,
            "SELECT * FROM users WHERE name = $1",
            "SELECT * FROM users a, users b",
            insert,
            "SELECT id FROM users WHERE name = ? OR name = ? OR id = ?",
        ]
    );
    assert!(!format!("{spans:?}").contains(VALUE), "a value is in a span");
    for span in &spans {
        assert_eq!(
            (field(span, "db.system.name"), field(span, "db.query.summary")),
            ("postgresql".into(), field(span, "otel.name"))
        );
        assert!(!field(span, "db.namespace").is_empty());
        for left_out in ["db.operation.name", "db.collection.name"] {
            assert_eq!(field(span, left_out), "", "the conventions do not want it out of the text");
        }
    }
    assert_eq!(
        spans.iter().map(|span| field(span, "db.response.status_code")).collect::<Vec<_>>(),
        ["", "", "", "23505", ""]
    );
    db.close().await.unwrap();
}

/// Takes what is of the level INFO, and says so each time anew; notes what it is asked of calls.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<(tracing::Level, bool)>>>);

impl<S: Subscriber> Layer<S> for Asked {
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> tracing::subscriber::Interest {
        tracing::subscriber::Interest::sometimes()
    }
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        if metadata.target() == "strongroom::call" {
            self.0.lock().unwrap().push((*metadata.level(), metadata.is_span()));
        }
        *metadata.level() <= tracing::Level::INFO
    }
}

/// To ask for less would make a span of each call for those who take none.
#[tokio::test]
async fn a_subscriber_of_the_level_info_is_asked_once_for_each_call_and_for_no_span() {
    let asked = Asked::default();
    let _listening = tracing::subscriber::set_default(Registry::default().with(asked.clone()));
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY)").await.unwrap();
    let queries = std::mem::take(&mut *asked.0.lock().unwrap());
    assert!(!queries.is_empty(), "misread");
    db.fetch_all("SELECT id FROM t", ()).await.unwrap();
    let one = std::mem::take(&mut *asked.0.lock().unwrap());
    assert_eq!(one, [(tracing::Level::DEBUG, false)]);
    let writer = db.connection().await.unwrap();
    let mut writes =
        Box::pin(futures_util::future::join_all((0..4).map(|_| db.execute("INSERT INTO t DEFAULT VALUES", ()))));
    assert!(poll!(&mut writes).is_pending());
    drop(writer);
    assert!(writes.await.iter().all(Result::is_ok));
    let group = std::mem::take(&mut *asked.0.lock().unwrap());
    assert!(
        queries.iter().chain(&group).all(|(level, is_span)| *level == tracing::Level::DEBUG && !is_span),
        "{group:?}"
    );
}

#[tokio::test]
async fn a_subscriber_that_wants_no_spans_gets_none_and_opening_and_closing_are_told() {
    let capture = Capture::default();
    let subscriber = Registry::default().with(capture.clone()).with(tracing_subscriber::filter::LevelFilter::INFO);
    let _listening = tracing::subscriber::set_default(subscriber);
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.fetch_all("SELECT 1", ()).await.unwrap();
    db.rekey(PassphraseKeySource::new("another")).await.unwrap();
    db.fetch_all("SELECT 1", ()).await.unwrap();
    db.close().await.unwrap();
    let captured = capture.0.lock().unwrap();
    assert_eq!((captured.entered, captured.closed.len()), (0, 0));
    let told: Vec<_> = captured.events.iter().map(|(level, fields)| (&**level, &*fields["message"])).collect();
    let expected = ["the database is open", "the database has another key", "the pool is closed"];
    assert_eq!(told, expected.map(|message| ("INFO", message)));
    let changed = &captured.events[1].1;
    assert_eq!((&*changed["database"], &*changed["key_source"]), ("app.db", "a secret given by the caller"));
    let opened = &captured.events[0].1;
    assert_eq!(opened["encrypted"], "true");
    assert!(opened["database"].ends_with("app.db") && opened.contains_key("key_source"), "{opened:?}");
}
