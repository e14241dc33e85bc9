//! Settings from environment variables. Each case runs in a child process, which alone can have variables of its own.
#![cfg(feature = "config")]

use std::path::Path;
use std::process::Command;

use strongroom::{DatabaseConfig, ErrorKind};

const CASE: &str = "CONFIG_ENV_CASE";
const FILE: &str = "CONFIG_ENV_FILE";

/// Runs [`child`] with these variables, with `file` as its configuration file, and gives what it printed.
fn settings(file: Option<&Path>, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(CASE, "1").envs(variables.iter().copied());
    if let Some(file) = file {
        command.env(FILE, file);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Not a test of its own: prints what it reads when another test has started it.
#[test]
fn child() {
    if std::env::var_os(CASE).is_none() {
        return;
    }
    let config = match std::env::var_os(FILE) {
        Some(file) => DatabaseConfig::from_file(file),
        None => DatabaseConfig::from_env(),
    };
    match config {
        Ok(config) => println!("{config:?}"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Config);
            println!("error: {error}");
        }
    }
}

#[test]
fn without_variables_everything_is_default() {
    assert!(settings(None, &[]).contains(&format!("{:?}", DatabaseConfig::default())));
}

#[test]
fn every_setting_has_a_variable() {
    let text = settings(
        None,
        &[
            ("STRONGROOM_DB__POOL__MIN_SIZE", "0"),
            ("STRONGROOM_DB__POOL__MAX_SIZE", "20"),
            ("STRONGROOM_DB__POOL__ACQUIRE_TIMEOUT", "2.5"),
            ("STRONGROOM_DB__RETRY__MAX_ATTEMPTS", "5"),
            ("STRONGROOM_DB__RETRY__DELAY", "1"),
            ("STRONGROOM_DB__CIPHER__ENABLED", "true"),
            ("STRONGROOM_DB__CIPHER__KEY_SOURCE", "sops"),
            ("STRONGROOM_DB__CIPHER__KEY_ENV", "MY_KEY"),
            ("STRONGROOM_DB__CIPHER__SOPS_PATH", "secrets.yml"),
            ("STRONGROOM_DB__CIPHER__SOPS_KEY", "007"),
        ],
    );
    for part in [
        "min_size: 0, max_size: 20, acquire_timeout: 2.5s",
        "max_attempts: 5, delay: 1s",
        "enabled: true, key_source: Sops, key_env: \"MY_KEY\", sops_path: Some(\"secrets.yml\"), sops_key: \"007\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn variables_win_over_the_file_and_leave_the_rest_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("strongroom.yml");
    std::fs::write(&path, "db: { pool: { min_size: 3, max_size: 7 }, retry: { max_attempts: 2 } }").unwrap();
    let text = settings(Some(&path), &[("STRONGROOM_DB__POOL__MAX_SIZE", "9")]);
    assert!(text.contains("min_size: 3, max_size: 9") && text.contains("max_attempts: 2"), "{text}");
}

#[test]
fn errors_name_the_variable_and_never_show_its_value() {
    for (name, expected) in [
        ("STRONGROOM_DB__POOL__MAX_SIZE", "expected a whole number"),
        ("STRONGROOM_DB__POOL__MAX", "there is no such setting; expected one of `min_size`"),
        ("STRONGROOM_DB__POOL", "expected a section of settings"),
        ("STRONGROOM_DB__CIPHER__ENABLED", "expected true or false"),
        ("STRONGROOM_DB__CIPHER__KEY", "there is no such setting; secrets never stand in the configuration"),
    ] {
        let text = settings(None, &[(name, "hunter2")]);
        assert!(text.contains(&format!("error: environment variable {name}: {expected}")), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_variable_may_say_whether_to_encrypt_with_the_key_that_the_file_names() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("strongroom.yml");
    std::fs::write(&path, "db: { cipher: { key_source: sops, sops_path: secrets.yml } }").unwrap();
    let text = settings(Some(&path), &[]);
    assert!(text.contains("error: ") && text.contains("db.cipher: expected `enabled`"), "{text}");
    let text = settings(Some(&path), &[("STRONGROOM_DB__CIPHER__ENABLED", "true")]);
    assert!(text.contains("enabled: true, key_source: Sops"), "{text}");
    let text = settings(None, &[("STRONGROOM_DB__CIPHER__KEY_SOURCE", "sops")]);
    assert!(text.contains("environment variable STRONGROOM_DB__CIPHER: expected `enabled`"), "{text}");
    std::fs::write(&path, "db: { cipher: { enabled: false } }").unwrap();
    let text = settings(Some(&path), &[("STRONGROOM_DB__CIPHER__KEY_SOURCE", "sops")]);
    assert!(text.contains("enabled: false, key_source: Sops"), "{text}");
}

/// The key's own variable is not a setting, although its name begins like one.
#[test]
fn the_variable_of_the_key_is_no_setting() {
    let text = settings(None, &[("STRONGROOM_DB_KEY", "hunter2"), ("STRONGROOM_DBX", "1")]);
    assert!(text.contains(&format!("{:?}", DatabaseConfig::default())) && !text.contains("hunter2"), "{text}");
}

/// `${VAR:-}` of a compose file makes a variable empty where it is meant to be left out.
#[test]
fn an_empty_variable_is_as_good_as_not_set() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("strongroom.yml");
    std::fs::write(
        &path,
        "db:\n  pool: { max_size: 7, acquire_timeout: 2.5 }\n  retry: { max_attempts: 2 }\n  cipher: { enabled: true, \
         key_source: sops, key_env: MINE, sops_path: secrets.yml, sops_key: k }\n",
    )
    .unwrap();
    let expected = settings(Some(&path), &[]);
    assert!(expected.contains("secrets.yml") && expected.contains("max_size: 7"), "{expected}");
    let names = [
        "POOL",
        "POOL__MAX_SIZE",
        "POOL__ACQUIRE_TIMEOUT",
        "RETRY__MAX_ATTEMPTS",
        "RETRY__DELAY",
        "CIPHER",
        "CIPHER__KEY_SOURCE",
        "CIPHER__KEY_ENV",
        "CIPHER__SOPS_PATH",
        "CIPHER__SOPS_KEY",
    ]
    .map(|name| format!("STRONGROOM_DB__{name}"));
    let said = |text: &str| text.lines().find(|line| line.starts_with("DatabaseConfig")).map(str::to_owned);
    for empty in ["", "  ", "\t\n"] {
        for name in &names {
            let text = settings(Some(&path), &[(name, empty)]);
            assert_eq!(said(&text), said(&expected), "{name}: {text}");
            let text = settings(None, &[(name, empty)]);
            assert_eq!(said(&text), said(&settings(None, &[])), "{name}: {text}");
        }
    }
    let all: Vec<_> = names.iter().skip(1).map(|name| (name.as_str(), "")).collect();
    assert_eq!(said(&settings(Some(&path), &all)), said(&expected));
}

#[test]
fn an_empty_variable_is_refused_where_empty_cannot_be_meant() {
    for (name, expected) in [
        ("STRONGROOM_DB__CIPHER__ENABLED", "expected true or false"),
        ("STRONGROOM_DB__POOL__MAX", "there is no such setting"),
        ("STRONGROOM_DB__CIPHERS", "there is no such setting"),
    ] {
        let text = settings(None, &[(name, "")]);
        assert!(text.contains(&format!("error: environment variable {name}: {expected}")), "{text}");
    }
}
