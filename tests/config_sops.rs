//! From a configuration file that names a SOPS file to an open, encrypted database.
#![cfg(all(feature = "config", feature = "sops", feature = "sqlcipher"))]

use std::path::Path;
use std::process::Command;

use strongroom::keys::sops::{self, AgeIdentity, SopsFormat};
use strongroom::{AsyncDatabase, DatabaseConfig, ErrorKind, Secret};

const DIRECTORY: &str = "STRONGROOM_TEST_CONFIG_SOPS";

/// Runs a test of this file again, as a process with an environment of its own.
fn again(test: &str, directory: &Path, identity: Option<&str>) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(DIRECTORY, directory).env("HOME", directory);
    child.env_remove("XDG_CONFIG_HOME").env_remove("SOPS_AGE_KEY_FILE").env_remove("SOPS_AGE_KEY");
    if let Some(identity) = identity {
        child.env("SOPS_AGE_KEY", identity);
    }
    child.status().unwrap().success()
}

#[tokio::test]
async fn a_configured_sops_file_opens_an_encrypted_database() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return open(Path::new(&directory)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let identity = AgeIdentity::generate();
    let passphrase = Secret::new("from the file");
    let text = sops::encrypt(SopsFormat::Yaml, &[("bank_key", &passphrase)], &[identity.recipient()]).unwrap();
    let secrets = directory.path().join("secrets.yml");
    std::fs::write(&secrets, text).unwrap();
    let config = format!(
        "db:\n  pool: {{ max_size: 3 }}\n  cipher: {{ enabled: true, key_source: sops, sops_path: {}, sops_key: bank_key }}\n",
        secrets.display()
    );
    std::fs::write(directory.path().join("strongroom.yml"), config).unwrap();
    let identity = std::str::from_utf8(identity.secret().expose()).unwrap();
    assert!(again("a_configured_sops_file_opens_an_encrypted_database", directory.path(), Some(identity)));

    // The very passphrase opens it, and nothing does without the identity.
    let key = strongroom::PassphraseKeySource::new(passphrase);
    let db = AsyncDatabase::builder(directory.path().join("bank.db")).key(key).open().await.unwrap();
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(1));
    db.close().await.unwrap();
    assert!(again("without_an_identity_the_database_does_not_open", directory.path(), None));
}

async fn open(directory: &Path) {
    let config = DatabaseConfig::from_file(directory.join("strongroom.yml")).unwrap();
    let db = AsyncDatabase::from_config(directory.join("bank.db"), &config).open().await.unwrap();
    assert!(db.is_encrypted());
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    db.close().await.unwrap();
}

#[tokio::test]
async fn without_an_identity_the_database_does_not_open() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let config = DatabaseConfig::from_file(Path::new(&directory).join("strongroom.yml")).unwrap();
    let error = AsyncDatabase::from_config(Path::new(&directory).join("other.db"), &config).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key, "{error}");
    assert!(!Path::new(&directory).join("other.db").exists());
}
