//! What is kept between two calls, for how long, and what makes it be read anew.
#![cfg(all(feature = "sops", unix))]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsBackend, SopsFormat, encrypt};
use strongroom::{KeySource, Reason, Secret, SopsKeySource};
use tempfile::TempDir;

/// A SOPS file whose identity stands in a file beside it: without that file nothing can be read anew.
struct House {
    folder: TempDir,
    identity: AgeIdentity,
}

impl House {
    fn new() -> Self {
        let house = Self { folder: tempfile::tempdir().unwrap(), identity: AgeIdentity::generate() };
        house.identity.write(house.keys()).unwrap();
        house.write("one");
        house
    }

    fn keys(&self) -> PathBuf {
        self.folder.path().join("keys.txt")
    }

    fn write(&self, value: &str) {
        let values = [("db_key", &Secret::new(value)), ("other", &Secret::new("other value"))];
        let text = encrypt(SopsFormat::Yaml, &values, &[self.identity.recipient()]).unwrap();
        fs::write(self.folder.path().join("s.yaml"), text).unwrap();
    }

    fn source(&self) -> SopsKeySource {
        let identities = IdentitySources::none().file(self.keys());
        SopsKeySource::at(self.folder.path().join("s.yaml")).identities(identities)
    }
}

async fn value(source: &SopsKeySource) -> Result<String, Reason> {
    let secret = source.resolve().await.map_err(|error| error.reason())?;
    Ok(String::from_utf8(secret.expose().to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_kept_for_300_seconds() {
    let house = House::new();
    let source = house.source();
    assert_eq!(value(&source).await, Ok("one".into()));
    fs::remove_file(house.keys()).unwrap();
    tokio::time::advance(Duration::from_secs(299)).await;
    assert_eq!(value(&source).await, Ok("one".into()));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(value(&source).await, Err(Reason::Locked));
}

/// As an engine tells it that refuses the secret: the stamp of a file is no proof that it has not changed.
#[tokio::test]
async fn what_is_to_be_forgotten_is_read_anew() {
    let house = House::new();
    let source = house.source();
    assert_eq!(value(&source).await, Ok("one".into()));
    fs::remove_file(house.keys()).unwrap();
    assert_eq!(value(&source.clone()).await, Ok("one".into()));
    KeySource::forget(&source.clone());
    assert_eq!(value(&source).await, Err(Reason::Locked));
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_read_anew() {
    let house = House::new();
    let source = house.source();
    assert_eq!(value(&source).await, Ok("one".into()));
    house.write("two");
    assert_eq!(value(&source).await, Ok("two".into()));
    // Replaced by another file, as editors and `sops` itself do.
    let new = house.folder.path().join("new.yaml");
    fs::copy(house.folder.path().join("s.yaml"), &new).unwrap();
    fs::rename(new, house.folder.path().join("s.yaml")).unwrap();
    fs::remove_file(house.keys()).unwrap();
    assert_eq!(value(&source).await, Err(Reason::Locked));
}

#[tokio::test(start_paused = true)]
async fn a_removed_file_has_no_key_any_more() {
    let house = House::new();
    let source = house.source();
    assert_eq!(value(&source).await, Ok("one".into()));
    fs::remove_file(house.folder.path().join("s.yaml")).unwrap();
    assert_eq!(value(&source).await, Err(Reason::Missing));
}

#[tokio::test(start_paused = true)]
async fn a_time_of_zero_keeps_nothing_and_no_time_is_longer_than_an_hour() {
    let house = House::new();
    let (none, long) = (house.source().ttl(Duration::ZERO), house.source().ttl(Duration::from_secs(1 << 40)));
    assert_eq!(value(&none).await, Ok("one".into()));
    assert_eq!(value(&long).await, Ok("one".into()));
    fs::remove_file(house.keys()).unwrap();
    assert_eq!(value(&none).await, Err(Reason::Locked));
    tokio::time::advance(Duration::from_secs(3599)).await;
    assert_eq!(value(&long).await, Ok("one".into()));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(value(&long).await, Err(Reason::Locked));
}

#[tokio::test(start_paused = true)]
async fn clones_share_what_is_kept_until_a_setting_parts_them() {
    let house = House::new();
    let source = house.source();
    assert_eq!(value(&source).await, Ok("one".into()));
    let other = source.clone().key_path("other".parse().unwrap());
    assert_eq!(value(&other).await, Ok("other value".into()));
    fs::remove_file(house.keys()).unwrap();
    assert_eq!(value(&source.clone()).await, Ok("one".into()));
    let native = source.backend(SopsBackend::Native);
    assert_eq!(value(&native).await, Err(Reason::Locked));
}

#[tokio::test]
async fn a_source_that_is_dropped_leaves_no_timer_behind() {
    let house = House::new();
    let source = house.source();
    assert_eq!(value(&source).await, Ok("one".into()));
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks(), 1, "the timer that ends what is kept");
    house.write("two");
    assert_eq!(value(&source).await, Ok("two".into()));
    tokio::task::yield_now().await;
    assert_eq!(tasks(), 1, "one for what is kept now");
    drop(source);
    tokio::task::yield_now().await;
    assert_eq!(tasks(), 0);
}

#[tokio::test]
async fn a_refusal_is_not_kept() {
    let house = House::new();
    let source = house.source();
    fs::remove_file(house.keys()).unwrap();
    assert_eq!(value(&source).await, Err(Reason::Locked));
    house.identity.write(house.keys()).unwrap();
    assert_eq!(value(&source).await, Ok("one".into()));
}

#[tokio::test]
async fn many_who_ask_at_once_read_the_file_once() {
    let house = House::new();
    let calls = house.folder.path().join("calls");
    let program = house.folder.path().join("fake-sops");
    fs::write(&program, format!("#!/bin/sh\necho x >> {}\nprintf value\n", calls.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let source = Arc::new(house.source().backend(SopsBackend::Binary).program(program));
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let source = Arc::clone(&source);
            tokio::spawn(async move { value(&source).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok("value".into()));
    }
    assert_eq!(fs::read_to_string(calls).unwrap(), "x\n");
}

#[tokio::test]
async fn whoever_stops_waiting_does_not_stop_the_others() {
    let house = House::new();
    let source = house.source();
    for _ in 0..50 {
        let fresh = source.clone().ttl(Duration::from_secs(60));
        // Dropped at whichever await it stands.
        let _ = tokio::time::timeout(Duration::from_micros(fastrand::u64(0..800)), fresh.resolve()).await;
        assert_eq!(value(&fresh).await, Ok("one".into()));
    }
}

#[test]
fn nothing_is_kept_beyond_the_runtime_whose_clock_would_end_it() {
    let house = House::new();
    let source = house.source();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    assert_eq!(first.block_on(value(&source)), Ok("one".into()));
    fs::remove_file(house.keys()).unwrap();
    assert_eq!(first.block_on(value(&source)), Ok("one".into()));
    drop(first);
    assert_eq!(runtime().block_on(value(&source)), Err(Reason::Locked));
}

#[tokio::test]
async fn describe_names_file_and_path_and_nothing_else() {
    let house = House::new();
    let file = house.folder.path().join("s.yaml");
    assert_eq!(house.source().describe(), format!("`db_key` in the SOPS file {}", file.display()));
    let shown = format!("{:?}", house.source().identity(house.identity.secret().clone()));
    assert!(!shown.contains("AGE-SECRET"), "{shown}");
    house.source().resolve().await.unwrap();
}
