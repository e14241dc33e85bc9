//! Reading single settings: exactly, or not at all.
//!
//! Environment variables are text, so text that spells a value is taken for it. What does not fit is refused in words
//! that name what fits and never quote what was found, for it may be a misplaced secret.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::key_place::KeyPlace;
use super::limit::{POOL_ACQUIRE_TIMEOUT, POOL_MAX_SIZE, POOL_MIN_SIZE, RETRY_ATTEMPTS, RETRY_DELAY};

/// A section; null is one in which nothing is set.
pub(super) fn section<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Readers of single settings: null is the same as left out.
macro_rules! readers {
    ($($name:ident: $type:ty, $parse:expr, $expected:expr, or $default:expr;)*) => {$(
        pub(super) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
            let setting = Setting { parse: $parse, expected: $expected, null: Some(|| $default.into()) };
            deserializer.deserialize_any(setting)
        }
    )*};
}

readers! {
    min_size: u32, count, COUNT, or POOL_MIN_SIZE.default;
    max_size: u32, count, COUNT, or POOL_MAX_SIZE.default;
    max_attempts: u32, count, COUNT, or RETRY_ATTEMPTS.default;
    acquire_timeout: Duration, seconds, SECONDS, or POOL_ACQUIRE_TIMEOUT.default;
    delay: Duration, seconds, SECONDS, or RETRY_DELAY.default;
    key_source: Option<KeyPlace>, |text| key_place(text).map(Some), PLACES, or None::<KeyPlace>;
    key_env: Option<String>, |text| variable(text).map(Some), VARIABLE, or None::<String>;
    sops_key: Option<String>, |text| Some(Some(text.to_owned())), "a string", or None::<String>;
}

/// `true` or `false`: whether data is encrypted is nothing to guess from `1`, `on` or `yes`, nor from null.
pub(super) fn enabled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let parse = |text: &str| text.trim().parse().ok().map(Some);
    deserializer.deserialize_any(Setting { parse, expected: "true or false", null: None })
}

impl<'de> Deserialize<'de> for KeyPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Setting { parse: key_place, expected: PLACES, null: None })
    }
}

const COUNT: &str = "a whole number, 0 or more";
const SECONDS: &str = "a number of seconds, 0 or more, such as 2.5";
const PLACES: &str = "env, sops or passphrase";
const VARIABLE: &str = "the name of an environment variable, such as STRONGROOM_DB_KEY";

/// Numbers larger than any bound become the largest, and are moved to the bound where they are used.
fn count(text: &str) -> Option<u32> {
    let count: u64 = text.trim().parse().ok()?;
    Some(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Fractions are allowed; more than a [`Duration`] can hold becomes the longest.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0)?;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

fn key_place(text: &str) -> Option<KeyPlace> {
    match text {
        "env" => Some(KeyPlace::Env),
        "sops" => Some(KeyPlace::Sops),
        "passphrase" => Some(KeyPlace::Passphrase),
        _ => None,
    }
}

/// Anything else than a name there is probably the key itself, which a later "is not set" would show.
fn variable(text: &str) -> Option<String> {
    let starts = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let fits = starts && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    fits.then(|| text.to_owned())
}

/// One setting: its text, or a value of the format by the text that stands for it.
struct Setting<T> {
    parse: fn(&str) -> Option<T>,
    expected: &'static str,
    /// What null means, where it means something.
    null: Option<fn() -> T>,
}

impl<T> Visitor<'_> for Setting<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::custom(format_args!("expected {}", self.expected)))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        self.visit_str(if value { "true" } else { "false" })
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        self.visit_str(&format!("{value:?}"))
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        self.null.map(|null| null()).ok_or_else(|| E::custom(format_args!("expected {}", self.expected)))
    }
}
