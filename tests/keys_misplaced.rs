//! A private key that stands where a name belongs (a path, a variable, a recipient) is not quoted.
#![cfg(feature = "sops")]

use std::error::Error as _;
use std::fmt::{Debug, Write as _};
use std::process::Command;

use strongroom::keys::sops::{self, AgeIdentity, IdentitySources, KeyPath, SopsBackend, SopsFormat};
use strongroom::{
    CachedKeySource, ChainKeySource, CommandKeySource, DatabaseConfig, EnvKeySource, Error, FileKeySource, KeySource,
    Secret, SopsKeySource,
};

/// What of a key must not be seen, in letters of any case.
const PLANTED: &str = "qzplanted7";

/// Private keys as they get into the wrong field.
const KEYS: [&str; 6] = [
    "AGE-SECRET-KEY-1QZPLANTED7",
    "age-secret-key-1qzplanted7",
    "AGE-SECRET-KEY-PQ-1QZPLANTED7",
    "AGE-PLUGIN-YUBIKEY-1QZPLANTED7",
    "# created: today\nAGE-SECRET-KEY-1\nQZPLANTED7",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nqzplanted7\nQZPLANTED7\n-----END OPENSSH PRIVATE KEY-----\n",
];

#[derive(Default)]
struct Said(String);

impl Said {
    fn show(&mut self, value: &impl Debug) {
        write!(self.0, "{value:?}\n{value:#?}\n").unwrap();
    }

    fn error(&mut self, error: &Error) {
        writeln!(self.0, "{error} {:?} {:?}", error.object(), error.source()).unwrap();
        self.show(error);
    }

    async fn source(&mut self, source: &(impl KeySource + Debug)) {
        self.show(source);
        self.0.push_str(&source.describe());
        for error in [
            source.resolve().await.err(),
            source.candidates().await.err(),
            source.create().await.err(),
            source.replace().await.err(),
        ] {
            self.error(&error.unwrap_or_else(|| Error::new(strongroom::ErrorKind::Key, "none")));
        }
    }

    /// Nothing of a key, and a word in its place, at least `times`.
    fn hides(&self, what: &str, times: usize) {
        assert!(!self.0.to_lowercase().contains(PLANTED), "{what} was quoted: {}", self.0);
        assert!(self.0.matches("[REDACTED]").count() >= times, "{what} was not shown at all: {}", self.0);
    }
}

#[tokio::test]
async fn no_source_quotes_a_key_that_stands_in_place_of_a_name() {
    let folder = tempfile::tempdir().unwrap();
    for key in KEYS {
        let inside = folder.path().join(key);
        let mut said = Said::default();
        said.source(&FileKeySource::new(key)).await;
        said.source(&FileKeySource::new(&inside).create_if_missing(true)).await;
        said.source(&EnvKeySource::new(key)).await;
        said.source(&CommandKeySource::new(key).args([key])).await;
        said.source(&CachedKeySource::new(EnvKeySource::new(key), std::time::Duration::from_secs(1))).await;
        said.source(&ChainKeySource::new(EnvKeySource::new(key)).or(FileKeySource::new(key))).await;
        said.source(&SopsKeySource::at(key)).await;
        let sops = SopsKeySource::new(folder.path().join("new.yaml"), "db_key").create_if_missing(true);
        said.source(&sops.clone().recipients([key])).await;
        said.source(&SopsKeySource::new(folder.path().join("s.yaml"), key).program(key)).await;
        said.hides(key, 40);
    }
}

