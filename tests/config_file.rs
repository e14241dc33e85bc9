//! The configuration file, in its three formats.
#![cfg(feature = "config")]

use std::time::Duration;

use strongroom::database::KeyPlace;
use strongroom::{DatabaseConfig, ErrorKind, Reason, Result};

fn read(name: &str, text: &str) -> Result<DatabaseConfig> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    DatabaseConfig::from_file(&path)
}

fn yaml(text: &str) -> Result<DatabaseConfig> {
    read("strongroom.yml", text)
}

/// The message of the refusal, which must be a `Config` error that names the file.
fn refusal(text: &str) -> String {
    let error = yaml(text).expect_err(text);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("strongroom.yml"), "{error}");
    format!("{error} {error:?}")
}

#[test]
fn every_default_is_as_documented() {
    for config in
        [DatabaseConfig::default(), yaml("db: {}").unwrap(), yaml("db: { pool: {}, retry: {}, cipher: {} }").unwrap()]
    {
        assert_eq!((config.pool.min_size, config.pool.max_size), (1, 10));
        assert_eq!(config.pool.acquire_timeout, Duration::from_secs(30));
        assert_eq!((config.retry.max_attempts, config.retry.delay), (3, Duration::from_millis(500)));
        assert!(!config.cipher.enabled);
        assert_eq!((config.cipher.key_source, config.cipher.key_env.as_str()), (KeyPlace::Env, "STRONGROOM_DB_KEY"));
        assert_eq!((config.cipher.sops_path, config.cipher.sops_key.as_str()), (None, "db_key"));
    }
}

#[test]
fn the_documented_file_gives_the_defaults() {
    let text = r#"
db:
  pool:   { min_size: 1, max_size: 10, acquire_timeout: 30.0 }
  retry:  { max_attempts: 3, delay: 0.5 }
  cipher: { enabled: false, key_source: env, key_env: "STRONGROOM_DB_KEY", sops_path: null, sops_key: "db_key" }   # key_source: env | sops | passphrase
"#;
    assert_eq!(yaml(text).unwrap(), DatabaseConfig::default());
}

#[test]
fn yaml_toml_and_json_say_the_same() {
    let toml = "[db.pool]\nmin_size = 2\nacquire_timeout = 2.5\n[db.retry]\ndelay = 1\n\
                [db.cipher]\nenabled = true\nkey_source = 'sops'\nsops_path = 'secrets.yml'\n";
    let json = r#"{ "db": { "pool": { "min_size": 2, "acquire_timeout": 2.5 }, "retry": { "delay": 1 },
                "cipher": { "enabled": true, "key_source": "sops", "sops_path": "secrets.yml" } } }"#;
    let yaml = "db:\n  pool:\n    min_size: 2\n    acquire_timeout: 2.5\n  retry: { delay: 1 }\n\
                \x20 cipher: { enabled: true, key_source: sops, sops_path: secrets.yml }\n";
    let expected = read("a.toml", toml).unwrap();
    assert_eq!((expected.pool.min_size, expected.pool.acquire_timeout), (2, Duration::from_millis(2500)));
    assert_eq!((expected.retry.delay, expected.cipher.key_source), (Duration::from_secs(1), KeyPlace::Sops));
    assert_eq!(expected.cipher.sops_path.as_deref(), Some("secrets.yml".as_ref()));
    for (name, text) in [("a.json", json), ("a.JSON", json), ("a.yml", yaml), ("a.yaml", yaml)] {
        assert_eq!(read(name, text).unwrap(), expected, "{name}");
    }
}

#[test]
fn unknown_settings_are_named_with_what_would_fit() {
    let message = refusal("db: { pool: { max: 3 } }");
    assert!(message.contains("db.pool.max: there is no such setting"), "{message}");
    assert!(message.contains("`min_size`, `max_size`, `acquire_timeout`"), "{message}");
    assert!(refusal("db: { pol: {} }").contains("db.pol: there is no such setting; expected one of `pool`"));
    assert!(refusal("db: {}\npool: {}").contains("pool: there is no such setting; expected `db`"));
}

/// A misspelt `db` would otherwise mean defaults: an unencrypted database.
#[test]
fn a_file_without_the_section_db_is_refused() {
    for text in ["", "# nothing", "{}", "bd: { cipher: { enabled: true } }", "db: true", "just text"] {
        assert!(yaml(text).is_err(), "{text}");
    }
    assert!(refusal("{}").contains("db: there is no such section"));
}

