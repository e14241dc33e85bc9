//! Any bytes as a configuration file, and any text as the value of a setting: settings or a `Config` error that shows
//! no value, never a panic. Settings that were read are read again from what they are written out as, and what JSON
//! and YAML both read they read alike.
//!
//! The first byte chooses the format, the second what the rest is: the file, or the value of one of the settings.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use strongroom::database::KeyPlace;
use strongroom::{DatabaseConfig, ErrorKind, Result};

#[path = "../scratch.rs"]
mod scratch;

/// Settings that exist, and some that would be secrets.
const SETTINGS: [(&str, &str); 13] = [
    ("pool", "min_size"),
    ("pool", "max_size"),
    ("pool", "acquire_timeout"),
    ("retry", "max_attempts"),
    ("retry", "delay"),
    ("cipher", "enabled"),
    ("cipher", "key_source"),
    ("cipher", "key_env"),
    ("cipher", "sops_path"),
    ("cipher", "sops_key"),
    ("cipher", "key"),
    ("cipher", "passphrase"),
    ("pool", "db_password"),
];

/// What a value can be told by from everything else that an error may say.
const MARK: &str = "zq-misplaced-zq";

fuzz_target!(|input: &[u8]| {
    let [format, choice, rest @ ..] = input else { return };
    let suffix = ["yml", "toml", "json"][usize::from(*format) % 3];
    let setting = usize::from(*choice).checked_sub(1).map(|choice| SETTINGS[choice % SETTINGS.len()]);
    match (setting, std::str::from_utf8(rest)) {
        (Some((section, setting)), Ok(text)) => misplaced(suffix, section, setting, text),
        _ => any(suffix, rest),
    }
});

fn any(suffix: &'static str, file: &[u8]) {
    if let Ok(config) = read(suffix, file) {
        let written = written(&config);
        assert_eq!(read("json", written.as_bytes()).as_ref().ok(), Some(&config), "{written}");
    }
    if let (Ok(json), Ok(yaml)) = (read("json", file), read("yml", file)) {
        assert_eq!(json, yaml, "JSON and YAML differ");
    }
}

fn read(suffix: &'static str, file: &[u8]) -> Result<DatabaseConfig> {
    let config = DatabaseConfig::from_file(scratch::file(suffix, file));
    if let Err(error) = &config {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
    config
}

/// A text where a setting stands: if it does not fit, nobody sees it.
fn misplaced(suffix: &'static str, section: &str, setting: &str, text: &str) {
    let value = quoted(&format!("{MARK}{text}"));
    let file = match suffix {
        "toml" => format!("[db.{section}]\n{setting} = {value}\n"),
        _ => format!("{{\"db\": {{\"{section}\": {{\"{setting}\": {value}}}}}}}"),
    };
    if let Err(error) = read(suffix, file.as_bytes()) {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(MARK), "{section}.{setting} shows its value: {shown}");
    }
}

/// The settings as JSON.
fn written(config: &DatabaseConfig) -> String {
    let (pool, retry, cipher) = (&config.pool, &config.retry, &config.cipher);
    let place = match cipher.key_source {
        KeyPlace::Sops => "sops",
        KeyPlace::Passphrase => "passphrase",
        _ => "env",
    };
    let path = cipher.sops_path.as_ref().map_or("null".into(), |path| quoted(path.to_str().unwrap()));
    format!(
        r#"{{"db": {{"pool": {{"min_size": {}, "max_size": {}, "acquire_timeout": {}}},
            "retry": {{"max_attempts": {}, "delay": {}}},
            "cipher": {{"enabled": {}, "key_source": "{place}", "key_env": {}, "sops_path": {path}, "sops_key": {}}}}}}}"#,
        pool.min_size,
        pool.max_size,
        seconds(pool.acquire_timeout),
        retry.max_attempts,
        seconds(retry.delay),
        cipher.enabled,
        quoted(&cipher.key_env),
        quoted(&cipher.sops_key),
    )
}

fn seconds(time: Duration) -> String {
    if time.subsec_nanos() == 0 { time.as_secs().to_string() } else { format!("{:?}", time.as_secs_f64()) }
}

/// A string as JSON, TOML and YAML all have it.
fn quoted(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if u32::from(c) < 0x10000 && !c.is_ascii_graphic() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}
