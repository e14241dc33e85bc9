//! Key sources asked one after another, and the order of a configured key.

use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use strongroom::{
    ChainKeySource, EnvKeySource, Error, ErrorKind, KeySource, PassphraseKeySource, Reason, Result, Secret,
    resolve_cipher_key,
};

/// Fails with a reason, or gives a secret, and counts the calls.
#[derive(Clone, Default)]
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

#[strongroom::async_trait]
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
