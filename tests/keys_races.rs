//! Changes of key at the same time: whatever comes between two steps of one, the database opens with its source.
#![cfg(all(feature = "sqlcipher", feature = "sops", target_os = "linux"))]

#[path = "common/cipher.rs"]
mod cipher;
#[path = "common/stands.rs"]
mod stands;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cipher::{create, read};
use stands::{Stand, StandsAt};
use strongroom::keys::sops::{AgeIdentity, IdentitySources};
use strongroom::keys::{ChainKeySource, KeyCandidate, async_trait};
use strongroom::pool::NoRetry;
use strongroom::{
    AsyncDatabase, DatabaseBuilder, ErrorKind, FileKeySource, KeySource, Reason, Result, Secret, SopsKeySource,
    SqlCipherConnector,
};
use tempfile::TempDir;
use tokio::sync::Notify;

fn with(path: &Path, source: impl KeySource + 'static) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path).key(source).cipher_kdf_iter(1000).retry(NoRetry)
}

struct Home {
    directory: TempDir,
    identity: AgeIdentity,
}

impl Home {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), identity: AgeIdentity::generate() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self) -> FileKeySource {
        FileKeySource::new(self.at("app.key")).raw_key().create_if_missing(true)
    }

    fn sops(&self) -> SopsKeySource {
        let identities = IdentitySources::none().secret(self.identity.secret().clone());
        let source = SopsKeySource::at(self.at("app.yaml")).identities(identities);
        source.create_if_missing(true).recipients([self.identity.recipient()])
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn offered(source: &impl KeySource) -> Vec<Vec<u8>> {
    let candidates = source.candidates().await.unwrap();
    candidates.iter().map(|candidate| candidate.secret.expose().to_vec()).collect()
}

/// Has one settle `secret` and stand still at a call; `between` comes then.
fn settles<T: Send>(
    stand: &Stand,
    source: &(impl KeySource + Clone),
    secret: &Secret,
    between: impl AsyncFnOnce() -> T + Send,
) -> T {
    std::thread::scope(|threads| {
        let settles = threads.spawn(|| {
            let settled = run(source.settle(secret));
            stand.go_on();
            settled.unwrap();
        });
        stand.reached();
        let between = threads.spawn(|| {
            let done = run(between());
            stand.go_on();
            done
        });
        settles.join().unwrap();
        between.join().unwrap()
    })
}

#[test]
fn who_settles_a_value_removes_none_that_was_made_since() {
    let _one_at_a_time = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let home = Home::new();
    run(create(with(&home.at("app.db"), home.sops())));
    let made = run(KeySource::replace(&home.sops())).unwrap();
    let stand = Stand::at(StandsAt::Unlink, "app.yaml.next");
    let other = home.sops();
    let next = settles(&stand, &home.sops(), &made, async move || KeySource::replace(&other).await.unwrap());
    assert_eq!(run(offered(&home.sops())), [made.expose(), next.expose()]);
}

#[test]
fn who_settles_a_key_file_puts_no_other_secret_in_its_place() {
    let _one_at_a_time = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let home = Home::new();
    run(create(with(&home.at("app.db"), home.file())));
    let made = run(home.file().replace()).unwrap();
    let stand = Stand::at(StandsAt::RenameFrom, "app.key.next");
    let (other, settled) = (home.file(), made.clone());
    let next = settles(&stand, &home.file(), &made, async move || {
        other.settle(&settled).await.unwrap();
        other.replace().await.unwrap()
    });
    assert_eq!(run(offered(&home.file())), [made.expose(), next.expose()]);
}

/// Only the system's own call that replaces nothing is left then.
#[test]
fn who_makes_a_secret_at_the_same_time_has_the_same_one_where_there_are_neither_links_nor_locks() {
    let _one_at_a_time = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let home = Home::new();
    stands::poor(home.directory.path());
    for (source, second) in [
        (Arc::new(home.file()) as Arc<dyn KeySource>, "app.key.next"),
        (Arc::new(home.sops()) as Arc<dyn KeySource>, "app.yaml.next"),
    ] {
        let stand = Stand::at(StandsAt::RenameTo, second);
        let [one, other] = std::thread::scope(|threads| {
            let one = threads.spawn(|| {
                let made = run(source.create()).unwrap().unwrap();
                stand.go_on();
                made
            });
            stand.reached_or_over();
            let other = run(source.create()).unwrap().unwrap();
            stand.go_on();
            [one.join().unwrap(), other]
        });
        assert_eq!(one.expose(), other.expose(), "{second}");
        assert_eq!(run(offered(&source)), [one.expose()], "{second}");
    }
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Stands still between an answer of a source and its caller: the first time that the candidates are asked for.
struct Slow {
    source: FileKeySource,
    stands: Arc<Notify>,
    goes_on: Arc<Notify>,
    /// So many answers come at once first.
    skip: Mutex<usize>,
}

impl Slow {
    fn new(source: FileKeySource, skip: usize) -> (Self, Arc<Notify>, Arc<Notify>) {
        let (stands, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        (Self { source, stands: stands.clone(), goes_on: goes_on.clone(), skip: Mutex::new(skip) }, stands, goes_on)
    }
}

#[async_trait]
impl KeySource for Slow {
    async fn resolve(&self) -> Result<Secret> {
        self.source.resolve().await
    }

    fn describe(&self) -> String {
        self.source.describe()
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        let answer = self.source.candidates().await;
        let left = std::mem::replace(&mut *self.skip.lock().unwrap(), usize::MAX);
        if left == 0 {
            self.stands.notify_one();
            self.goes_on.notified().await;
        } else if left != usize::MAX {
            *self.skip.lock().unwrap() = left - 1;
        }
        answer
    }

    async fn replace(&self) -> Result<Secret> {
        self.source.replace().await
    }

    async fn settle(&self, secret: &Secret) -> Result<()> {
        self.source.settle(secret).await
    }
}

#[tokio::test]
async fn a_change_that_comes_late_does_not_bring_back_a_key_that_another_has_replaced() {
    let home = Home::new();
    create(with(&home.at("app.db"), home.file())).await;
    let db = with(&home.at("app.db"), home.file()).open().await.unwrap();
    let (slow, stands, goes_on) = Slow::new(home.file(), 0);
    let late = tokio::spawn({
        let db = db.clone();
        async move { db.rekey_fresh(slow).await }
    });
    stands.notified().await;
    // The one that the late call has been given, and one after it.
    db.rekey_fresh(home.file()).await.unwrap();
    db.rekey_fresh(home.file()).await.unwrap();
    goes_on.notify_one();
    let error = late.await.unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::Busy && error.is_transient(), "{error}");
    assert!(error.to_string().contains("has a later key than the one that it made for this call"), "{error}");
    db.close().await.unwrap();
    assert_eq!(read(with(&home.at("app.db"), home.file())).await.unwrap(), "row");
    assert_eq!(fs::read_dir(home.directory.path()).unwrap().count(), 2);
}

/// The other change is between the encryption and the end, when both of its keys are offered.
#[tokio::test]
async fn a_change_that_comes_late_does_not_take_the_database_back_from_one_that_is_not_settled() {
    let home = Home::new();
    create(with(&home.at("app.db"), home.file())).await;
    let db = with(&home.at("app.db"), home.file()).open().await.unwrap();
    let (slow, stands, goes_on) = Slow::new(home.file(), 0);
    let late = tokio::spawn({
        let db = db.clone();
        async move { db.rekey_fresh(slow).await }
    });
    stands.notified().await;
    db.rekey_fresh(home.file()).await.unwrap();
    let next = home.file().replace().await.unwrap();
    db.rekey(next.clone()).await.unwrap();
    goes_on.notify_one();
    assert_eq!(late.await.unwrap().unwrap_err().kind(), ErrorKind::Busy);
    home.file().settle(&next).await.unwrap();
    db.close().await.unwrap();
    assert_eq!(read(with(&home.at("app.db"), home.file())).await.unwrap(), "row");
}

#[tokio::test]
async fn calls_at_once_that_were_given_the_same_key_both_come_to_their_end() {
    let home = Home::new();
    create(with(&home.at("app.db"), home.file())).await;
    let db = with(&home.at("app.db"), home.file()).open().await.unwrap();
    let (slow, stands, goes_on) = Slow::new(home.file(), 0);
    let late = tokio::spawn({
        let db = db.clone();
        async move { db.rekey_fresh(slow).await }
    });
    stands.notified().await;
    db.rekey_fresh(home.file()).await.unwrap();
    goes_on.notify_one();
    late.await.unwrap().unwrap();
    db.close().await.unwrap();
    assert_eq!(read(with(&home.at("app.db"), home.file())).await.unwrap(), "row");
    assert_eq!(offered(&home.file()).await.len(), 1);
}

#[tokio::test]
async fn a_source_that_has_another_key_by_the_time_of_the_change_keeps_the_old_one_in_use() {
    let home = Home::new();
    create(with(&home.at("app.db"), Secret::raw_key([1; 32]))).await;
    let db = with(&home.at("app.db"), Secret::raw_key([1; 32])).open().await.unwrap();
    home.file().create().await.unwrap();
    let (slow, stands, goes_on) = Slow::new(home.file(), 0);
    let late = tokio::spawn({
        let db = db.clone();
        async move { db.rekey(slow).await }
    });
    stands.notified().await;
    fs::remove_file(home.at("app.key.next")).unwrap();
    home.file().create().await.unwrap();
    goes_on.notify_one();
    let error = late.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("the key was not changed: key file"), "{error}");
    assert!(error.kind() == ErrorKind::Key && error.is_transient(), "{error}");
    assert_eq!(db.fetch_value::<String>("SELECT a FROM t", ()).await.unwrap().as_deref(), Some("row"));
    db.close().await.unwrap();
    assert_eq!(read(with(&home.at("app.db"), Secret::raw_key([1; 32]))).await.unwrap(), "row");
}

/// Somebody exchanges what is stored, just before the new key is to take its place.
struct Exchanged<K> {
    source: K,
    exchange: Box<dyn Fn() + Send + Sync>,
}

#[async_trait]
impl<K: KeySource> KeySource for Exchanged<K> {
    async fn resolve(&self) -> Result<Secret> {
        self.source.resolve().await
    }

    fn describe(&self) -> String {
        self.source.describe()
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        self.source.candidates().await
    }

    async fn replace(&self) -> Result<Secret> {
        self.source.replace().await
    }

    async fn settle(&self, secret: &Secret) -> Result<()> {
        (self.exchange)();
        self.source.settle(secret).await
    }
}

async fn exchanged<K: KeySource + Clone + 'static>(home: &Home, source: K, second: &str) {
    create(with(&home.at("app.db"), source.clone())).await;
    let db = with(&home.at("app.db"), source.clone()).open().await.unwrap();
    let second = home.at(second);
    let exchange = Box::new(move || fs::remove_file(&second).unwrap());
    // Others in a chain neither have it nor get it.
    let chain = ChainKeySource::new(Exchanged { source: source.clone(), exchange });
    let error = db.rekey_fresh(chain).await.unwrap_err();
    let text = format!("{error}");
    assert!(text.contains("the database has the new key now, but ") && text.contains("has another key"), "{text}");
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::WrongKey), "{text}");
    db.close().await.unwrap();
    let db = with(&home.at("app.db"), source.clone()).open().await.unwrap();
    db.rekey_fresh(source.clone()).await.unwrap();
    db.close().await.unwrap();
    assert_eq!(offered(&source).await.len(), 1);
    assert_eq!(read(with(&home.at("app.db"), source)).await.unwrap(), "row");
}

