//! Secrets on a disk that fails: what was acknowledged is on the disk, and what was refused is not taken for done later.
#![cfg(all(feature = "sqlcipher", feature = "sops", target_os = "linux", target_env = "gnu"))]

#[path = "common/faults.rs"]
mod faults;

use std::path::{Path, PathBuf};

use faults::Call;
use strongroom::keys::sops::{AgeIdentity, IdentitySources};
use strongroom::{Error, ErrorKind, FileKeySource, KeySource, Reason, Secret, SopsKeySource};
use tempfile::TempDir;

struct Home {
    directory: TempDir,
    identity: AgeIdentity,
}

impl Home {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), identity: AgeIdentity::generate() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = self.path().read_dir().unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn sources(&self) -> [Box<dyn KeySource>; 2] {
        let file = FileKeySource::new(self.at("app.key")).create_if_missing(true);
        let identities = IdentitySources::none().secret(self.identity.secret().clone());
        let sops = SopsKeySource::at(self.at("app.yaml")).identities(identities).create_if_missing(true);
        [Box::new(file), Box::new(sops.recipients([self.identity.recipient()]))]
    }

    /// The next sync of the directory fails, and this one with it.
    async fn refused<T>(&self, what: &str, call: impl Future<Output = Result<T, Error>>) {
        faults::fail(self.path(), Call::Sync, 0, 1, libc::EIO);
        let outcome = call.await;
        assert_eq!(faults::heal(self.path()), 1, "{what}: the directory was not synced");
        let error = outcome.map(drop).unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Io), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_secret_is_never_given_away_before_its_name_is_on_the_disk() {
    for number in [0, 1] {
        let home = Home::new();
        let source = &home.sources()[number];
        home.refused("made", source.create()).await;
        home.refused("found", source.create()).await;
        let made = source.create().await.unwrap().unwrap();
        source.settle(&made).await.unwrap();
        home.refused("made", source.replace()).await;
        home.refused("found", source.replace()).await;
        let next = source.replace().await.unwrap();
        assert_ne!(made.expose(), next.expose());
    }
}

#[tokio::test]
async fn a_secret_is_settled_only_once_its_name_is_on_the_disk() {
    for number in [0, 1] {
        let home = Home::new();
        let source = &home.sources()[number];
        let made = source.create().await.unwrap().unwrap();
        home.refused("created", source.settle(&made)).await;
        home.refused("found", source.settle(&made)).await;
        source.settle(&made).await.unwrap();
        let next = source.replace().await.unwrap();
        home.refused("replaced", source.settle(&next)).await;
        home.refused("found", source.settle(&next)).await;
        source.settle(&next).await.unwrap();
        assert_eq!(source.candidates().await.unwrap().len(), 1);
        assert_eq!(source.resolve().await.unwrap().expose(), next.expose());
    }
}

#[test]
fn an_identity_file_is_on_the_disk_or_nothing_is_left_of_it() {
    let home = Home::new();
    let (path, parts) = (home.at("identity.txt"), home.at(".identity.txt.*"));
    for (file, call, errno) in [
        (parts.as_path(), Call::Write, libc::ENOSPC),
        (parts.as_path(), Call::Sync, libc::EIO),
        (home.path(), Call::Sync, libc::EIO),
    ] {
        faults::fail(file, call, 0, 1, errno);
        let error = home.identity.write(&path).unwrap_err();
        assert_eq!(faults::heal(file), 1, "{call:?} of {}", file.display());
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Io), "{error}");
        assert!(home.names().is_empty(), "{call:?}: {:?}", home.names());
    }
    home.identity.write(&path).unwrap();
    assert_eq!(home.names(), ["identity.txt"]);
    let text = std::fs::read(&path).unwrap();
    assert!(text.ends_with(&[home.identity.secret().expose(), b"\n"].concat()));
    // Not over another one, which stays.
    AgeIdentity::generate().write(&path).unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), text);
}

/// What another process is about to give its name is no rest of one that was killed.
#[tokio::test]
async fn only_what_is_older_than_a_minute_is_swept() {
    for (number, second) in [(0, ".app.key.next."), (1, ".app.yaml.next.")] {
        let home = Home::new();
        let source = &home.sources()[number];
        let [young, old] = ["0123456789abcdef", "fedcba9876543210"].map(|token| home.at(&format!("{second}{token}")));
        for path in [&young, &old] {
            std::fs::write(path, "a secret").unwrap();
        }
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(61);
        std::fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
        let made: Secret = source.create().await.unwrap().unwrap();
        source.settle(&made).await.unwrap();
        let next = source.replace().await.unwrap();
        source.settle(&next).await.unwrap();
        assert!(young.exists() && !old.exists(), "{:?}", home.names());
    }
}
