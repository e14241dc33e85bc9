//! What a connector knows of its file, and how its source is asked again when the file has another key.
//!
//! Another process may change the key while nothing of this one is open, or a program that heeds no locks even then. The
//! source has the new key by then, or somebody forgot to store it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Mutex;

use super::cipher::KeySpec;
use super::connection::SqlCipherConnection;
use super::keys;
use super::opening::diagnose;
use super::opening::opened::Opened;
use super::running::job::on_thread;
use crate::connector::Access;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::key::KeySource;

/// The file of a connector, opened at most once.
pub(super) struct KnownFile {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) questions: Questions,
    /// Where the key is from that opened the database.
    pub(super) key_source: Arc<SourceNames>,
}

/// Moves on from top to bottom.
pub(super) enum State {
    Unopened {
        key: Option<Arc<dyn KeySource>>,
        /// That its key was another one, and the number of that question.
        refused: Option<(u64, Error)>,
    },
    Opened(KeyedFile),
    ShutDown,
}

/// An open database, and whom to ask when its file has another key.
pub(super) struct KeyedFile {
    pub(super) opened: Arc<Opened>,
    source: Option<Arc<dyn KeySource>>,
    /// What came of the last question, and its number.
    refused: Option<(u64, Error)>,
}

/// So many refusals are answered on behalf of one call.
const REFUSALS: usize = 3;

/// So often the source is asked after each, while the file goes on changing: a try waits for whoever is changing the key, and
/// comes with the key of before then. Where one change follows the other at once, that is half of the tries.
const QUESTIONS: usize = 20;

/// How many questions were begun.
///
/// Relaxed, because it only tells earlier from later: they are begun under the lock of the connector's state, and
/// whoever comes after a question in any way that can be noticed sees its number. Whoever comes at the same time may see it or
/// not, and has the answer of that question, or asks one more. The answers themselves are read under the lock.
#[derive(Clone, Debug, Default)]
pub(super) struct Questions(Arc<AtomicU64>);

impl Questions {
    pub(super) fn begun(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What a connect began with.
struct KeyThen {
    key: Option<Arc<KeySpec>>,
    questions: u64,
}

/// What came of an answer.
enum Found {
    /// The database goes on with a key that was offered.
    Key,
    Nothing,
    /// No key fits, but the file was changed since the question.
    Changes,
}

impl KeyedFile {
    pub(super) fn new(opened: Arc<Opened>, source: Option<Arc<dyn KeySource>>) -> Self {
        let mut known = Self { opened, source: None, refused: None };
        known.go_on_with(source);
        known
    }

    /// Asks this one from now on, unless it could answer nothing else.
    pub(super) fn go_on_with(&mut self, source: Option<Arc<dyn KeySource>>) {
        self.source = source.filter(|source| !source.is_fixed());
    }
}

impl KnownFile {
    /// One that is opened with a key of this source, or with none.
    pub(super) fn new(key: Option<Arc<dyn KeySource>>) -> Self {
        let state = Arc::new(Mutex::new(State::Unopened { key, refused: None }));
        Self { state, questions: Questions::default(), key_source: Arc::default() }
    }

    /// A connection to the open database, with the key that its file has now.
    pub(super) async fn connection(&self, opened: Arc<Opened>, access: Access) -> Result<SqlCipherConnection> {
        for _ in 0..REFUSALS {
            let before = KeyThen { key: opened.key(), questions: self.questions.begun() };
            match SqlCipherConnection::open(Arc::clone(&opened), access).await {
                Err(error) if error.reason() == Reason::WrongKey => {
                    Box::pin(self.ask_again(&opened, before, error)).await?;
                }
                outcome => return outcome,
            }
        }
        SqlCipherConnection::open(opened, access).await
    }

    /// Sees to it that the open database has the key that its file has now.
    pub(super) async fn bring_up_to_date(&self, opened: &Arc<Opened>) -> Result<()> {
        let before = KeyThen { key: opened.key(), questions: self.questions.begun() };
        let looks = Arc::clone(opened);
        match on_thread(move || looks.look_at_key()).await? {
            Err(error) if error.reason() == Reason::WrongKey => self.ask_again(opened, before, error).await,
            outcome => outcome,
        }
    }

    /// Asks the source once for the key that the file has instead of the one before, whoever comes first; those who came
    /// before the question was begun have its answer. `refusal` is what the engine said to that key.
    async fn ask_again(&self, opened: &Arc<Opened>, before: KeyThen, refusal: Error) -> Result<()> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let State::Opened(known) = &mut *state else { return Err(closed()) };
        if opened.key().as_ref().map(Arc::as_ptr) != before.key.as_ref().map(Arc::as_ptr) {
            return Ok(());
        }
        if let Some((_, error)) = known.refused.as_ref().filter(|(number, _)| *number > before.questions) {
            return Err(error.clone());
        }
        let Some(source) = known.source.clone() else { return Err(refusal) };
        let number = self.questions.begin();
        let mut outcome = Ok(Found::Changes);
        for _ in 0..QUESTIONS {
            let looks = Arc::clone(opened);
            let then = on_thread(move || looks.first_bytes()).await?;
            let answer = keys::anew(&*source).await;
            let (tries, key_source) = (Arc::clone(opened), Arc::clone(&self.key_source));
            // Whoever asks next waits for it, also when the caller has gone away.
            (state, outcome) = on_thread(move || {
                let found = match answer {
                    Ok(candidates) => tries.with_another_key(candidates),
                    Err(error) => Err(error.context(diagnose::another_key(tries.location()))),
                };
                let outcome = found.map(|found| match found {
                    Some(name) => {
                        key_source.add(name);
                        Found::Key
                    }
                    None if tries.first_bytes() == then => Found::Nothing,
                    None => Found::Changes,
                });
                (state, outcome)
            })
            .await?;
            if !matches!(outcome, Ok(Found::Changes)) {
                break;
            }
        }
        let outcome = match outcome {
            Ok(Found::Key) => Ok(()),
            Ok(Found::Nothing | Found::Changes) => Err(diagnose::not_offered(opened.location(), &source.describe())),
            Err(error) => Err(error),
        };
        if let State::Opened(known) = &mut *state {
            known.refused = outcome.as_ref().err().map(|error| (number, error.clone()));
        }
        drop(state);
        outcome?;
        tracing::info!(database = %opened.location(), key_source = self.key_source.last(), "the file has another key now");
        Ok(())
    }
}

/// The names of all sources whose keys it has had; the last one is in use. They are only added, so that they can be lent.
#[derive(Debug, Default)]
pub(super) struct SourceNames(OnceLock<(String, Box<Self>)>);

impl SourceNames {
    pub(super) fn last(&self) -> Option<&str> {
        let (name, later) = self.0.get()?;
        later.last().or(Some(name))
    }

    /// One is added at a time.
    pub(super) fn add(&self, name: String) {
        match self.0.get() {
            Some((_, later)) => later.add(name),
            None => drop(self.0.set((name, Box::default()))),
        }
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the database was closed")
}