#[tokio::test]
async fn a_key_that_its_source_has_lost_by_the_end_of_the_change_is_stored_again_and_that_is_said() {
    let home = Home::new();
    exchanged(&home, home.file(), "app.key.next").await;
    let home = Home::new();
    exchanged(&home, home.sops(), "app.yaml.next").await;
    let home = Home::new();
    let passphrase = FileKeySource::new(home.at("app.key")).create_if_missing(true);
    exchanged(&home, passphrase, "app.key.next").await;
}

/// Where the second name has been given to another secret, nothing is written over.
#[tokio::test]
async fn a_key_that_cannot_be_stored_again_is_in_use_until_the_handle_gets_one_that_is() {
    let home = Home::new();
    create(with(&home.at("app.db"), home.file())).await;
    let db = with(&home.at("app.db"), home.file()).open().await.unwrap();
    let second = home.at("app.key.next");
    let other = second.clone();
    let exchange = Box::new(move || fs::write(&other, "5a".repeat(32)).unwrap());
    let error = db.rekey_fresh(Exchanged { source: home.file(), exchange }).await.unwrap_err();
    assert!(error.advice().unwrap().contains("before this handle is closed"), "{error:?}");
    assert_eq!(fs::read_to_string(&second).unwrap(), "5a".repeat(32));
    db.rekey_fresh(home.file()).await.unwrap();
    db.close().await.unwrap();
    assert_eq!(read(with(&home.at("app.db"), home.file())).await.unwrap(), "row");
}
