//! A value of a SOPS file is replaced: all else in the file stays as it is, and the real program reads it.
#![cfg(feature = "sops")]

#[path = "common/peers.rs"]
mod peers;

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsBackend, SopsFormat, decrypt, encrypt, replace};
use strongroom::{Error, ErrorKind, KeySource, Reason, Secret, SopsKeySource};

/// What `sops` encrypts, under which name, and the path of the value that is replaced.
const FILES: [(&str, &str, &str); 6] = [
    (
        "a.yaml",
        "# first\nother: 1.5\nnested:\n  # inside\n  list:\n    - zero\n    - one\n  open_unencrypted: yes\nlast: true\n",
        "nested.list.1",
    ),
    ("two.yaml", "db_key: old\n---\ndb_key: of the second document\n", "db_key"),
    ("a.json", "{\"other\": 1, \"nested\": {\"db_key\": \"old\", \"b\": [null, false]}}", "nested.db_key"),
    ("a.env", "# first\nOTHER=x\nDB_KEY=old\nLAST=\n", "DB_KEY"),
    ("a.ini", "[one]\nother = x\n; inside\ndb_key = old\n[two]\ndb_key = another\n", "one.db_key"),
    ("a.bin", "anything at all", "data"),
];

struct Folder {
    folder: tempfile::TempDir,
    identity: AgeIdentity,
}

