//! Sources that make a key and replace it: a new database gets a new key, one that exists never does, and at every moment
//! the file opens with its source.
#![cfg(all(feature = "sqlcipher", unix))]

#[path = "common/cipher.rs"]
mod cipher;
mod common;
#[path = "common/unprivileged.rs"]
mod unprivileged;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cipher::{create, read, refusal};
use common::{Walked, walk};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use strongroom::database::RekeyOptions;
use strongroom::keys::{CandidateKeySource, KeyCandidate, async_trait};
use strongroom::pool::NoRetry;
use strongroom::sqlcipher::{ReplaceOptions, SalvageOptions};
use strongroom::{
    AsyncDatabase, CachedKeySource, ChainKeySource, DatabaseBuilder, EnvKeySource, ErrorKind, FileKeySource, KeySource,
    Reason, Result, Secret, SqlCipherConnector,
};
use tempfile::TempDir;

fn with(path: &Path, source: impl KeySource + 'static) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path).key(source).retry(NoRetry)
}

/// A directory for `app.db` and `app.key`, and the source over the latter.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn db(&self) -> PathBuf {
        self.0.path().join("app.db")
    }

    fn key(&self) -> FileKeySource {
        key(self.0.path())
    }

    /// The names of all files.
    fn files(&self) -> Vec<String> {
        files(self.0.path())
    }
}

fn key(home: &Path) -> FileKeySource {
    FileKeySource::new(home.join("app.key")).raw_key().create_if_missing(true)
}

fn files(home: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        home.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_new_database_gets_a_new_key_that_only_this_user_may_read() {
    let home = Home::new();
    create(with(&home.db(), home.key())).await;
    assert_eq!(home.files(), ["app.db", "app.key"]);
    let path = home.0.path().join("app.key");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.len() == 65 && text.ends_with('\n') && text[..64].bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(read(with(&home.db(), home.key())).await.unwrap(), "row");
    assert_eq!(read(with(&home.db(), FileKeySource::new(path).raw_key())).await.unwrap(), "row");
}

#[tokio::test]
async fn a_passphrase_is_made_as_well() {
    let home = Home::new();
    let key = || FileKeySource::new(home.0.path().join("app.key")).create_if_missing(true);
    create(with(&home.db(), key()).cipher_kdf_iter(1000)).await;
    let db = with(&home.db(), key()).cipher_kdf_iter(1000).open().await.unwrap();
    db.rekey_fresh(key()).await.unwrap();
    db.close().await.unwrap();
    assert_eq!(read(with(&home.db(), key()).cipher_kdf_iter(1000)).await.unwrap(), "row");
}

#[tokio::test]
async fn a_database_that_exists_never_gets_a_new_key() {
    let home = Home::new();
    create(with(&home.db(), Secret::raw_key([1; 32]))).await;
    let error = refusal(with(&home.db(), home.key())).await;
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Missing));
    assert_eq!(home.files(), ["app.db"]);
}

#[tokio::test]
async fn a_new_database_never_takes_a_key_that_is_left_over() {
    let home = Home::new();
    create(with(&home.db(), home.key())).await;
    std::fs::remove_file(home.db()).unwrap();
    let error = refusal(with(&home.db(), home.key())).await;
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::KeyPresent), "{error}");
    assert_eq!(home.files(), ["app.key"]);
    // One that makes none takes what is there, as always.
    create(with(&home.db(), home.key().create_if_missing(false))).await;
    assert_eq!(home.files(), ["app.db", "app.key"]);
}

