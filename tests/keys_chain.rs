//! Key sources asked one after another, and the order of a configured key.

use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use strongroom::{
    ChainKeySource, EnvKeySource, Error, ErrorKind, KeySource, PassphraseKeySource, Reason, Result, Secret,
    resolve_cipher_key,
};

/// Fails with a reason, or gives a secret, and counts the calls.
#[derive(Clone, Debug, Default)]
struct Source {
    name: &'static str,
    secret: Option<&'static str>,
    reason: Option<Reason>,
    calls: Arc<AtomicUsize>,
}

impl Source {
    fn failing(name: &'static str, reason: Reason) -> Self {
        Self { name, reason: Some(reason), ..Self::default() }
    }

    fn giving(name: &'static str, secret: &'static str) -> Self {
        Self { name, secret: Some(secret), ..Self::default() }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

#[strongroom::keys::async_trait]
impl KeySource for Source {
    async fn resolve(&self) -> Result<Secret> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let error = || Error::new(ErrorKind::Key, format!("{} has nothing", self.name));
        self.secret.map(Secret::new).ok_or_else(|| error().because(self.reason.unwrap_or(Reason::Missing)))
    }

    fn describe(&self) -> String {
        self.name.into()
    }
}

#[tokio::test]
async fn the_first_that_answers_wins_and_the_later_ones_are_not_touched() {
    let (first, second, third) =
        (Source::failing("a", Reason::Missing), Source::giving("b", "B"), Source::giving("c", "C"));
    let chain = ChainKeySource::new(first.clone()).or(second.clone()).or(third.clone());
    assert_eq!(chain.resolve().await.unwrap().expose(), b"B");
    assert_eq!((first.calls(), second.calls(), third.calls()), (1, 1, 0));
}

#[tokio::test]
async fn an_empty_secret_is_no_answer() {
    let chain = ChainKeySource::new(PassphraseKeySource::new("")).or(Source::giving("b", "B"));
    assert_eq!(chain.resolve().await.unwrap().expose(), b"B");
    let chain = ChainKeySource::new(PassphraseKeySource::new(""));
    assert_eq!(chain.resolve().await.unwrap_err().reason(), Reason::Empty);
}

#[tokio::test]
async fn the_error_lists_every_try_and_keeps_the_telling_one() {
    let chain = ChainKeySource::new(Source::failing("a", Reason::Missing))
        .or(Source::failing("b", Reason::Exposed))
        .or(Source::failing("c", Reason::Tampered));
    let error = chain.resolve().await.unwrap_err();
    assert_eq!(error.to_string(), "no key source answered: a (Missing), b (Exposed), c (Tampered)");
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Exposed));
    assert_eq!(error.source().unwrap().to_string(), "b has nothing");
    assert_eq!(chain.describe(), "a, then b, then c");
}

#[tokio::test]
async fn chains_nest() {
    let inner = ChainKeySource::new(Source::failing("a", Reason::Missing)).or(Source::failing("b", Reason::Empty));
    let outer = ChainKeySource::new(inner).or(Source::giving("c", "C"));
    assert_eq!(outer.resolve().await.unwrap().expose(), b"C");
}

#[test]
fn debug_names_the_sources_and_shows_no_secret() {
    let chain = ChainKeySource::new(PassphraseKeySource::new("hunter2")).or(EnvKeySource::new("DB_KEY"));
    let shown = format!("{chain:?}");
    assert!(shown.contains("DB_KEY") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_configured_key_comes_from_the_first_place_given() {
    let nowhere = (Path::new("no/such/file.yml"), "db_key");
    let given = resolve_cipher_key(Some(Secret::new("typed")), Some("NEVER_SET_KEY"), Some(nowhere)).await.unwrap();
    assert_eq!(given.unwrap().expose(), b"typed");
    let error = resolve_cipher_key(None, Some("NEVER_SET_KEY"), Some(nowhere)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Missing);
    assert!(error.to_string().contains("NEVER_SET_KEY"), "the SOPS file must not be touched: {error}");
    assert!(resolve_cipher_key(None, None, Some(nowhere)).await.is_err());
    assert!(resolve_cipher_key(None, None, None).await.unwrap().is_none());
}

#[tokio::test]
async fn an_empty_passphrase_never_means_plaintext() {
    let error = resolve_cipher_key(Some(Secret::new("")), None, None).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Empty));
}