#[test]
fn values_that_do_not_fit_are_refused_by_name_and_never_shown() {
    let cases = [
        ("pool: { max_size: '9 lives hunter2' }", "db.pool.max_size: expected a whole number, 0 or more"),
        ("pool: { max_size: -1 }", "db.pool.max_size: expected a whole number, 0 or more"),
        ("pool: { max_size: 2.5 }", "db.pool.max_size: expected a whole number, 0 or more"),
        ("pool: { max_size: [hunter2] }", "db.pool.max_size: expected a whole number, 0 or more"),
        ("pool: { acquire_timeout: -0.5 }", "db.pool.acquire_timeout: expected a number of seconds, 0 or more"),
        ("pool: { acquire_timeout: true }", "db.pool.acquire_timeout: expected a number of seconds, 0 or more"),
        ("pool: hunter2", "db.pool: expected a section of settings"),
        ("retry: { delay: hunter2 }", "db.retry.delay: expected a number of seconds, 0 or more"),
        ("retry: { delay: 'NaN' }", "db.retry.delay: expected a number of seconds, 0 or more"),
        ("retry: { delay: 'inf' }", "db.retry.delay: expected a number of seconds, 0 or more"),
        ("cipher: { enabled: hunter2 }", "db.cipher.enabled: expected true or false"),
        ("cipher: { enabled: 1 }", "db.cipher.enabled: expected true or false"),
        ("cipher: { key_source: hunter2 }", "db.cipher.key_source: expected env, sops or passphrase"),
        ("cipher: { key_env: 'hunter2 is a key' }", "db.cipher.key_env: expected the name of an environment variable"),
        ("cipher: { sops_key: { a: hunter2 } }", "db.cipher.sops_key: expected a string"),
    ];
    for (setting, expected) in cases {
        let message = refusal(&format!("db: {{ {setting} }}"));
        assert!(message.contains(expected) && !message.contains("hunter2"), "{setting}: {message}");
    }
}

#[test]
fn infinite_and_missing_numbers_of_toml_are_refused() {
    for number in ["nan", "inf", "-inf", "+nan"] {
        let error = read("a.toml", &format!("[db.retry]\ndelay = {number}")).unwrap_err();
        assert!(error.to_string().contains("db.retry.delay: expected a number of seconds"), "{error}");
    }
}

#[test]
fn huge_numbers_saturate_to_be_clamped_where_they_are_used() {
    let config =
        yaml("db: { pool: { max_size: 99999999999, acquire_timeout: 1.0e+300 }, retry: { max_attempts: 0 } }").unwrap();
    assert_eq!((config.pool.max_size, config.pool.acquire_timeout), (u32::MAX, Duration::MAX));
    assert_eq!(config.retry.max_attempts, 0);
}

