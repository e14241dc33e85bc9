//! A value of a SOPS file that its source makes and replaces: all else in the file stays as it is, the real program reads
//! it, and at every moment the database opens with its source.
#![cfg(all(feature = "sqlcipher", feature = "sops", unix))]

#[path = "common/cipher.rs"]
mod cipher;
#[path = "common/peers.rs"]
mod peers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cipher::{create, read, refusal};
use proptest::prelude::*;
use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsBackend, SopsFormat, encrypt};
use strongroom::pool::NoRetry;
use strongroom::{
    AsyncDatabase, DatabaseBuilder, ErrorKind, KeySource, Reason, Secret, SopsKeySource, SqlCipherConnector,
};

struct Folder {
    folder: tempfile::TempDir,
    identity: AgeIdentity,
}

impl Folder {
    fn new() -> Self {
        let (folder, identity) = (tempfile::tempdir().unwrap(), AgeIdentity::generate());
        Self { folder, identity }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn source(&self, name: &str) -> SopsKeySource {
        let identities = IdentitySources::none().secret(self.identity.secret().clone());
        let source = SopsKeySource::new(self.at(name), "db_key").identities(identities).backend(SopsBackend::Native);
        source.create_if_missing(true).recipients([self.identity.recipient()])
    }

    fn with(&self, source: impl KeySource + 'static) -> DatabaseBuilder<SqlCipherConnector> {
        // With few rounds, the tests take less time.
        AsyncDatabase::builder(self.at("app.db")).key(source).cipher_kdf_iter(1000).retry(NoRetry)
    }

    /// A file of our own with these values, and a comment.
    fn write(&self, name: &str, values: &[(&str, &str)]) -> String {
        let values: Vec<_> = values.iter().map(|(name, value)| (*name, Secret::new(*value))).collect();
        let values: Vec<_> = values.iter().map(|(name, value)| (*name, value)).collect();
        let (format, mut text) = (SopsFormat::of(Path::new(name)), String::new());
        if format == SopsFormat::Yaml {
            text.push_str("# of the year 2020\n");
        }
        text.push_str(&encrypt(format, &values, &[self.identity.recipient()]).unwrap());
        fs::write(self.at(name), &text).unwrap();
        text
    }

    fn files(&self) -> Vec<String> {
        let entries = self.folder.path().read_dir().unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The lines of a file that are no value `db_key`, no MAC and no time.
fn others(text: &str) -> Vec<&str> {
    let changed = ["db_key", "mac", "lastmodified", "sops_mac", "sops_lastmodified"];
    let is_other = |line: &&str| {
        let line = line.trim_start_matches([' ', '\t', '"']);
        !changed.iter().any(|word| line.starts_with(word))
    };
    text.lines().filter(is_other).collect()
}

/// What the real program finds.
fn sops(folder: &Folder, program: &Path, name: &str) -> String {
    fs::write(folder.at("keys.txt"), folder.identity.secret().expose()).unwrap();
    let mut command = Command::new(program);
    command.env("SOPS_AGE_KEY_FILE", folder.at("keys.txt")).env("SOPS_CONFIG", "/dev/null");
    let answer = command.args(["decrypt", "--extract", "[\"db_key\"]", name]).current_dir(folder.folder.path());
    let answer = answer.output().unwrap();
    assert!(answer.status.success(), "{name}: {}", String::from_utf8_lossy(&answer.stderr));
    fs::remove_file(folder.at("keys.txt")).unwrap();
    String::from_utf8(answer.stdout).unwrap()
}

#[tokio::test]
async fn a_new_database_gets_a_new_value_and_the_program_reads_it() {
    let program = peers::peer("sops");
    for name in ["new.yaml", "new.json", "has.yaml", "has.json"] {
        let folder = Folder::new();
        let before = name.starts_with("has").then(|| folder.write(name, &[("other", "a"), ("last", "b")]));
        create(folder.with(folder.source(name))).await;
        assert_eq!(folder.files(), ["app.db", name]);
        let text = fs::read_to_string(folder.at(name)).unwrap();
        if let Some(before) = before {
            assert_eq!(others(&text), others(&before), "{name}");
        }
        let made = folder.source(name).resolve().await.unwrap();
        assert_eq!(made.expose().len(), 64);
        if let Some(program) = &program {
            assert_eq!(sops(&folder, program, name).trim_end().as_bytes(), made.expose(), "{name}");
        }

        let db = folder.with(folder.source(name)).open().await.unwrap();
        db.rekey_fresh(folder.source(name)).await.unwrap();
        db.close().await.unwrap();
        assert_eq!(folder.files(), ["app.db", name]);
        assert_eq!(read(folder.with(folder.source(name))).await.unwrap(), "row");
        let now = fs::read_to_string(folder.at(name)).unwrap();
        assert_eq!(others(&now), others(&text), "{name}");
        assert_eq!(refusal(folder.with(made)).await.reason(), Reason::WrongKey);
        if let Some(program) = &program {
            let now = folder.source(name).resolve().await.unwrap();
            assert_eq!(sops(&folder, program, name).trim_end().as_bytes(), now.expose(), "{name}");
        }
    }
}

#[tokio::test]
async fn a_value_is_put_into_a_dotenv_file_of_the_program_and_elsewhere_that_is_refused_by_name() {
    let Some(program) = peers::peer("sops") else { return };
    let folder = Folder::new();
    for (name, text) in
        [("a.env", "# first\nOTHER=x\n"), ("a.ini", "[one]\nother = x\n"), ("c.yaml", "# c\na:\n  b: 1\n")]
    {
        fs::write(folder.at(name), text).unwrap();
        let mut command = Command::new(&program);
        command.args(["encrypt", "--age", folder.identity.recipient(), "-i", name]).env("SOPS_CONFIG", "/dev/null");
        assert!(command.current_dir(folder.folder.path()).output().unwrap().status.success());
    }
    let before = fs::read_to_string(folder.at("c.yaml")).unwrap();
    for name in ["a.env", "c.yaml"] {
        create(folder.with(folder.source(name))).await;
        let made = folder.source(name).resolve().await.unwrap();
        assert_eq!(sops(&folder, &program, name).trim_end().as_bytes(), made.expose(), "{name}");
        fs::remove_file(folder.at("app.db")).unwrap();
    }
    assert_eq!(others(&fs::read_to_string(folder.at("c.yaml")).unwrap()), others(&before));
    let error = refusal(folder.with(folder.source("a.ini"))).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    for (file, path) in [("c.yaml", "[\"a\"][0]"), ("none.yaml", "a.db_key")] {
        let nested = SopsKeySource::new(folder.at(file), path).create_if_missing(true);
        let nested = nested.recipients([folder.identity.recipient()]);
        let nested = nested.identities(IdentitySources::none().secret(folder.identity.secret().clone()));
        assert_eq!(refusal(folder.with(nested)).await.kind(), ErrorKind::Unsupported, "{path}");
    }
    assert_eq!(folder.files(), ["a.env", "a.ini", "c.yaml"]);
}

#[tokio::test]
async fn a_value_that_is_there_is_of_another_database_and_one_that_exists_gets_none() {
    let folder = Folder::new();
    let text = folder.write("a.yaml", &[("db_key", "of another")]);
    let error = refusal(folder.with(folder.source("a.yaml"))).await;
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::KeyPresent), "{error}");
    create(folder.with(folder.source("a.yaml").create_if_missing(false))).await;
    let error = refusal(folder.with(folder.source("b.yaml"))).await;
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Missing), "{error}");
    fs::remove_file(folder.at("app.db")).unwrap();
    let nobody = folder.source("c.yaml").recipients([""; 0]);
    let error = refusal(folder.with(nobody)).await;
    assert!(error.to_string().contains("nobody is named who could open it"), "{error}");
    assert_eq!(folder.files(), ["a.yaml"]);
    assert_eq!(fs::read_to_string(folder.at("a.yaml")).unwrap(), text);
}

