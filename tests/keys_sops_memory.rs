//! What remains in memory after a key was resolved, used and dropped: nothing.
//!
//! The work runs in a process of its own that then reads all of its own memory. The needles (passphrase, data key,
//! identity, the key of the database) come to it XOR-masked, so it never holds one by itself; a control that it does
//! hold must be found. Each runs with the ordinary allocator and with one whose `free` does nothing.
#![cfg(all(feature = "sops", feature = "sqlcipher", target_os = "linux"))]

#[path = "common/hoard.rs"]
mod hoard;

use std::fs;
use std::time::Duration;

use hoard::{Child, of_bytes, of_file, stages};
use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsFormat, encrypt};
use strongroom::{KeySource, Secret, SopsKeySource};
use tempfile::TempDir;

/// A folder with a SOPS file and its identity, and what is looked for.
struct House {
    folder: TempDir,
    passphrase: String,
    needles: Vec<(&'static str, Vec<u8>)>,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = AgeIdentity::generate();
        let passphrase: String = (0..32).map(|_| fastrand::alphanumeric()).collect();
        let (key, other) = (Secret::new(passphrase.as_str()), Secret::new("another value"));
        let values = [("db_key", &key), ("other", &other)];
        let text = encrypt(SopsFormat::Yaml, &values, &[identity.recipient()]).unwrap();
        fs::write(folder.path().join("secrets.yaml"), &text).unwrap();
        identity.write(folder.path().join("keys.txt")).unwrap();
        let names = ["passphrase", "passphrase, first half", "passphrase, second half"];
        let mut needles = of_bytes(names, passphrase.as_bytes());
        needles.extend(of_file(&text, &identity));
        Self { folder, passphrase, needles }
    }

    /// The names of what was found at each stage.
    fn found(self, task: &str, hoard: bool) -> Vec<(String, Vec<&'static str>)> {
        let mut env = vec![("CHILD_TASK", task)];
        env.extend(hoard.then_some(("CHILD_HOARD", "1")));
        stages(self.folder.path(), self.needles, &env)
    }
}

const PASSPHRASE: [&str; 3] = ["passphrase", "passphrase, first half", "passphrase, second half"];

fn nothing_remains(task: &str, hoard: bool) {
    let stages = House::new().found(task, hoard);
    let (held, rest) = stages.split_first().unwrap();
    assert_eq!((held.0.as_str(), held.1.as_slice()), ("held", &PASSPHRASE[..]));
    assert!(!rest.is_empty());
    for (stage, found) in rest {
        assert_eq!(found, &[""; 0], "{stage}");
    }
}

#[test]
fn child() {
    let Some(child) = Child::here() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match std::env::var("CHILD_TASK").unwrap().as_str() {
        "kept" => runtime.block_on(kept(&child)),
        "given" => runtime.block_on(given(&child)),
        "ssh" => runtime.block_on(by_ssh_key(&child)),
        "database" => runtime.block_on(database::open_use_close(&child)),
        other => panic!("no such task: {other}"),
    }
}

fn source(child: &Child, identities: IdentitySources) -> SopsKeySource {
    SopsKeySource::at(child.folder.join("secrets.yaml")).identities(identities)
}

/// Kept by the cache until its time is over; then gone without being asked for, while the source lives on.
async fn kept(child: &Child) {
    let source = source(child, IdentitySources::none().file(child.folder.join("keys.txt"))).ttl(Duration::from_secs(1));
    let secret = source.resolve().await.unwrap();
    child.stage("held");
    drop(secret);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    child.stage("its time is over");
    drop(source);
    child.stage("dropped");
}

async fn given(child: &Child) {
    // The test's own copy of the identity file is wiped by `Secret`.
    let identity = Secret::new(fs::read(child.folder.join("keys.txt")).unwrap());
    let source = source(child, IdentitySources::none().secret(identity)).ttl(Duration::from_secs(300));
    // The identity is the caller's as long as the source lives.
    let secret = source.resolve().await.unwrap();
    drop(source);
    child.stage("held");
    drop(secret);
    child.stage("dropped");
}

async fn by_ssh_key(child: &Child) {
    let kind = std::env::var("CHILD_SSH").unwrap();
    let identities = IdentitySources::none().file(child.folder.join(format!("keys/id_{kind}")));
    let file = child.folder.join(format!("good/ssh_{kind}.enc.yaml"));
    let source = SopsKeySource::at(file).identities(identities).ttl(Duration::ZERO);
    let secret = source.resolve().await.unwrap();
    child.stage("held");
    drop(secret);
    child.stage("dropped");
}

#[test]
fn nothing_remains_with_the_ordinary_allocator() {
    nothing_remains("kept", false);
}

#[test]
fn nothing_remains_where_nothing_is_ever_freed() {
    nothing_remains("kept", true);
}

#[test]
fn nothing_remains_of_an_identity_given_by_the_caller() {
    nothing_remains("given", true);
}