#[test]
fn a_secret_in_the_file_is_refused_without_showing_it() {
    for name in ["key", "password", "passphrase", "secret", "db_key", "cipher_key", "token", "KEY"] {
        let message = refusal(&format!("db: {{ cipher: {{ enabled: true, {name}: hunter2 }} }}"));
        assert!(message.contains(&format!("db.cipher.{name}")), "{message}");
        assert!(message.contains("secrets never stand in the configuration"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    assert!(refusal("db: { password: hunter2 }").contains("secrets never stand in the configuration"));
}

/// The parsers' own messages quote the line they stumble over.
#[test]
fn broken_files_are_located_and_not_quoted() {
    for (name, text) in [
        ("a.toml", "[db.cipher]\nkey = hunter2\n"),
        ("a.json", "{ \"db\": { \"key\": hunter2 } }"),
        ("a.yml", "db: { cipher: { key: 'hunter2 }\n"),
        ("a.yml", "db: { [hunter2]: 1 }\n"),
    ] {
        let error = read(name, text).unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Config, Reason::Malformed));
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(
        read("a.toml", "[db]\nx = hunter2").unwrap_err().to_string().contains("a.toml is not valid TOML: see line 2")
    );
}

#[test]
fn files_that_cannot_be_read_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let missing = DatabaseConfig::from_file(directory.path().join("a.yml")).unwrap_err();
    assert_eq!((missing.kind(), missing.reason()), (ErrorKind::Config, Reason::NotFound));
    std::fs::create_dir(directory.path().join("d.yml")).unwrap();
    assert_eq!(DatabaseConfig::from_file(directory.path().join("d.yml")).unwrap_err().reason(), Reason::Io);
    let large = format!("# {}\ndb: {{}}\n", "x".repeat(20_000));
    assert_eq!(yaml(&large).unwrap_err().reason(), Reason::TooLarge);
    let suffix = read("strongroom.ini", "").unwrap_err().to_string();
    assert!(suffix.contains(".yml, .yaml, .toml or .json"), "{suffix}");
}

/// YAML reads a key whose lines are all comments as null.
#[test]
fn a_section_without_settings_has_the_defaults() {
    for text in [
        "db:\n  # pool: { max_size: 3 }\n",
        "db:",
        "db: ~\n",
        "db:\n  pool:\n    # min_size: 2\n    # max_size: 3\n  retry:\n  cipher:\n    # enabled: true\n",
        "db: { pool: null, retry: ~, cipher: }",
        "db: { pool: { min_size: ~, max_size: , acquire_timeout: null }, retry: { max_attempts: ~, delay: ~ } }",
        "db:\n  cipher:\n    key_source:\n    key_env:\n    sops_path:\n    sops_key:\n",
    ] {
        assert_eq!(yaml(text).expect(text), DatabaseConfig::default(), "{text}");
    }
    for text in ["[db]", "[db]\n# [db.pool]\n", "[db.pool]\n[db.retry]\n[db.cipher]\n", "db = {}"] {
        assert_eq!(read("a.toml", text).expect(text), DatabaseConfig::default(), "{text}");
    }
    for text in [r#"{"db": null}"#, r#"{"db": {"pool": null, "retry": {"delay": null}}}"#] {
        assert_eq!(read("a.json", text).expect(text), DatabaseConfig::default(), "{text}");
        let tree: serde_json::Value = serde_json::from_str(text).unwrap();
        let own: Option<DatabaseConfig> = serde_json::from_value(tree["db"].clone()).unwrap();
        assert_eq!(own.unwrap_or_default(), DatabaseConfig::default(), "{text}");
    }
    // One setting that is null leaves its neighbours alone.
    let config = yaml("db: { pool: { min_size: ~, max_size: 3 } }").unwrap();
    assert_eq!((config.pool.min_size, config.pool.max_size), (1, 3));
}

/// Whether data is encrypted is the one thing that null cannot mean.
#[test]
fn null_does_not_say_whether_to_encrypt() {
    for text in ["db: { cipher: { enabled: ~ } }", "db:\n  cipher:\n    enabled:\n    key_source: sops\n"] {
        let message = refusal(text);
        assert!(message.contains("db.cipher.enabled: expected true or false"), "{message}");
    }
    assert!(refusal("db: { cipher: { enabel: ~ } }").contains("there is no such setting"));
    assert!(refusal("dbb: ~").contains("there is no such setting"));
}

/// Whoever says where the key is has not meant plaintext.
#[test]
fn a_section_that_names_a_key_must_say_whether_to_encrypt() {
    for section in ["key_source: sops, sops_path: secrets.yml", "key_env: MY_KEY", "sops_key: k", "sops_path: a"] {
        let message = refusal(&format!("db: {{ cipher: {{ {section} }} }}"));
        assert!(
            message.contains("strongroom.yml with environment variables: db.cipher: expected `enabled`"),
            "{message}"
        );
        for enabled in [false, true] {
            let config = yaml(&format!("db: {{ cipher: {{ enabled: {enabled}, {section} }} }}")).unwrap();
            assert_eq!(config.cipher.enabled, enabled, "{section}");
        }
    }
    // As part of a program's own configuration, too.
    let own = serde_json::from_str::<DatabaseConfig>(r#"{ "cipher": { "key_source": "env" } }"#).unwrap_err();
    assert!(own.to_string().starts_with("expected `enabled` beside the settings of a key"), "{own}");
}

#[test]
fn a_byte_order_mark_is_not_part_of_the_file() {
    for (name, text) in [
        ("a.yml", "db: { pool: { max_size: 3 } }\n"),
        ("a.yml", "# comment\r\ndb:\r\n  pool:\r\n    max_size: 3\r\n"),
        ("a.toml", "[db.pool]\nmax_size = 3\n"),
        ("a.toml", "[db.pool]\r\nmax_size = 3\r\n"),
        ("a.json", r#"{ "db": { "pool": { "max_size": 3 } } }"#),
    ] {
        let config = read(name, &format!("\u{feff}{text}")).expect(name);
        assert_eq!(config.pool.max_size, 3, "{name}");
    }
    let twice = read("a.json", "\u{feff}{ \"db\": {}, \"db\": {} }").unwrap_err();
    assert!(twice.to_string().contains("a setting twice"), "{twice}");
    let anchor = read("a.yml", "\u{feff}- a\n").unwrap_err();
    assert!(anchor.to_string().contains("line 1 has a list"), "{anchor}");
}

#[test]
fn another_encoding_than_utf8_is_said_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let text = "db: { pool: { max_size: 3 } }\n";
    let units = |unit: fn(u16) -> [u8; 2], mark: bool| -> Vec<u8> {
        mark.then_some(0xfeff).into_iter().chain(text.encode_utf16()).flat_map(unit).collect()
    };
    let latin = [text.as_bytes(), b"# \xe4\n"].concat();
    let wider: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    let cases = [
        (units(u16::to_le_bytes, true), "UTF-16"),
        (units(u16::to_be_bytes, true), "UTF-16"),
        (units(u16::to_le_bytes, false), "UTF-16"),
        (units(u16::to_be_bytes, false), "UTF-16"),
        (wider, "UTF-32"),
        (latin, "not UTF-8"),
    ];
    for (bytes, said) in cases {
        for name in ["a.yml", "a.toml", "a.json"] {
            let path = directory.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            let error = DatabaseConfig::from_file(&path).unwrap_err();
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Config, Reason::Malformed), "{error}");
            let message = error.to_string();
            assert!(message.contains(said) && message.contains("save it as UTF-8"), "{name}: {message}");
        }
    }
}