#[tokio::test]
async fn no_identity_place_path_or_recipient_quotes_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let (identity, file) = (AgeIdentity::generate(), folder.path().join("s.yaml"));
    let text = sops::encrypt(SopsFormat::Yaml, &[("db_key", &Secret::new("staple"))], &[identity.recipient()]).unwrap();
    std::fs::write(&file, &text).unwrap();
    for key in KEYS {
        let mut said = Said::default();
        let identities = IdentitySources::none().file(key).file(folder.path().join(key));
        said.show(&identities);
        said.source(&SopsKeySource::at(&file).identities(identities.clone()).backend(SopsBackend::Native)).await;
        said.error(&sops::encrypt(SopsFormat::Yaml, &[("a", &Secret::new("b"))], &[key]).unwrap_err());
        said.error(&sops::encrypt(SopsFormat::Yaml, &[(key, &Secret::new(""))], &[identity.recipient()]).unwrap_err());
        let path = KeyPath::keys([key]).unwrap();
        said.show(&path);
        said.0.push_str(&path.to_string());
        let opened = IdentitySources::none().secret(identity.secret().clone());
        said.error(&sops::decrypt(text.as_bytes(), SopsFormat::Yaml, &path, &opened).unwrap_err());
        said.error(&identity.write(folder.path().join("no folder").join(key)).unwrap_err());
        said.hides(key, 20);
    }
    let error = sops::encrypt(SopsFormat::Yaml, &[("a", &Secret::new("b"))], &[KEYS[0]]).unwrap_err().to_string();
    assert!(error.contains("is the private key") && error.contains("age1"), "{error}");
}

#[test]
fn settings_do_not_show_a_key_that_stands_in_place_of_a_name() {
    for key in KEYS {
        let mut config = DatabaseConfig::default();
        config.cipher.key_env = key.into();
        config.cipher.sops_path = Some(key.into());
        config.cipher.sops_key = key.into();
        let mut said = Said::default();
        said.show(&config);
        said.hides(key, 6);
    }
}

#[tokio::test]
async fn child() {
    let Some(file) = std::env::var_os("CHILD_FILE") else { return };
    let mut said = Said::default();
    let identities = IdentitySources::default().env_commands(true);
    said.source(&SopsKeySource::at(file).identities(identities).backend(SopsBackend::Native)).await;
    println!("{}", said.0);
}

#[test]
fn no_variable_of_sops_is_quoted_if_it_holds_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.yaml");
    let recipient = AgeIdentity::generate();
    let text = sops::encrypt(SopsFormat::Yaml, &[("db_key", &Secret::new("a"))], &[recipient.recipient()]).unwrap();
    std::fs::write(&file, text).unwrap();
    let names = ["SOPS_AGE_KEY_FILE", "SOPS_AGE_SSH_PRIVATE_KEY_FILE", "SOPS_AGE_KEY_CMD", "SOPS_AGE_KEY"];
    for (name, key) in names.iter().flat_map(|name| KEYS.map(|key| (*name, key))) {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "child", "--nocapture"]).env_clear().env("CHILD_FILE", &file).env(name, key);
        let output = child.output().unwrap();
        let said = Said(String::from_utf8([output.stdout, output.stderr].concat()).unwrap());
        assert!(output.status.success() && said.0.contains(name), "{}", said.0);
        said.hides(name, 0);
        if name.ends_with("_FILE") {
            assert!(said.0.contains("holds a private key, and not the name of a file"), "{}", said.0);
        }
    }
}

#[test]
fn names_that_only_look_like_the_beginning_of_a_key_are_shown() {
    for name in ["age-plugin-yubikey", "/etc/keys/age-secret-key-prod.txt", "/srv/storage-plugin-1234567890abcdef/x"] {
        let shown = EnvKeySource::new(name).describe();
        assert!(shown.contains(name), "{shown}");
    }
    let body = "lQdGBGXx5KkBEADQ";
    let pgp = format!("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{body}\n-----END PGP PRIVATE KEY BLOCK-----");
    let age = format!("AGE-PLUGIN-YUBIKEY-1{}", "Q".repeat(30));
    // Also where something stands before them.
    let keys = [pgp.clone(), pgp[..60].to_owned(), age.clone(), format!("key{pgp}"), format!("key{age}")];
    for key in keys {
        let shown = EnvKeySource::new(&key).describe();
        assert!(!shown.contains("lQdGB") && !shown.contains("QQQ") && shown.contains("[REDACTED]"), "{shown}");
    }
}