#[tokio::test]
async fn a_value_that_the_program_reads_is_made_and_replaced_too() {
    let Some(program) = peers::peer("sops") else { return };
    let folder = Folder::new();
    let source = || folder.source("a.yaml").backend(SopsBackend::Binary).program(&program);
    create(folder.with(source())).await;
    let before = source().resolve().await.unwrap();
    let db = folder.with(source()).open().await.unwrap();
    db.rekey_fresh(source()).await.unwrap();
    db.close().await.unwrap();
    assert_ne!(source().resolve().await.unwrap().expose(), before.expose());
    assert_eq!(read(folder.with(source())).await.unwrap(), "row");
    assert_eq!(folder.files(), ["a.yaml", "app.db"]);
}

/// What a process leaves that is killed between two steps, for each of them.
#[tokio::test]
async fn cut_off_at_any_step_the_database_opens_with_its_source() {
    let folder = Folder::new();
    let (file, second) = (folder.at("a.yaml"), folder.at("a.yaml.next"));
    let source = || folder.source("a.yaml");
    create(folder.with(source())).await;
    let old = source().resolve().await.unwrap();

    // Stored, and no more.
    let made = source();
    let made = KeySource::replace(&made).await.unwrap();
    assert!(second.exists());
    assert_eq!(read(folder.with(source())).await.unwrap(), "row");
    let offered = source().candidates().await.unwrap();
    assert_eq!((offered[0].secret.expose(), offered[1].secret.expose()), (old.expose(), made.expose()));
    assert!(offered[1].source.ends_with("a.yaml.next"), "{}", offered[1].source);

    // The database has it.
    let db = folder.with(source()).open().await.unwrap();
    db.rekey(made.clone()).await.unwrap();
    db.close().await.unwrap();
    assert_eq!(read(folder.with(source())).await.unwrap(), "row");

    // Somebody changes another value meanwhile, and the file has it.
    let copy = fs::read(&second).unwrap();
    source().settle(&made).await.unwrap();
    assert!(!second.exists());
    fs::write(&second, copy).unwrap();
    assert_eq!(source().candidates().await.unwrap().len(), 1);
    assert_eq!(read(folder.with(source())).await.unwrap(), "row");

    // The next change makes another.
    let db = folder.with(source()).open().await.unwrap();
    db.rekey_fresh(source()).await.unwrap();
    db.close().await.unwrap();
    assert_ne!(source().resolve().await.unwrap().expose(), made.expose());
    assert_eq!(read(folder.with(source())).await.unwrap(), "row");

    // Made for a new database, and not settled.
    fs::remove_file(folder.at("app.db")).unwrap();
    fs::remove_file(&file).unwrap();
    let made = source().create().await.unwrap().unwrap();
    assert_eq!(source().create().await.unwrap().unwrap().expose(), made.expose());
    create(folder.with(made)).await;
    assert_eq!(read(folder.with(source())).await.unwrap(), "row");
    let db = folder.with(source()).open().await.unwrap();
    db.rekey_fresh(source()).await.unwrap();
    db.close().await.unwrap();
    assert_eq!(read(folder.with(source())).await.unwrap(), "row");
    assert_eq!(folder.files(), ["a.yaml", "app.db"]);
}