/// A database without a key, with one row.
async fn plain(path: &Path) {
    let db = AsyncDatabase::builder(path).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES ('row')").await.unwrap();
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_encrypted_gets_a_new_key_and_none_that_is_left_over() {
    let home = Home::new();
    // There is nothing to encrypt, so nothing is made.
    let encrypt = || with(&home.db(), home.key()).encrypt(ReplaceOptions::new());
    assert_eq!(encrypt().await.unwrap_err().reason(), Reason::NotFound);
    assert!(home.files().is_empty(), "{:?}", home.files());
    plain(&home.db()).await;
    // Cut off behind the key: the next call takes it up.
    std::fs::write(home.0.path().join("kept"), "in use").unwrap();
    let occupied = ReplaceOptions::new().keep(home.0.path().join("kept"));
    with(&home.db(), home.key()).encrypt(occupied).await.unwrap_err();
    let made = home.key().candidates().await.unwrap();
    assert!(encrypt().await.unwrap().encrypted);
    assert_eq!(home.files(), ["app.db", "app.key", "kept"]);
    assert_eq!(home.key().resolve().await.unwrap().expose(), made[0].secret.expose());
    assert_eq!(read(with(&home.db(), home.key())).await.unwrap(), "row");
    // It is encrypted already.
    assert_eq!(encrypt().await.unwrap_err().reason(), Reason::KeyMissing);
    // The key of another database is not taken.
    std::fs::remove_file(home.db()).unwrap();
    plain(&home.db()).await;
    let error = encrypt().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::KeyPresent), "{error}");
    assert_eq!(read(AsyncDatabase::builder(home.db())).await.unwrap(), "row");
    // A source that makes none has the one to take.
    with(&home.db(), home.key().create_if_missing(false)).encrypt(ReplaceOptions::new()).await.unwrap();
    assert_eq!(read(with(&home.db(), home.key())).await.unwrap(), "row");
}

#[tokio::test]
async fn a_copy_that_is_restored_where_nothing_is_gets_a_new_key_unless_it_has_that_of_the_database() {
    let home = Home::new();
    let copy = home.0.path().join("plain.db");
    let restore = || with(&home.db(), home.key()).restore_from(&copy, ReplaceOptions::new().copy_plaintext());
    assert_eq!(restore().await.unwrap_err().reason(), Reason::NotFound);
    assert!(home.files().is_empty(), "{:?}", home.files());
    plain(&copy).await;
    restore().await.unwrap();
    assert_eq!(home.files(), ["app.db", "app.key", "plain.db"]);
    assert_eq!(read(with(&home.db(), home.key())).await.unwrap(), "row");
    let first = home.key().resolve().await.unwrap();
    // Where a database is, its key stays.
    restore().await.unwrap();
    assert_eq!(home.key().resolve().await.unwrap().expose(), first.expose());
    // A copy under the key of the database needs that, and no other.
    let same = home.0.path().join("same.db");
    let db = with(&home.db(), home.key()).open().await.unwrap();
    db.backup_to(&same).await.unwrap();
    db.close().await.unwrap();
    std::fs::remove_file(home.db()).unwrap();
    with(&home.db(), home.key()).restore_from(&same, ReplaceOptions::new()).await.unwrap();
    assert_eq!(read(with(&home.db(), home.key())).await.unwrap(), "row");
    // One that is left over is not taken for a copy that has none.
    std::fs::remove_file(home.db()).unwrap();
    assert_eq!(restore().await.unwrap_err().reason(), Reason::KeyPresent);
    let with_copy_key = ReplaceOptions::new().copy_key(first);
    let error = with(&home.db(), home.key()).restore_from(&same, with_copy_key).await.unwrap_err();
    assert_eq!(error.reason(), Reason::KeyPresent);
    assert!(!home.db().exists());
}

#[tokio::test]
async fn a_change_that_was_cut_off_keeps_nobody_from_decrypting_restoring_and_salvaging() {
    for is_changed in [false, true] {
        let home = Home::new();
        create(with(&home.db(), home.key())).await;
        let new = home.key().replace().await.unwrap();
        if is_changed {
            let db = with(&home.db(), home.key()).open().await.unwrap();
            db.rekey(new).await.unwrap();
            db.close().await.unwrap();
        }
        assert_eq!(home.key().candidates().await.unwrap().len(), 2);
        let [copy, saved] = ["copy.db", "saved.db"].map(|name| home.0.path().join(name));
        std::fs::copy(home.db(), &copy).unwrap();
        with(&home.db(), home.key()).salvage_to(&saved, SalvageOptions::new()).await.unwrap();
        assert_eq!(read(with(&saved, home.key())).await.unwrap(), "row");
        with(&home.db(), home.key()).restore_from(&copy, ReplaceOptions::new()).await.unwrap();
        assert_eq!(read(with(&home.db(), home.key())).await.unwrap(), "row");
        let candidates = CandidateKeySource::new(Secret::raw_key([9; 32])).or(home.key());
        let from_copy = ReplaceOptions::new().copy_key(candidates);
        with(&home.db(), home.key()).restore_from(&copy, from_copy).await.unwrap();
        assert_eq!(read(with(&home.db(), home.key())).await.unwrap(), "row");
        with(&home.db(), home.key()).decrypt(ReplaceOptions::new()).await.unwrap();
        assert_eq!(read(AsyncDatabase::builder(home.db())).await.unwrap(), "row");
    }
}

