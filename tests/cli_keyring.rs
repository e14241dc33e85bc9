//! The program takes its key from the store of the system.
#![cfg(all(feature = "cli", feature = "keyring", target_os = "linux"))]

#[path = "common/cipher.rs"]
mod cipher;
#[path = "common/keyrings.rs"]
mod keyrings;
#[path = "common/peers.rs"]
mod peers;

use std::process::Command;

use keyrings::{SERVICE, store};
use strongroom::Secret;

fn check(path: &std::path::Path, options: &[&str]) -> (bool, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    let output = program.arg("check").arg(path).args(options).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn a_passphrase_and_a_raw_key_are_taken_from_the_keyring() {
    if !keyrings::is_child() {
        return keyrings::with_secret_service("a_passphrase_and_a_raw_key_are_taken_from_the_keyring");
    }
    let home = keyrings::home();
    let (path, raw) = (home.path().join("app.db"), home.path().join("raw.db"));
    cipher::create(cipher::keyed(&path, "correct horse")).await;
    cipher::create(cipher::keyed(&raw, Secret::raw_key([0xab; 32]))).await;
    store("passphrase", "correct horse", &[]);
    store("raw", &"ab".repeat(32), &[]);
    let [passphrase, key, none] = ["passphrase", "raw", "none"].map(|user| format!("{SERVICE}/{user}"));
    assert_eq!(check(&path, &["--key-keyring", &passphrase]), (true, String::new()));
    assert_eq!(check(&raw, &["--key-raw-keyring", &key]), (true, String::new()));
    let (done, said) = check(&path, &["--key-keyring", &key]);
    assert!(!done && said.contains("key"), "{said}");
    let (done, said) = check(&path, &["--key-keyring", &none]);
    assert!(!done && said.contains("keyring entry none of test.strongroom does not exist"), "{said}");
    // As elsewhere, the one that fits is taken.
    assert!(check(&path, &["--key-raw-keyring", &key, "--key-keyring", &passphrase]).0);
}
