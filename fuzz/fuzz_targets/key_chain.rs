//! Any chain of key sources answers with the first secret that is not empty, and asks nobody behind it. If nobody
//! answers, the error names every source and keeps the reason of the first that found more than nothing. Nothing that
//! can be printed holds a secret.
//!
//! The first byte says where the chain in the chain begins; then each line is a source, its first byte the kind.
#![no_main]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use strongroom::keys::async_trait;
use strongroom::{ChainKeySource, Error, ErrorKind, KeySource, Reason, Result, Secret};

const REASONS: [Reason; 8] = [
    Reason::Missing,
    Reason::Empty,
    Reason::Malformed,
    Reason::Exposed,
    Reason::Tampered,
    Reason::Locked,
    Reason::ProgramFailed,
    Reason::Unspecified,
];

/// What a secret can be told by.
const MARK: &str = "zq-secret-zq";

/// A source that gives what it was made with, and counts.
#[derive(Clone)]
struct Link {
    name: String,
    answer: Result<Secret, Reason>,
    asked: Arc<AtomicUsize>,
}

impl Link {
    fn new(number: usize, line: &[u8]) -> Self {
        let (kind, text) = line.split_first().unwrap_or((&b'?', b""));
        let answer = match kind {
            b'm' => Ok(Secret::new([MARK.as_bytes(), text].concat())),
            b'p' => Ok(Secret::new(text)),
            b'r' => Ok(Secret::raw_key(std::array::from_fn(|at| text.get(at).copied().unwrap_or(7)))),
            kind => Err(REASONS[usize::from(*kind) % REASONS.len()]),
        };
        Self { name: format!("link {number}"), answer, asked: Arc::default() }
    }

    /// The reason why this one gives nothing.
    fn refusal(&self) -> Option<Reason> {
        match &self.answer {
            Ok(secret) => secret.is_empty().then_some(Reason::Empty),
            Err(reason) => Some(*reason),
        }
    }
}

#[async_trait]
impl KeySource for Link {
    async fn resolve(&self) -> Result<Secret> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.answer.clone().map_err(|reason| Error::new(ErrorKind::Key, "nothing here").because(reason))
    }

    fn describe(&self) -> String {
        self.name.clone()
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((inner, lines)) = input.split_first() else { return };
    let lines = lines.split(|byte| *byte == b'\n').enumerate();
    let links: Vec<_> = lines.map(|(number, line)| Link::new(number, line)).collect();
    // The last ones as a chain in the chain, which changes nothing.
    let (outer, inner) = links.split_at(usize::from(*inner) % links.len());
    let chain = match (chain(outer), chain(inner)) {
        (Some(outer), Some(inner)) => outer.or(inner),
        (outer, inner) => outer.or(inner).unwrap(),
    };
    let answer = now(chain.resolve());
    let shown = format!("{chain:?} {} {answer:?}", chain.describe());
    assert!(!shown.contains(MARK), "{shown}");
    let first = links.iter().position(|link| link.refusal().is_none());
    for (number, link) in links.iter().enumerate() {
        let asked = usize::from(first.is_none_or(|first| number <= first));
        assert_eq!(link.asked.load(Ordering::Relaxed), asked, "link {number}, first {first:?}");
    }
    match (first.map(|first| &links[first].answer), answer) {
        (Some(Ok(wanted)), Ok(secret)) => {
            assert_eq!((secret.expose(), secret.form()), (wanted.expose(), wanted.form()));
        }
        (None, Err(error)) => {
            let reasons = || links.iter().filter_map(Link::refusal);
            let telling = reasons().find(|reason| *reason != Reason::Missing).unwrap_or(Reason::Missing);
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, telling));
            assert!(outer.iter().all(|link| shown.contains(&link.name)), "{shown}");
        }
        (wanted, answer) => panic!("{answer:?} instead of {wanted:?}"),
    }
});

fn chain(links: &[Link]) -> Option<ChainKeySource> {
    let (first, rest) = links.split_first()?;
    Some(rest.iter().fold(ChainKeySource::new(first.clone()), |chain, link| chain.or(link.clone())))
}

/// The result of a future that has nothing to wait for.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the chain waits for nothing"),
    }
}