#[tokio::test]
async fn an_encryption_that_is_dropped_at_any_moment_leaves_a_file_that_opens() {
    for polls in 0..200 {
        let home = Home::new();
        plain(&home.db()).await;
        let encrypts = with(&home.db(), home.key()).encrypt(ReplaceOptions::new());
        let walked = walk(encrypts, polls).await;
        let is_plain = std::fs::read(home.db()).unwrap().starts_with(b"SQLite format 3\0");
        let builder = if is_plain { AsyncDatabase::builder(home.db()) } else { with(&home.db(), home.key()) };
        assert_eq!(read(builder).await.unwrap(), "row", "after {polls} polls");
        if let Walked::Done(outcome) = walked {
            outcome.unwrap();
            assert!(polls > 3 && !is_plain, "too few polls to tell anything");
            return;
        }
        if is_plain {
            with(&home.db(), home.key()).encrypt(ReplaceOptions::new()).await.unwrap();
            assert_eq!(read(with(&home.db(), home.key())).await.unwrap(), "row", "after {polls} polls");
        }
    }
    panic!("it never came to its end");
}

#[tokio::test]
async fn no_key_is_made_where_no_database_will_be() {
    let home = Home::new();
    let refused = |builder: DatabaseBuilder<SqlCipherConnector>| async move { refusal(builder).await.kind() };
    assert_eq!(refused(with(&home.db(), home.key()).create_if_missing(false)).await, ErrorKind::Key);
    assert_eq!(refused(with(&home.0.path().join("none/app.db"), home.key())).await, ErrorKind::Key);
    assert_eq!(refused(with(&home.db(), home.key()).read_only()).await, ErrorKind::Key);
    assert_eq!(refused(with(Path::new(":memory:"), home.key())).await, ErrorKind::Key);
    assert!(home.files().is_empty(), "{:?}", home.files());
}

#[tokio::test]
async fn a_key_is_replaced_and_the_old_one_opens_nothing_any_more() {
    let home = Home::new();
    create(with(&home.db(), home.key())).await;
    let old = home.key().resolve().await.unwrap();
    let db = with(&home.db(), home.key()).open().await.unwrap();
    for _ in 0..3 {
        db.rekey_with(home.key(), RekeyOptions::new().fresh()).await.unwrap();
        assert_eq!(home.key().candidates().await.unwrap().len(), 1);
        assert_eq!(db.fetch_value::<String>("SELECT a FROM t", ()).await.unwrap().as_deref(), Some("row"));
    }
    db.close().await.unwrap();
    assert_eq!(home.files(), ["app.db", "app.key"]);
    assert_eq!(refusal(with(&home.db(), old)).await.reason(), Reason::WrongKey);
    assert_eq!(read(with(&home.db(), home.key())).await.unwrap(), "row");
}

#[tokio::test]
async fn a_change_that_is_refused_leaves_both_and_the_next_one_takes_it_up() {
    let home = Home::new();
    create(with(&home.db(), home.key())).await;
    let db = with(&home.db(), home.key()).open().await.unwrap();
    let busy = db.connection().await.unwrap();
    let brief = RekeyOptions::new().fresh().limit(Duration::from_millis(1));
    assert_eq!(db.rekey_with(home.key(), brief).await.unwrap_err().reason(), Reason::StillLent);
    drop(busy);
    let both = home.key().candidates().await.unwrap();
    assert_eq!(both.len(), 2);
    assert!(both[1].source.ends_with("app.key.next"), "{}", both[1].source);
    assert_eq!(read(with(&home.db(), home.key())).await.unwrap(), "row");
    db.close().await.unwrap();
    let db = with(&home.db(), home.key()).open().await.unwrap();
    db.rekey_fresh(home.key()).await.unwrap();
    let now = home.key().candidates().await.unwrap();
    assert_eq!((now.len(), now[0].secret.expose()), (1, both[1].secret.expose()));
}