/// The key of a database, from the SOPS file to the engine.
mod database {
    use pbkdf2::pbkdf2_hmac;
    use sha2::Sha512;
    use strongroom::{AsyncDatabase, DatabaseBuilder, PassphraseKeySource, SqlCipherConnector};

    use super::*;

    const KEY: [&str; 3] = ["key", "key, first half", "key, second half"];

    fn builder(folder: &std::path::Path) -> DatabaseBuilder<SqlCipherConnector> {
        AsyncDatabase::builder(folder.join("a.db")).pool_max(4)
    }

    pub(super) async fn open_use_close(child: &Child) {
        let identities = IdentitySources::none().file(child.folder.join("keys.txt"));
        let source = source(child, identities).ttl(Duration::ZERO);
        let secret = source.resolve().await.unwrap();
        child.stage("held");
        drop(secret);
        let db = builder(&child.folder).key(source).open().await.unwrap();
        let readers = [db.read_connection().await.unwrap(), db.read_connection().await.unwrap()];
        assert_eq!(db.fetch_value::<i64>("SELECT a FROM t", ()).await.unwrap(), Some(1));
        db.execute("UPDATE t SET a = a", ()).await.unwrap();
        drop(readers);
        child.stage("open");
        db.close().await.unwrap();
        drop(db);
        child.stage("closed");
    }

    fn only_the_derived_key_while_open(hoard: bool) {
        let mut house = House::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let key = PassphraseKeySource::new(house.passphrase.as_str());
            let db = builder(house.folder.path()).key(key).open().await.unwrap();
            db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
            db.close().await.unwrap();
        });
        let salt = fs::read(house.folder.path().join("a.db")).unwrap()[..16].to_vec();
        let mut key = [0; 32];
        pbkdf2_hmac::<Sha512>(house.passphrase.as_bytes(), &salt, 256_000, &mut key);
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        house.needles.extend(of_bytes(KEY, &key));
        house
            .needles
            .extend([("key in hex", hex[..32].into()), ("key in upper-case hex", hex[..32].to_uppercase().into())]);
        let stages = house.found("database", hoard);
        let names: Vec<&str> = stages.iter().map(|(stage, _)| stage.as_str()).collect();
        assert_eq!(names, ["held", "open", "closed"]);
        // The derived key as long as connections may be opened, and nothing that it was made of.
        assert_eq!(stages[0].1, PASSPHRASE);
        assert_eq!(stages[1].1, KEY);
        assert_eq!(stages[2].1, [""; 0]);
    }

    #[test]
    fn an_open_database_holds_its_derived_key_and_a_closed_one_nothing() {
        only_the_derived_key_while_open(false);
    }

    #[test]
    fn an_open_database_holds_its_derived_key_and_a_closed_one_nothing_where_nothing_is_ever_freed() {
        only_the_derived_key_while_open(true);
    }
}

/// SSH keys: the value and the data key are gone. Of the private key itself the crates that parse it leave copies in
/// freed memory, as SECURITY.md says; while nothing else is allocated, they may be found.
#[cfg(feature = "sops-ssh")]
mod ssh {
    use std::path::Path;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const VALUE: &str = "correct horse battery staple";

    fn remains(kind: &str, hoard: bool) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sops");
        let file = fs::read_to_string(folder.join(format!("good/ssh_{kind}.enc.yaml"))).unwrap();
        let key = fs::read_to_string(folder.join(format!("keys/id_{kind}"))).unwrap();
        let identity = age::ssh::Identity::from_buffer(key.as_bytes(), None).unwrap();
        let data_key = hoard::data_key(&file, &identity);
        let mut needles = of_bytes(PASSPHRASE, VALUE.as_bytes());
        needles.extend(of_bytes(["data key", "data key, first half", "data key, second half"], &data_key));
        let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
        let bytes = STANDARD.decode(lines.concat()).unwrap();
        // The end of the file is private in both kinds; the last bytes are a comment and padding.
        let private = bytes.len() - 96;
        needles.push(("text of the private key", lines[lines.len() - 2].into()));
        needles.push(("bytes of the private key", bytes[private..private + 32].into()));
        let mut env = vec![("CHILD_TASK", "ssh"), ("CHILD_SSH", kind)];
        env.extend(hoard.then_some(("CHILD_HOARD", "1")));
        let stages = stages(&folder, needles, &env);
        assert_eq!(stages.len(), 2);
        assert!(PASSPHRASE.iter().all(|part| stages[0].1.contains(part)));
        let rest: Vec<_> = stages[1].1.iter().filter(|name| !name.ends_with("of the private key")).collect();
        assert_eq!(rest, [&""; 0]);
    }

    #[test]
    fn value_and_data_key_are_gone_after_an_ssh_key_opened_them() {
        for kind in ["ed25519", "rsa"] {
            remains(kind, false);
            remains(kind, true);
        }
    }
}
