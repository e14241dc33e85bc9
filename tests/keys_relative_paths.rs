//! A relative path means what it meant when it was named, wherever the process goes afterwards. Each case runs in a
//! process of its own, for all threads share the working directory.
#![cfg(all(feature = "sops", feature = "config", unix))]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use strongroom::database::KeyPlace;
use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsBackend, SopsFormat, encrypt};
use strongroom::{CommandKeySource, DatabaseConfig, FileKeySource, KeySource, Secret, SopsKeySource};

const HERE: &str = "KEYS_RELATIVE_HERE";

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// One of two directories with files of the same names.
fn furnish(directory: &Path, word: &str, identity: &AgeIdentity) {
    fs::create_dir(directory).unwrap();
    write(&directory.join("key.txt"), word, 0o600);
    write(&directory.join("give.sh"), &format!("#!/bin/sh\nprintf {word}; cat word.txt\n"), 0o700);
    write(&directory.join("word.txt"), word, 0o600);
    write(&directory.join("identity.txt"), std::str::from_utf8(identity.secret().expose()).unwrap(), 0o600);
    let file = encrypt(SopsFormat::Yaml, &[("db_key", &Secret::new(word))], &[identity.recipient()]).unwrap();
    write(&directory.join("s.yaml"), &file, 0o600);
}

async fn text(source: &dyn KeySource) -> String {
    source.resolve().await.map_or_else(|error| error.to_string(), |key| String::from_utf8_lossy(key.expose()).into())
}

#[tokio::test]
async fn sources_of_keys_stay_where_they_were_named() {
    if let Some(here) = std::env::var_os(HERE) {
        return child(Path::new(&here)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    for word in ["one", "two"] {
        furnish(&folder.path().join(word), word, &AgeIdentity::generate());
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "sources_of_keys_stay_where_they_were_named", "--nocapture"]);
    again.env(HERE, folder.path()).env("SOPS_AGE_KEY_FILE", "identity.txt").env_remove("SOPS_AGE_KEY");
    assert!(again.current_dir(folder.path().join("one")).status().unwrap().success());
}

async fn child(here: &Path) {
    let native = |source: SopsKeySource| source.backend(SopsBackend::Native);
    let none = IdentitySources::none;
    let file = FileKeySource::new("key.txt");
    let missing = FileKeySource::new("./no/key.txt");
    let by_variable = native(SopsKeySource::at("s.yaml"));
    let by_file = native(SopsKeySource::at("./s.yaml")).identities(none().file("identity.txt"));
    let by_command = CommandKeySource::new("./give.sh");
    let by_argument = CommandKeySource::new("cat").args(["key.txt"]);
    let program = SopsKeySource::at("s.yaml").backend(SopsBackend::Binary).program("./give.sh");
    let lost = native(SopsKeySource::at("no.yaml"));
    let configs = [configured("s.yaml"), configured("no.yaml")];
    for place in ["two", ""] {
        std::env::set_current_dir(here.join(place)).unwrap();
        for round in 0..2 {
            assert_eq!(text(&file).await, "one", "{round}");
            assert_eq!(text(&by_variable).await, "one", "{round}");
            assert_eq!(text(&by_file.clone().ttl(std::time::Duration::ZERO)).await, "one", "{round}");
            assert_eq!(text(&by_command).await, "oneone", "{round}");
            assert_eq!(text(&by_argument).await, "one", "{round}");
            assert_eq!(text(&program).await, "oneone", "{round}");
        }
        for (configs, expected) in configs.iter().zip(["one", "SOPS file no.yaml: the file does not exist"]) {
            for config in configs {
                let answer = text(&*config.key_source(None).unwrap().unwrap()).await;
                assert!(answer.starts_with(expected), "{config:?}: {answer}");
            }
        }
        // Errors have the path as it was given.
        assert!(text(&missing).await.starts_with("key file ./no/key.txt does not exist"));
        assert!(text(&lost).await.starts_with("SOPS file no.yaml: the file does not exist"));
    }
    // A directory that is gone is not a program that is not installed.
    fs::remove_dir_all(here.join("one")).unwrap();
    let gone = text(&by_argument).await;
    assert!(gone.contains("key command cat cannot run in") && gone.contains("which is gone"), "{gone}");
}

/// The same settings, in each of the ways that they can be made.
fn configured(path: &str) -> Vec<DatabaseConfig> {
    let text = format!(r#"{{ "cipher": {{ "enabled": true, "key_source": "sops", "sops_path": "{path}" }} }}"#);
    let mut by_hand = DatabaseConfig::default();
    (by_hand.cipher.enabled, by_hand.cipher.key_source) = (true, KeyPlace::Sops);
    by_hand.cipher.sops_path = Some(path.into());
    fs::write("config.json", format!(r#"{{ "db": {text} }}"#)).unwrap();
    let by_file = DatabaseConfig::from_file("config.json").unwrap();
    let configs = vec![by_hand, serde_json::from_str(&text).unwrap(), by_file];
    assert!(configs.iter().all(|config| config.cipher.sops_path.as_deref() == Some(Path::new(path))));
    assert!(configs.windows(2).all(|two| two[0] == two[1]));
    configs
}

#[tokio::test]
async fn an_empty_path_is_shown_as_one() {
    let error = FileKeySource::new("").resolve().await.unwrap_err().to_string();
    assert!(error.starts_with("key file `` does not exist"), "{error}");
    let error = SopsKeySource::at("").resolve().await.unwrap_err().to_string();
    assert!(error.starts_with("SOPS file ``: the file does not exist"), "{error}");
}