const REASONS: [Reason; 4] = [Reason::Missing, Reason::Empty, Reason::Tampered, Reason::ProgramFailed];

/// A source that gives a secret, an empty one included, or fails.
fn any_source() -> impl Strategy<Value = Source> {
    prop_oneof![
        prop::sample::select(vec!["", "", "hunter2", "hunter3"]).prop_map(|secret| Source::giving("gives", secret)),
        prop::sample::select(REASONS.to_vec()).prop_map(|reason| Source::failing("fails", reason)),
    ]
}

fn chain(sources: &[Source]) -> Option<ChainKeySource> {
    let (first, rest) = sources.split_first()?;
    Some(rest.iter().fold(ChainKeySource::new(first.clone()), |chain, source| chain.or(source.clone())))
}

fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn a_chain_gives_the_first_secret_and_asks_nobody_behind_it(
        sources in prop::collection::vec(any_source(), 1..6),
        inner in any::<prop::sample::Index>(),
    ) {
        // The last ones as a chain in the chain, which changes nothing.
        let (outer, inner) = sources.split_at(inner.index(sources.len()));
        let chain = match (chain(outer), chain(inner)) {
            (Some(outer), Some(inner)) => outer.or(inner),
            (outer, inner) => outer.or(inner).unwrap(),
        };
        let answer = now(chain.resolve());
        let shown = format!("{chain:?} {} {answer:?}", chain.describe());
        prop_assert!(!shown.contains("hunter"), "{}", shown);
        let first = sources.iter().position(|source| source.secret.is_some_and(|secret| !secret.is_empty()));
        for (number, source) in sources.iter().enumerate() {
            prop_assert_eq!(source.calls(), usize::from(first.is_none_or(|first| number <= first)));
        }
        match (first, answer) {
            (Some(first), Ok(secret)) => prop_assert_eq!(secret.expose(), sources[first].secret.unwrap().as_bytes()),
            (None, Err(error)) => {
                let mut reasons = sources.iter().map(|source| source.reason.unwrap_or(Reason::Empty));
                let telling = reasons.find(|reason| *reason != Reason::Missing).unwrap_or(Reason::Missing);
                prop_assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, telling));
            }
            (first, answer) => prop_assert!(false, "{:?}, but {:?}", answer, first),
        }
    }

    #[test]
    fn a_configured_key_is_that_of_the_first_place_and_of_no_other(
        passphrase in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        variable in prop::option::of(prop_oneof!["[A-Z=\\PC]{0,12}", Just("PATH".to_owned()), Just("a\0b".to_owned())]),
        key in prop::option::of("\\PC{0,12}"),
    ) {
        let nowhere = Path::new("no/such/file.yml");
        let sops = key.as_deref().map(|key| (nowhere, key));
        let answer = now(resolve_cipher_key(passphrase.as_deref().map(Secret::new), variable.as_deref(), sops));
        let answer = answer.map(|secret| secret.map(|secret| secret.expose().to_vec())).map_err(|error| error.kind());
        let expected = match (passphrase, variable, key) {
            (Some(passphrase), ..) => if passphrase.is_empty() { Err(ErrorKind::Key) } else { Ok(Some(passphrase)) },
            (None, Some(name), _) => {
                let value = std::env::var_os(name).filter(|value| !value.is_empty()).ok_or(ErrorKind::Key);
                value.map(|value| Some(value.into_encoded_bytes()))
            }
            (None, None, Some(_)) => Err(if cfg!(feature = "sops") { ErrorKind::Key } else { ErrorKind::Unsupported }),
            (None, None, None) => Ok(None),
        };
        prop_assert_eq!(answer, expected);
    }
}