#[tokio::test]
async fn what_is_changed_in_the_file_meanwhile_stays() {
    let folder = Folder::new();
    folder.write("a.yaml", &[("other", "a"), ("db_key", "b")]);
    let source = folder.source("a.yaml");
    let made = KeySource::replace(&source).await.unwrap();
    let other = |key| {
        let identities = IdentitySources::none().secret(folder.identity.secret().clone());
        SopsKeySource::new(folder.at("a.yaml"), key).identities(identities)
    };
    other("other").replace(&Secret::new("changed")).await.unwrap();
    source.settle(&made).await.unwrap();
    assert_eq!(other("other").resolve().await.unwrap().expose(), b"changed");
    assert_eq!(source.resolve().await.unwrap().expose(), made.expose());
    let shown = format!("{source:?} {:?}", source.candidates().await.unwrap());
    assert!(!shown.contains(std::str::from_utf8(&made.expose()[..16]).unwrap()), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn arbitrary_other_values_and_comments_stay_byte_for_byte(
        values in prop::collection::btree_map("[a-z][a-z0-9_]{0,8}x", "\\PC{1,30}", 1..5),
        comment in "[ -~]{0,30}",
        is_json in any::<bool>(),
    ) {
        let folder = Folder::new();
        let name = if is_json { "a.json" } else { "a.yaml" };
        let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut before = folder.write(name, &values);
        if !is_json {
            before = format!("# {comment}\n{before}");
            fs::write(folder.at(name), &before).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let source = folder.source(name).ttl(std::time::Duration::ZERO);
            let made = source.create().await.unwrap().unwrap();
            source.settle(&made).await.unwrap();
            let next = KeySource::replace(&source).await.unwrap();
            source.settle(&next).await.unwrap();
            assert_eq!(source.resolve().await.unwrap().expose(), next.expose());
            for (key, value) in &values {
                let other = SopsKeySource::new(folder.at(name), *key).backend(SopsBackend::Native);
                let other = other.identities(IdentitySources::none().secret(folder.identity.secret().clone()));
                assert_eq!(other.resolve().await.unwrap().expose(), value.as_bytes());
            }
        });
        let after = fs::read_to_string(folder.at(name)).unwrap();
        prop_assert_eq!(others(&after), others(&before));
        prop_assert_eq!(folder.files(), [name]);
    }
}