impl Folder {
    fn new() -> Self {
        let (folder, identity) = (tempfile::tempdir().unwrap(), AgeIdentity::generate());
        identity.write(folder.path().join("keys.txt")).unwrap();
        Self { folder, identity }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn identities(&self) -> IdentitySources {
        IdentitySources::none().secret(self.identity.secret().clone())
    }

    fn source(&self, name: &str, key: &str) -> SopsKeySource {
        let source = SopsKeySource::new(self.path().join(name), key).identities(self.identities());
        source.backend(SopsBackend::Native)
    }

    /// A file of our own, with a comment.
    fn write(&self, name: &str, values: &[(&str, &str)]) -> String {
        let values: Vec<_> = values.iter().map(|(name, value)| (*name, Secret::new(*value))).collect();
        let values: Vec<_> = values.iter().map(|(name, value)| (*name, value)).collect();
        let text = encrypt(SopsFormat::Yaml, &values, &[self.identity.recipient()]).unwrap();
        let text = format!("# of the year 2020\n{text}");
        fs::write(self.path().join(name), &text).unwrap();
        text
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    fn names(&self) -> usize {
        fs::read_dir(self.path()).unwrap().count()
    }

    fn sops(&self, program: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.env("SOPS_AGE_KEY_FILE", self.path().join("keys.txt")).env("SOPS_CONFIG", "/dev/null");
        let answer = command.args(arguments).current_dir(self.path()).output().unwrap();
        assert!(answer.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&answer.stderr));
        String::from_utf8(answer.stdout).unwrap()
    }
}

/// How many lines of two texts differ.
fn differing(before: &str, after: &str) -> usize {
    assert_eq!(before.lines().count(), after.lines().count());
    before.lines().zip(after.lines()).filter(|(before, after)| before != after).count()
}

fn refused(error: &Error, kind: ErrorKind, reason: Reason) {
    assert_eq!((error.kind(), error.reason()), (kind, reason), "{error}");
}

#[tokio::test]
async fn one_value_changes_with_the_mac_and_the_time_and_no_other_line() {
    let folder = Folder::new();
    let before = folder.write("s.yaml", &[("other", "staple"), ("db_key", "old"), ("more", "old")]);
    let before =
        before.replace(&before[before.find("lastmodified").unwrap()..][..36], "lastmodified: \"2020-01-01T00:00:00Z\"");
    // With another time the MAC is another one: what has been written is refused, and left alone.
    fs::write(folder.path().join("s.yaml"), &before).unwrap();
    let source = folder.source("s.yaml", "db_key");
    refused(&source.replace(&Secret::new("new")).await.unwrap_err(), ErrorKind::Key, Reason::Tampered);
    assert_eq!(folder.read("s.yaml"), before);

    let before = folder.write("s.yaml", &[("other", "staple"), ("db_key", "old"), ("more", "old")]);
    assert_eq!(source.resolve().await.unwrap().expose(), b"old");
    source.replace(&Secret::new("new")).await.unwrap();
    assert_eq!(source.resolve().await.unwrap().expose(), b"new");
    assert_eq!(folder.source("s.yaml", "more").resolve().await.unwrap().expose(), b"old");
    let after = folder.read("s.yaml");
    assert!((2..=3).contains(&differing(&before, &after)), "{after}");
    assert_eq!(folder.names(), 2, "nothing else is left in the folder");
}

/// The program is never asked to write, so an identity has to do, also where it alone is asked to read.
#[tokio::test]
async fn an_identity_replaces_a_value_whatever_the_backend() {
    for backend in [SopsBackend::Auto, SopsBackend::Native, SopsBackend::Binary] {
        let folder = Folder::new();
        folder.write("s.yaml", &[("other", "staple"), ("db_key", "old")]);
        let source = folder.source("s.yaml", "db_key");
        source.clone().backend(backend).program("no such program").replace(&Secret::new("new")).await.unwrap();
        assert_eq!(source.resolve().await.unwrap().expose(), b"new", "{backend:?}");
    }
    // One that does not fit is no help there either.
    let folder = Folder::new();
    let before = folder.write("s.yaml", &[("db_key", "old")]);
    let other = IdentitySources::none().secret(AgeIdentity::generate().secret().clone());
    let source = folder.source("s.yaml", "db_key").identities(other).backend(SopsBackend::Binary);
    refused(&source.replace(&Secret::new("new")).await.unwrap_err(), ErrorKind::Key, Reason::Locked);
    assert_eq!(folder.read("s.yaml"), before);
}

#[tokio::test]
async fn the_real_program_reads_every_format_and_finds_one_value_changed() {
    let Some(sops) = peers::peer("sops") else { return };
    let folder = Folder::new();
    for (name, text, key) in FILES {
        fs::write(folder.path().join(name), text).unwrap();
        folder.sops(&sops, &["encrypt", "--in-place", "--age", folder.identity.recipient(), name]);
        let (before, sealed) = (folder.sops(&sops, &["decrypt", name]), folder.read(name));
        let source = folder.source(name, key);
        let old = String::from_utf8(source.resolve().await.unwrap().expose().to_vec()).unwrap();
        source.replace(&Secret::new("new_value")).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let after = folder.sops(&sops, &["decrypt", name]);
        let lines = before.lines().zip(after.lines()).filter(|(before, after)| before != after);
        let lines: Vec<_> = lines.collect();
        assert!(lines.len() == 1 && lines[0].0.replace(&old, "new_value") == lines[0].1, "{name}: {lines:?}");
        assert!(differing(&sealed, &folder.read(name)) <= 7, "{name}");
        assert_eq!(source.resolve().await.unwrap().expose(), b"new_value");
    }
}

#[tokio::test]
async fn the_real_program_reads_what_was_replaced_under_every_rule() {
    let Some(sops) = peers::peer("sops") else { return };
    let folder = Folder::new();
    for rule in [
        "encrypted_regex: ^db_",
        "unencrypted_suffix: _open",
        "encrypted_suffix: _key",
        "encrypted_regex: ^db_, mac_only_encrypted: true",
    ] {
        let config = format!("creation_rules: [{{ age: {}, {rule} }}]", folder.identity.recipient());
        fs::write(folder.path().join("rules.yaml"), config).unwrap();
        fs::write(folder.path().join("r.yaml"), "plain_open: [1, 2.50, yes]\ndb_key: old\n").unwrap();
        folder.sops(&sops, &["--config", "rules.yaml", "encrypt", "--in-place", "r.yaml"]);
        folder.source("r.yaml", "db_key").replace(&Secret::new("new")).await.unwrap();
        assert_eq!(folder.sops(&sops, &["decrypt", "--extract", "[\"db_key\"]", "r.yaml"]), "new", "{rule}");
        let error = folder.source("r.yaml", "plain_open.0").replace(&Secret::new("new")).await.unwrap_err();
        refused(&error, ErrorKind::Key, Reason::Exposed);
    }
}

#[tokio::test]
async fn what_cannot_be_replaced_is_refused_and_the_file_stays() {
    let folder = Folder::new();
    let before = folder.write("s.yaml", &[("db_key", "old"), ("more", "old")]);
    let source = folder.source("s.yaml", "db_key");
    refused(&source.replace(&Secret::raw_key([7; 32])).await.unwrap_err(), ErrorKind::Key, Reason::Malformed);
    refused(&source.replace(&Secret::new("")).await.unwrap_err(), ErrorKind::Key, Reason::Empty);
    let missing = folder.source("s.yaml", "no_key").replace(&Secret::new("new")).await.unwrap_err();
    refused(&missing, ErrorKind::Key, Reason::Missing);
    let stranger = SopsKeySource::at(folder.path().join("s.yaml")).identities(IdentitySources::none());
    let locked = stranger.backend(SopsBackend::Native).replace(&Secret::new("new")).await.unwrap_err();
    refused(&locked, ErrorKind::Key, Reason::Locked);
    let absent = folder.source("none.yaml", "db_key").replace(&Secret::new("new")).await.unwrap_err();
    refused(&absent, ErrorKind::Key, Reason::Missing);
    assert_eq!(folder.read("s.yaml"), before);
    assert_eq!(folder.names(), 2);

    // A ciphertext that stands there twice: in a comment, say.
    let line = before.lines().find(|line| line.starts_with("db_key")).unwrap();
    fs::write(folder.path().join("s.yaml"), format!("# {line}\n{before}")).unwrap();
    let error = source.replace(&Secret::new("new")).await.unwrap_err();
    refused(&error, ErrorKind::Unsupported, error.reason());
    assert!(error.to_string().contains("sops set"), "{error}");
    assert_eq!(source.resolve().await.unwrap().expose(), b"old");
}

#[cfg(unix)]
#[tokio::test]
async fn links_permissions_and_read_only_files_are_respected() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    let folder = Folder::new();
    folder.write("s.yaml", &[("db_key", "old")]);
    let path = folder.path().join("s.yaml");
    symlink(&path, folder.path().join("link.yaml")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    folder.source("link.yaml", "db_key").replace(&Secret::new("new")).await.unwrap();
    assert!(fs::symlink_metadata(folder.path().join("link.yaml")).unwrap().is_symlink());
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o640);
    assert_eq!(folder.source("s.yaml", "db_key").resolve().await.unwrap().expose(), b"new");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
    let error = folder.source("s.yaml", "db_key").replace(&Secret::new("newer")).await.unwrap_err();
    refused(&error, ErrorKind::Key, Reason::NotPermitted);
    assert_eq!(folder.source("s.yaml", "db_key").resolve().await.unwrap().expose(), b"new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_once_and_of_those_that_are_dropped_each_leaves_a_whole_file() {
    let folder = Folder::new();
    folder.write("s.yaml", &[("db_key", "value 0"), ("more", "staple")]);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=16 {
        let source = folder.source("s.yaml", "db_key").ttl(std::time::Duration::ZERO);
        tasks.spawn(async move {
            let value = Secret::new(format!("value {number}").as_str());
            let patience = std::time::Duration::from_micros(number * 400);
            if let Ok(Err(error)) = tokio::time::timeout(patience, source.replace(&value)).await {
                assert!(error.is_transient(), "{error}");
            }
            let found = source.resolve().await.unwrap();
            assert!(found.expose().starts_with(b"value "));
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(folder.source("s.yaml", "more").resolve().await.unwrap().expose(), b"staple");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_is_put_in_is_read_back(old in "\\PC{1,40}", new in proptest::collection::vec(any::<u8>(), 1..60)) {
        let identity = AgeIdentity::generate();
        let identities = IdentitySources::none().secret(identity.secret().clone());
        for format in [SopsFormat::Yaml, SopsFormat::Json] {
            let values = [("a", &Secret::new(old.as_str())), ("lastmodified", &Secret::new(old.as_str()))];
            let file = encrypt(format, &values, &[identity.recipient()]).unwrap();
            let (path, new) = ("lastmodified".parse().unwrap(), Secret::new(new.as_slice()));
            let file = replace(file.as_bytes(), format, &path, &new, &identities).unwrap();
            let read = decrypt(file.as_bytes(), format, &path, &identities).unwrap();
            prop_assert_eq!(read.expose(), new.expose());
            let other = decrypt(file.as_bytes(), format, &"a".parse().unwrap(), &identities).unwrap();
            prop_assert_eq!(other.expose(), old.as_bytes());
        }
    }
}