#[tokio::test]
async fn sources_that_make_nothing_are_asked_as_before_and_say_that_they_cannot_replace() {
    let home = Home::new();
    create(with(&home.db(), Secret::raw_key([1; 32]))).await;
    let db = with(&home.db(), Secret::raw_key([1; 32])).open().await.unwrap();
    let error = db.rekey_fresh(Secret::raw_key([1; 32])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().starts_with("a secret given by the caller cannot make another secret"), "{error}");
    let plain = AsyncDatabase::builder(home.0.path().join("plain.db")).open().await.unwrap();
    assert_eq!(plain.rekey_fresh(home.key()).await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(db.rekey_fresh(home.key()).await.unwrap_err().reason(), Reason::Missing);
    assert!(!home.files().iter().any(|name| name.contains("app.key")), "{:?}", home.files());
}

#[tokio::test]
async fn wrappers_pass_the_life_cycle_on() {
    type Wrap = fn(FileKeySource) -> Arc<dyn KeySource>;
    let wraps: [Wrap; 5] = [
        |key| Arc::new(Box::new(key)),
        |key| Arc::new(ChainKeySource::new(EnvKeySource::new("STRONGROOM_TEST_NO_SUCH_KEY")).or(key)),
        |key| Arc::new(CandidateKeySource::new(EnvKeySource::new("STRONGROOM_TEST_NO_SUCH_KEY")).or(key)),
        |key| Arc::new(CachedKeySource::new(key, Duration::from_secs(60))),
        |key| Arc::new(ChainKeySource::new(CachedKeySource::new(Arc::new(key), Duration::from_secs(60)))),
    ];
    for (number, wrap) in wraps.into_iter().enumerate() {
        let home = Home::new();
        let key = wrap(home.key());
        create(with(&home.db(), Arc::clone(&key))).await;
        assert_eq!(home.files(), ["app.db", "app.key"], "{number}");
        let db = with(&home.db(), Arc::clone(&key)).open().await.unwrap();
        let busy = db.connection().await.unwrap();
        let brief = RekeyOptions::new().fresh().limit(Duration::from_millis(1));
        db.rekey_with(Arc::clone(&key), brief).await.unwrap_err();
        drop(busy);
        assert_eq!(key.candidates().await.unwrap().len(), 2, "{number}");
        db.rekey_fresh(Arc::clone(&key)).await.unwrap();
        assert_eq!(key.candidates().await.unwrap().len(), 1, "{number}");
        db.close().await.unwrap();
        assert_eq!(read(with(&home.db(), key)).await.unwrap(), "row", "{number}");
    }
}

/// A chain whose first source has a key gives that to a new database, and makes none further down.
#[tokio::test]
async fn a_chain_makes_no_key_behind_one_that_is_there() {
    let home = Home::new();
    create(with(&home.db(), ChainKeySource::new(Secret::raw_key([1; 32])).or(home.key()))).await;
    assert_eq!(home.files(), ["app.db"]);
    assert_eq!(read(with(&home.db(), Secret::raw_key([1; 32]))).await.unwrap(), "row");
}

#[tokio::test]
async fn a_key_that_its_source_does_not_offer_is_never_taken() {
    struct Forgetful(AtomicUsize);

    #[async_trait]
    impl KeySource for Forgetful {
        async fn resolve(&self) -> Result<Secret> {
            Ok(Secret::raw_key([1; 32]))
        }

        fn describe(&self) -> String {
            "the forgetful source".into()
        }

        async fn replace(&self) -> Result<Secret> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(Secret::raw_key([2; 32]))
        }

        async fn settle(&self, _: &Secret) -> Result<()> {
            panic!("nothing was changed")
        }
    }

    let home = Home::new();
    create(with(&home.db(), Secret::raw_key([1; 32]))).await;
    let db = with(&home.db(), Secret::raw_key([1; 32])).open().await.unwrap();
    let error = db.rekey_fresh(Forgetful(AtomicUsize::new(0))).await.unwrap_err();
    assert!(error.to_string().contains("does not offer the key that it has made"), "{error}");
    db.close().await.unwrap();
    assert_eq!(read(with(&home.db(), Secret::raw_key([1; 32]))).await.unwrap(), "row");
}

