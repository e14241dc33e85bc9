//! Secrets remembered for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use strongroom::{CachedKeySource, Error, ErrorKind, KeySource, PassphraseKeySource, Result, Secret};
use tokio::time::{advance, sleep};

const LIFETIME: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(1);

/// Answers after a second with the number of the call; the calls named in `failing` fail, those in `panicking` panic.
#[derive(Default)]
struct Slow {
    calls: AtomicUsize,
    failing: Vec<usize>,
    panicking: Vec<usize>,
}

/// A handle that the test keeps, too.
#[derive(Clone, Default)]
struct Source(Arc<Slow>);

impl Source {
    fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }
}

#[strongroom::keys::async_trait]
impl KeySource for Source {
    async fn resolve(&self) -> Result<Secret> {
        let call = self.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
        sleep(ANSWER).await;
        assert!(!self.0.panicking.contains(&call), "call {call}");
        if self.0.failing.contains(&call) {
            return Err(Error::new(ErrorKind::Key, format!("call {call} failed")));
        }
        Ok(Secret::new(format!("secret {call}")))
    }

    fn describe(&self) -> String {
        "the slow source".into()
    }
}

fn text(secret: Result<Secret>) -> String {
    secret.map_or_else(|error| error.to_string(), |secret| String::from_utf8(secret.expose().to_vec()).unwrap())
}

#[test]
fn outside_of_a_runtime_with_timers_the_source_answers_and_nothing_is_remembered() {
    struct Quick(AtomicUsize);

    #[strongroom::keys::async_trait]
    impl KeySource for Quick {
        async fn resolve(&self) -> Result<Secret> {
            Ok(Secret::new(format!("secret {}", self.0.fetch_add(1, Ordering::SeqCst) + 1)))
        }

        fn describe(&self) -> String {
            "the quick source".into()
        }
    }

    let cached = CachedKeySource::new(Quick(AtomicUsize::new(0)), LIFETIME);
    let without_timers = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let with_timers = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert_eq!(text(cached.resolve().now_or_never().unwrap()), "secret 1");
    assert_eq!(text(cached.resolve().now_or_never().unwrap()), "secret 2");
    assert_eq!(cached.candidates().now_or_never().unwrap().unwrap().len(), 1);
    assert_eq!(text(without_timers.block_on(cached.resolve())), "secret 4");
    assert_eq!(text(without_timers.block_on(cached.resolve())), "secret 5");
    assert_eq!(text(with_timers.block_on(cached.resolve())), "secret 6");
    assert_eq!(text(cached.resolve().now_or_never().unwrap()), "secret 6", "while the runtime lives");
    drop(with_timers);
    assert_eq!(text(cached.resolve().now_or_never().unwrap()), "secret 7");
}

#[tokio::test(start_paused = true)]
async fn the_source_is_asked_once_within_the_lifetime() {
    let source = Source::default();
    let cached = CachedKeySource::new(source.clone(), LIFETIME);
    assert_eq!(text(cached.resolve().await), "secret 1");
    advance(Duration::from_millis(59_999)).await;
    assert_eq!(text(cached.clone().resolve().await), "secret 1");
    advance(Duration::from_millis(1)).await;
    assert_eq!(text(cached.resolve().await), "secret 2");
    assert_eq!(source.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn callers_that_come_together_share_one_flight() {
    let source = Source::default();
    let cached = CachedKeySource::new(source.clone(), LIFETIME);
    let calls: Vec<_> = (0..50)
        .map(|_| {
            tokio::spawn({
                let cached = cached.clone();
                async move { cached.resolve().await }
            })
        })
        .collect();
    for call in calls {
        assert_eq!(text(call.await.unwrap()), "secret 1");
    }
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_flight_does_not_poison_those_who_wait() {
    let source = Source(Arc::new(Slow { failing: vec![1], ..Slow::default() }));
    let cached = CachedKeySource::new(source.clone(), LIFETIME);
    let (first, second) = tokio::join!(cached.resolve(), cached.resolve());
    assert_eq!((text(first).as_str(), text(second).as_str()), ("call 1 failed", "secret 2"));
    assert_eq!(text(cached.resolve().await), "secret 2");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_flight_does_not_poison_those_who_wait() {
    let source = Source::default();
    let cached = CachedKeySource::new(source.clone(), LIFETIME);
    let hasty = tokio::time::timeout(ANSWER / 2, cached.resolve());
    let (dropped, waited) = tokio::join!(hasty, cached.resolve());
    assert!(dropped.is_err());
    assert_eq!(text(waited), "secret 2");
}

#[tokio::test(start_paused = true)]
async fn a_panicking_flight_does_not_poison_those_who_wait() {
    let source = Source(Arc::new(Slow { panicking: vec![1], ..Slow::default() }));
    let cached = CachedKeySource::new(source.clone(), LIFETIME);
    let flight = tokio::spawn({
        let cached = cached.clone();
        async move { cached.resolve().await }
    });
    tokio::task::yield_now().await;
    assert_eq!(text(cached.resolve().await), "secret 2");
    assert!(flight.await.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_remembered_for_no_time_and_for_ever_is_no_overflow() {
    let source = Source::default();
    let never = CachedKeySource::new(source.clone(), Duration::ZERO);
    assert_eq!((text(never.resolve().await), text(never.resolve().await)), ("secret 1".into(), "secret 2".into()));
    let for_ever = CachedKeySource::new(source.clone(), Duration::MAX);
    assert_eq!(
        (text(for_ever.resolve().await), text(for_ever.resolve().await)),
        ("secret 3".into(), "secret 3".into())
    );
}

#[tokio::test(start_paused = true)]
async fn debug_names_the_source_and_shows_no_secret() {
    let cached = CachedKeySource::new(Source::default(), LIFETIME);
    cached.resolve().await.unwrap();
    let shown = format!("{cached:?}");
    assert!(shown.contains("the slow source, remembered for 60s") && !shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn a_dropped_source_leaves_no_timer_behind() {
    let source = CachedKeySource::new(PassphraseKeySource::new("key"), Duration::from_secs(60));
    source.resolve().await.unwrap();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks(), 1, "the timer that ends what is kept");
    drop(source);
    tokio::task::yield_now().await;
    assert_eq!(tasks(), 0);
}
