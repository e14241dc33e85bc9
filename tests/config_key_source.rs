//! The key source that a configuration asks for.

use std::path::PathBuf;

use strongroom::database::KeyPlace;
use strongroom::{DatabaseConfig, ErrorKind, Reason, Secret};

fn enabled(place: KeyPlace) -> DatabaseConfig {
    let mut config = DatabaseConfig::default();
    (config.cipher.enabled, config.cipher.key_source) = (true, place);
    config
}

#[tokio::test]
async fn an_unset_variable_is_an_error_and_never_plaintext() {
    let mut config = enabled(KeyPlace::Env);
    config.cipher.key_env = "NEVER_SET_DB_KEY".into();
    let source = config.key_source(None).unwrap().expect("enabled means a key");
    let error = source.resolve().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Missing));
}

#[tokio::test]
async fn a_passphrase_from_the_caller_wins_over_every_place() {
    for place in [KeyPlace::Env, KeyPlace::Sops, KeyPlace::Passphrase] {
        let source = enabled(place).key_source(Some(Secret::new("typed"))).unwrap().unwrap();
        assert_eq!(source.resolve().await.unwrap().expose(), b"typed");
    }
}

#[test]
fn a_place_without_a_key_is_an_error() {
    for (place, expected) in [(KeyPlace::Passphrase, "the program gave none"), (KeyPlace::Sops, "sops_path is not set")]
    {
        let error = enabled(place).key_source(None).err().expect("nothing to resolve");
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Missing));
        assert!(error.to_string().contains(expected), "{error}");
    }
    let mut config = enabled(KeyPlace::Sops);
    config.cipher.sops_path = Some(PathBuf::new());
    assert!(config.key_source(None).is_err());
    assert_eq!(enabled(KeyPlace::Env).key_source(Some(Secret::new(""))).err().unwrap().reason(), Reason::Empty);
}

#[test]
fn a_sops_file_that_nobody_would_read_is_an_error_and_not_ignored() {
    for place in [KeyPlace::Env, KeyPlace::Passphrase] {
        let mut config = enabled(place);
        config.cipher.sops_path = Some("secrets.yml".into());
        let error = config.key_source(None).err().expect("the file would be ignored");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().starts_with("db.cipher.sops_path is set, but key_source is not sops"), "{error}");
        config.cipher.sops_path = Some(PathBuf::new());
        assert_eq!(config.key_source(None).is_ok(), place == KeyPlace::Env, "an empty path is none");
        config.cipher.sops_path = Some("secrets.yml".into());
        config.cipher.enabled = false;
        assert!(config.key_source(None).unwrap().is_none(), "said to be plaintext");
    }
}

#[test]
fn a_passphrase_for_a_plaintext_database_is_a_contradiction() {
    let config = DatabaseConfig::default();
    assert!(config.key_source(None).unwrap().is_none());
    let error = config.key_source(Some(Secret::new("typed"))).err().expect("a contradiction");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("enabled is false"), "{error}");
}