#[tokio::test]
async fn links_and_permissions_stay_and_the_file_behind_them_changes() {
    let home = Home::new();
    let (there, link) = (home.0.path().join("keys"), home.0.path().join("app.key"));
    std::fs::create_dir(&there).unwrap();
    create(with(&home.db(), key(&there))).await;
    std::os::unix::fs::symlink(there.join("app.key"), &link).unwrap();
    std::fs::set_permissions(there.join("app.key"), std::fs::Permissions::from_mode(0o400)).unwrap();
    let before = there.join("app.key").metadata().unwrap().ino();
    let db = with(&home.db(), home.key()).open().await.unwrap();
    db.rekey_fresh(home.key()).await.unwrap();
    db.close().await.unwrap();
    assert!(link.is_symlink());
    assert_eq!(files(&there), ["app.key"]);
    let after = there.join("app.key").metadata().unwrap();
    assert_ne!(after.ino(), before);
    assert_eq!(after.permissions().mode() & 0o777, 0o400);
    assert_eq!(read(with(&home.db(), home.key())).await.unwrap(), "row");
}

#[test]
fn a_key_that_cannot_be_stored_is_an_error_and_nothing_is_changed() {
    let home = tempfile::tempdir().unwrap();
    unprivileged::allow(home.path(), 0o777);
    if unprivileged::is_child() {
        runtime().block_on(not_stored(&unprivileged::here()));
    } else {
        unprivileged::parent("a_key_that_cannot_be_stored_is_an_error_and_nothing_is_changed", home.path());
    }
}

async fn not_stored(home: &Path) {
    let (keys, db) = (home.join("keys"), home.join("app.db"));
    let limit = |mode| unprivileged::allow(&keys, mode);
    std::fs::create_dir(&keys).unwrap();
    limit(0o555);
    let error = refusal(with(&db, key(&keys))).await;
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::NotPermitted), "{error}");
    assert_eq!(files(home), ["keys"], "no database without a key");

    limit(0o755);
    create(with(&db, key(&keys))).await;
    limit(0o555);
    let open = with(&db, key(&keys)).open().await.unwrap();
    let error = open.rekey_fresh(key(&keys)).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::NotPermitted), "{error}");
    assert!(error.to_string().contains("app.key.next"), "{error}");

    // What was stored before the directory was closed cannot be settled.
    limit(0o755);
    let made = key(&keys).replace().await.unwrap();
    limit(0o555);
    let error = open.rekey_fresh(key(&keys)).await.unwrap_err();
    assert!(error.to_string().contains("has the new key now, but key file"), "{error}");
    assert_eq!(key(&keys).candidates().await.unwrap()[1].secret.expose(), made.expose());
    open.close().await.unwrap();
    assert_eq!(read(with(&db, key(&keys))).await.unwrap(), "row");
    limit(0o755);
    let open = with(&db, key(&keys)).open().await.unwrap();
    open.rekey_fresh(key(&keys)).await.unwrap();
    open.close().await.unwrap();
    assert_eq!(files(&keys), ["app.key"]);
    assert_eq!(read(with(&db, key(&keys))).await.unwrap(), "row");

    // As on a full disk, the file ends in the middle.
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: Some(10), maximum }).unwrap();
    let error = key(&keys).replace().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Io), "{error}");
    assert_eq!(files(&keys), ["app.key"]);
}

