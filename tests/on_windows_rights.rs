//! Who may read what is made for a secret, and which files are not taken for one, on Windows.
#![cfg(all(windows, feature = "sqlcipher", feature = "sops"))]

mod common;
#[path = "common/platform_page.rs"]
mod platform_page;
#[path = "common/rights.rs"]
mod rights;

use std::fs;
use std::path::Path;

use common::{Home, Kind, kinds};
use rights::{give, list_of};
use strongroom::database::BackupOptions;
use strongroom::keys::sops::{AgeIdentity, SopsFormat, encrypt};
use strongroom::sqlcipher::ReplaceOptions;
use strongroom::{AsyncDatabase, ErrorKind, FileKeySource, KeySource, Reason, Secret, SopsKeySource};

/// Everybody may do everything.
const EVERYBODY: &str = "D:(A;;FA;;;WD)";

/// One entry, for a user, and perhaps one for the system, which wine adds.
#[track_caller]
fn assert_private(path: &Path) {
    let list = list_of(path);
    let entries: Vec<_> = list.split('(').skip(1).filter(|entry| !entry.contains(";;;SY)")).collect();
    assert!(matches!(entries[..], [user] if user.starts_with("A;;FA;;;S-1-5-21-")), "{}: {list}", path.display());
}

#[tokio::test]
async fn what_is_made_for_a_secret_is_for_its_user_alone() {
    let home = Home::new(Kind::KeyedFile);
    let folder = home.directory.path();
    let identity = folder.join("keys.txt");
    AgeIdentity::generate().write(&identity).unwrap();
    assert_private(&identity);

    let key = FileKeySource::new(folder.join("app.key")).raw_key().create_if_missing(true);
    let db = AsyncDatabase::builder(home.path()).key(key.clone()).open().await.unwrap();
    assert_private(&folder.join("app.key"));
    let copy = folder.join("copy.db");
    db.backup_with(&copy, BackupOptions::new()).await.unwrap();
    assert_private(&copy);
    // The file that is there names who may read the one that follows it.
    give(&folder.join("app.key"), &list_of(&identity));
    db.rekey_fresh(key.clone()).await.unwrap();
    assert_private(&folder.join("app.key"));
    db.close().await.unwrap();
    assert!(key.resolve().await.is_ok());
}

#[tokio::test]
async fn a_key_file_that_others_may_read_or_write_is_refused_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    fs::write(&path, "hunter2").unwrap();
    let source = FileKeySource::new(&path);
    for list in [EVERYBODY, "D:(A;;FR;;;WD)", "D:(A;;FW;;;WD)(A;;FR;;;BU)"] {
        give(&path, list);
        match source.resolve().await {
            Err(error) if kinds(&error) == (ErrorKind::Key, Reason::NotPermitted) => {
                panic!("{list}: not even this user: {}", list_of(&path))
            }
            Err(error) => {
                assert_eq!(kinds(&error), (ErrorKind::Key, Reason::Exposed), "{list}: {error}");
                platform_page::says(&error, directory.path());
            }
            Ok(_) => panic!("{list}: taken, with {}", list_of(&path)),
        }
    }
    rights::make_private(&path);
    assert_eq!(source.resolve().await.unwrap().expose(), b"hunter2");
}

#[tokio::test]
async fn a_sops_file_that_is_written_over_keeps_its_list() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secrets.yaml");
    let identity = AgeIdentity::generate();
    let text = encrypt(SopsFormat::Yaml, &[("key", identity.secret())], &[identity.recipient()]).unwrap();
    let own = directory.path().join("own");
    identity.write(&own).unwrap();
    for list in [EVERYBODY, &list_of(&own)] {
        fs::write(&path, &text).unwrap();
        give(&path, list);
        let before = list_of(&path);
        let source = SopsKeySource::new(&path, "key").identity(identity.secret().clone());
        source.replace(&Secret::new("another secret")).await.unwrap();
        assert_eq!(list_of(&path), before);
    }
}

/// Services that run as others go on using it.
#[tokio::test]
async fn a_database_that_is_replaced_keeps_its_list() {
    for list in [EVERYBODY, "D:(A;;FA;;;WD)(A;;FR;;;BU)"] {
        let home = Home::new(Kind::KeyedFile);
        let copy = home.directory.path().join("copy.db");
        let db = home.open().await;
        db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
        db.backup_to(&copy).await.unwrap();
        db.close().await.unwrap();
        give(&home.path(), list);
        let before = list_of(&home.path());
        assert!(before.contains(";;;WD)"), "{before}");
        home.builder().restore_from(&copy, ReplaceOptions::new()).await.unwrap();
        assert_eq!(list_of(&home.path()), before, "restored");
        home.builder().decrypt(ReplaceOptions::new()).await.unwrap();
        assert_eq!(list_of(&home.path()), before, "decrypted");
        home.builder().encrypt(ReplaceOptions::new()).await.unwrap();
        assert_eq!(list_of(&home.path()), before, "encrypted");
        let db = home.open().await;
        assert_eq!(db.fetch_value::<i64>("SELECT a FROM t", ()).await.unwrap(), Some(1));
        db.close().await.unwrap();
    }
}
