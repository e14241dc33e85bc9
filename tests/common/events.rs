//! What is logged anywhere in the process, with levels and fields.
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::{Layer, Registry};

/// One event of this crate.
#[derive(Clone, Debug)]
pub struct Logged {
    pub level: String,
    pub message: String,
    /// But for the message.
    pub fields: BTreeMap<String, String>,
}

static LOGGED: Mutex<Vec<Logged>> = Mutex::new(Vec::new());

struct Capture;

struct IntoMap<'f>(&'f mut BTreeMap<String, String>);

impl Visit for IntoMap<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !event.metadata().target().starts_with("strongroom") {
            return;
        }
        let mut fields = BTreeMap::new();
        event.record(&mut IntoMap(&mut fields));
        let message = fields.remove("message").unwrap_or_default();
        let level = event.metadata().level().to_string();
        LOGGED.lock().unwrap().push(Logged { level, message, fields });
    }
}

/// From now on all threads are heard: work is done on threads of its own, too.
pub fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        tracing::subscriber::set_global_default(Registry::default().with(Capture)).unwrap();
    });
}

/// What was logged with this message and a field that has `mark` in it. Other tests of the program log at the same time.
pub fn logged(message: &str, mark: &str) -> Vec<Logged> {
    let all = LOGGED.lock().unwrap();
    let is_it =
        |event: &&Logged| event.message.starts_with(message) && event.fields.values().any(|value| value.contains(mark));
    all.iter().filter(is_it).cloned().collect()
}

/// The only one, which has this level and exactly these fields.
pub fn the_one(message: &str, mark: &str, level: &str, fields: &[&str]) -> Logged {
    let mut found = logged(message, mark);
    assert_eq!(found.len(), 1, "{message}, {mark}: {found:#?}");
    let event = found.remove(0);
    assert_eq!(event.level, level, "{event:?}");
    assert_eq!(event.fields.keys().collect::<Vec<_>>(), fields, "{event:?}");
    event
}

/// Everything, as text.
pub fn everything() -> String {
    format!("{:?}", LOGGED.lock().unwrap())
}
