//! Configuration files that somebody made to break the reader.
#![cfg(feature = "config")]

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use strongroom::{DatabaseConfig, ErrorKind, Result};

const FORMATS: [&str; 3] = ["yml", "toml", "json"];

/// Settings that exist, and some that would be secrets.
const SETTINGS: [(&str, &str); 13] = [
    ("pool", "min_size"),
    ("pool", "max_size"),
    ("pool", "acquire_timeout"),
    ("pool", "db_password"),
    ("retry", "max_attempts"),
    ("retry", "delay"),
    ("cipher", "enabled"),
    ("cipher", "key_source"),
    ("cipher", "key_env"),
    ("cipher", "sops_path"),
    ("cipher", "sops_key"),
    ("cipher", "key"),
    ("cipher", "passphrase"),
];

fn read(suffix: &str, bytes: &[u8]) -> Result<DatabaseConfig> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("strongroom").with_extension(suffix);
    std::fs::write(&path, bytes).unwrap();
    DatabaseConfig::from_file(&path)
}

/// Reads `text` in all formats; must neither panic nor hang, and fail, if so, as a `Config` error.
fn survives(bytes: &[u8]) {
    for suffix in FORMATS {
        if let Err(error) = read(suffix, bytes) {
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        survives(&bytes);
    }

    #[test]
    fn any_arrangement_of_signs_is_survived(text in "(db|pool|max_size|[-?:,&*!|>'\"%@#\\[\\]{}= \t\r\n.0-9a]){0,80}") {
        survives(text.as_bytes());
    }

    #[test]
    fn any_text_in_place_of_a_setting_is_survived_and_never_shown(
        text in "\\PC{0,20}",
        (section, setting) in prop::sample::select(SETTINGS.to_vec()),
    ) {
        // Longer than what the random name of the directory, which is shown, contains by chance.
        let value = serde_json::to_string(&format!("zq-misplaced-zq {text}")).unwrap();
        for suffix in FORMATS {
            let file = match suffix {
                "toml" => format!("[db.{section}]\n{setting} = {value}\n"),
                _ => format!("{{\"db\": {{\"{section}\": {{\"{setting}\": {value}}}}}}}"),
            };
            if let Err(error) = read(suffix, file.as_bytes()) {
                prop_assert!(!format!("{error} {error:?}").contains("zq-misplaced-zq"), "{}", error);
            } else {
                prop_assert!(setting.starts_with("sops_"), "{} took a text", setting);
            }
        }
    }

    #[test]
    fn settings_are_the_same_in_every_format(
        counts in any::<[u32; 3]>(),
        millis in 0..1_000_000_000_u64,
        enabled: bool,
        place in prop::sample::select(vec!["env", "sops", "passphrase"]),
        name in "[A-Za-z_][A-Za-z0-9_]{0,10}",
        texts in prop::array::uniform2("[^\\p{Cc}\u{fffe}\u{ffff}&*-]{0,10}"),
    ) {
        let ([min, max, attempts], [path, key]) = (counts, &texts);
        let seconds = Duration::from_millis(millis);
        let written = serde_json::json!({ "db": {
            "pool": { "min_size": min, "max_size": max, "acquire_timeout": seconds.as_secs_f64() },
            "retry": { "max_attempts": attempts },
            "cipher": { "enabled": enabled, "key_source": place, "key_env": name, "sops_path": path, "sops_key": key },
        } });
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let toml = format!(
            "[db.pool]\nmin_size = {min}\nmax_size = {max}\nacquire_timeout = {:?}\n[db.retry]\nmax_attempts = {attempts}\n\
             [db.cipher]\nenabled = {enabled}\nkey_source = '{place}'\nkey_env = '{name}'\nsops_path = {}\nsops_key = {}\n",
            seconds.as_secs_f64(), quoted(path), quoted(key),
        );
        for (suffix, text) in [("json", written.to_string()), ("yml", written.to_string()), ("toml", toml)] {
            let config = read(suffix, text.as_bytes()).unwrap();
            prop_assert_eq!((config.pool.min_size, config.pool.max_size, config.retry.max_attempts), (min, max, attempts));
            prop_assert_eq!((config.pool.acquire_timeout, config.cipher.enabled), (seconds, enabled));
            prop_assert_eq!(format!("{:?}", config.cipher.key_source).to_lowercase(), place);
            prop_assert_eq!((&config.cipher.key_env, &config.cipher.sops_key), (&name, key), "{}", suffix);
            prop_assert_eq!(config.cipher.sops_path.as_deref(), Some(Path::new(path)), "{}", suffix);
        }
    }

    #[test]
    fn any_number_of_seconds_is_exact_saturated_or_refused(number in any::<f64>()) {
        let text = format!("[db.retry]\ndelay = {number:?}\n");
        match read("toml", text.as_bytes()) {
            Ok(config) if number < 1e15 => prop_assert!((config.retry.delay.as_secs_f64() - number).abs() <= 1e-9 * number.max(1.0)),
            Ok(_) => prop_assert!(number >= 1e15),
            Err(_) => prop_assert!(!number.is_finite() || number < 0.0),
        }
    }
}

/// Each of these used up the stack or the memory of a YAML parser.
#[test]
fn nesting_and_aliases_without_end_are_refused() {
    let level = |level: usize| match level.checked_sub(1) {
        None => "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(),
        Some(below) => format!("a{level}: &a{level} [{}]\n", vec![format!("*a{below}"); 10].join(",")),
    };
    let aliases = (0..9).map(level).collect::<Vec<_>>().concat();
    let hidden = format!("db: {{ pool: {{ x: \"a # b\", y: {} }} }}", aliases.replace('\n', ", "));
    let traps = [
        "- ".repeat(8000),
        "? ".repeat(8000),
        format!("--- {}", "- ".repeat(8000)),
        format!("db: {}", "- ".repeat(8000)),
        format!("\r{}", "-\t".repeat(8000)),
        "-\n ".repeat(4000),
        "[".repeat(16_000),
        "{a: ".repeat(4000),
        (0..180).map(|depth| " ".repeat(depth) + "a:\n").collect(),
        aliases,
        hidden,
        "{\"a\":".repeat(3000),
        format!("a = {}", "[".repeat(16_000)),
        "a.".repeat(8000),
        format!("{}a = 1", "a.".repeat(8000)),
        format!("[{}a]\nb = 1", "a.".repeat(8000)),
    ];
    for trap in traps {
        survives(trap.as_bytes());
    }
}

/// Of two settings nobody can say which one counts: one could mean an unencrypted database.
#[test]
fn a_setting_given_twice_is_refused() {
    let yaml =
        ["db: { cipher: { enabled: true, enabled: false } }", "db:\n  cipher: { enabled: true }\n  cipher: {}\n"];
    let toml = ["[db.cipher]\nenabled = true\nenabled = false\n", "[db.cipher]\nenabled = true\n[db.cipher]\n"];
    let json = [
        r#"{ "db": { "cipher": { "enabled": true, "enabled": false } } }"#,
        r#"{ "db": { "cipher": { "enabled": true }, "cipher": {} } }"#,
        r#"{ "db": { "cipher": { "enabled": true } }, "db": {} }"#,
    ];
    let yaml = yaml.map(|text| ("yml", text)).into_iter().chain(toml.map(|text| ("toml", text)));
    for (suffix, text) in yaml.chain(json.map(|text| ("json", text))) {
        assert!(read(suffix, text.as_bytes()).is_err(), "{suffix}: {text}");
    }
}

#[test]
fn keys_that_look_like_paths_set_nothing() {
    for text in ["db: {}\n\"db.pool.max_size\": 5", "\"db[4000000000].pool\": 1", "db.pool: { max_size: 5 }"] {
        assert!(read("yml", text.as_bytes()).is_err(), "{text}");
    }
}
