//! Configuration files that somebody made to break the reader.
#![cfg(feature = "config")]

use proptest::prelude::*;
use strongroom::{DatabaseConfig, ErrorKind};

const FORMATS: [&str; 3] = ["yml", "toml", "json"];

/// Reads `text` in all formats; must neither panic nor hang, and fail, if so, as a `Config` error.
fn survives(bytes: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    for suffix in FORMATS {
        let path = directory.path().join("strongroom").with_extension(suffix);
        std::fs::write(&path, bytes).unwrap();
        if let Err(error) = DatabaseConfig::from_file(&path) {
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
    fn any_text_in_place_of_a_setting_is_survived_and_never_shown(value in "[a-zA-Z0-9 ]{0,20}") {
        // Long enough that the random name of the directory, which is shown, does not contain it by chance.
        let value = format!("zq zq zq {value}");
        for setting in ["min_size", "max_size", "acquire_timeout"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("strongroom.json");
            std::fs::write(&path, serde_json::json!({ "db": { "pool": { setting: value } } }).to_string()).unwrap();
            let error = DatabaseConfig::from_file(&path).unwrap_err();
            prop_assert!(!format!("{error} {error:?}").contains(&value), "{}", error);
        }
    }

    #[test]
    fn any_number_of_seconds_is_exact_saturated_or_refused(number in any::<f64>()) {
        let text = format!("[db.retry]\ndelay = {number:?}\n");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("strongroom.toml");
        std::fs::write(&path, text).unwrap();
        match DatabaseConfig::from_file(&path) {
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

#[test]
fn keys_that_look_like_paths_set_nothing() {
    for text in ["db: {}\n\"db.pool.max_size\": 5", "\"db[4000000000].pool\": 1", "db.pool: { max_size: 5 }"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("strongroom.yml");
        std::fs::write(&path, text).unwrap();
        assert!(DatabaseConfig::from_file(&path).is_err(), "{text}");
    }
}