#[tokio::test]
async fn no_key_is_shown() {
    let home = Home::new();
    create(with(&home.db(), home.key())).await;
    let digits = std::fs::read_to_string(home.0.path().join("app.key")).unwrap();
    let made = home.key().replace().await.unwrap();
    std::fs::write(home.db(), vec![7; 8192]).unwrap();
    let error = refusal(with(&home.db(), home.key())).await;
    let candidates = home.key().candidates().await.unwrap();
    let shown = format!("{:?} {made:?} {candidates:?} {error:?} {error}", home.key());
    assert!(!shown.contains(&digits[..16]) && !shown.contains(&hex(made.expose())[..16]), "{shown}");
    assert!(shown.contains("app.key.next"), "{shown}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

const CHILD: &str = "STRONGROOM_TEST_LIFE";
const DIES_AT: &str = "STRONGROOM_TEST_DIES_AT";

/// Where a process dies: at the beginning or the end of a step.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create,
    Created,
    Replace,
    Replaced,
    Settle,
    Settled,
}

/// Has the process killed at one step.
struct Dying(FileKeySource);

impl Dying {
    fn at(step: Step) {
        if std::env::var(DIES_AT).is_ok_and(|at| at == format!("{step:?}")) {
            let me = std::process::id().to_string();
            Command::new("kill").args(["-9", &me]).status().unwrap();
            panic!("this process is dead");
        }
    }
}

#[async_trait]
impl KeySource for Dying {
    async fn resolve(&self) -> Result<Secret> {
        self.0.resolve().await
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        self.0.candidates().await
    }

    async fn create(&self) -> Result<Option<Secret>> {
        Self::at(Step::Create);
        let made = self.0.create().await;
        Self::at(Step::Created);
        made
    }

    async fn replace(&self) -> Result<Secret> {
        Self::at(Step::Replace);
        let made = self.0.replace().await;
        Self::at(Step::Replaced);
        made
    }

    async fn settle(&self, secret: &Secret) -> Result<()> {
        Self::at(Step::Settle);
        let settled = self.0.settle(secret).await;
        Self::at(Step::Settled);
        settled
    }
}

/// Does nothing unless started by the tests below: creates the database, or opens it and changes its key.
#[test]
fn the_process_that_dies() {
    let Some(home) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    runtime().block_on(async {
        let is_new = !home.join("app.db").exists();
        let db = with(&home.join("app.db"), Dying(key(&home))).open().await.unwrap();
        if is_new {
            db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES ('row')").await.unwrap();
        } else {
            db.rekey_fresh(Dying(key(&home))).await.unwrap();
        }
        db.close().await.unwrap();
    });
}

fn process(home: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_process_that_dies", "--nocapture"]).env(CHILD, home);
    command
}

fn dies(home: &Path, step: Step) {
    let gone = process(home).env(DIES_AT, format!("{step:?}")).output().unwrap().status;
    assert_eq!(gone.signal(), Some(9), "{step:?}: {gone}");
}

#[test]
fn killed_at_any_step_of_a_change_of_key_the_file_opens_with_its_source() {
    for step in [Step::Replace, Step::Replaced, Step::Settle, Step::Settled] {
        let home = Home::new();
        runtime().block_on(create(with(&home.db(), home.key())));
        dies(home.0.path(), step);
        let row = runtime().block_on(read(with(&home.db(), home.key())));
        assert_eq!(row.unwrap(), "row", "{step:?}");
        runtime().block_on(async {
            let db = with(&home.db(), home.key()).open().await.unwrap();
            db.rekey_fresh(home.key()).await.unwrap();
            db.close().await.unwrap();
        });
        assert_eq!(runtime().block_on(read(with(&home.db(), home.key()))).unwrap(), "row", "{step:?}");
        assert_eq!(home.files(), ["app.db", "app.key"], "{step:?}");
    }
}

#[test]
fn killed_at_any_step_of_a_creation_the_next_one_goes_on() {
    for step in [Step::Create, Step::Created, Step::Settle, Step::Settled] {
        let home = Home::new();
        dies(home.0.path(), step);
        runtime().block_on(async {
            let db = with(&home.db(), home.key()).open().await.unwrap();
            db.execute_script("CREATE TABLE IF NOT EXISTS t (a); INSERT INTO t VALUES ('row')").await.unwrap();
            db.rekey_fresh(home.key()).await.unwrap();
            db.close().await.unwrap();
        });
        assert_eq!(runtime().block_on(read(with(&home.db(), home.key()))).unwrap(), "row", "{step:?}");
        assert_eq!(home.files(), ["app.db", "app.key"], "{step:?}");
    }
}

#[test]
fn processes_that_create_at_once_have_one_key() {
    let home = Home::new();
    let left = home.0.path().join(".app.key.next.0123456789abcdef");
    std::fs::write(&left, "left by a process that was killed").unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&left).unwrap().set_modified(long_ago).unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| {
            let mut command = process(home.0.path());
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        child.wait().unwrap();
    }
    let db =
        runtime().block_on(async { with(&home.db(), home.key()).open().await.map(|db| db.key_source().is_some()) });
    assert!(db.unwrap());
    assert!(!home.files().iter().any(|name| name.starts_with('.')), "{:?}", home.files());
}
