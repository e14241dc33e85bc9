//! Reading single settings: exactly, or not at all.
//!
//! Environment variables are text, so text that spells a value is taken for it. What does not fit is refused in words
//! that name what fits and never quote what was found, for it may be a misplaced secret.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::KeyPlace;
use super::limit::{POOL_ACQUIRE_TIMEOUT, POOL_MAX_SIZE, POOL_MIN_SIZE, RETRY_ATTEMPTS, RETRY_DELAY};
use super::settings::{KEY_ENV, SOPS_KEY};

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
    ($($name:ident: $kind:ident($type:ty) or $default:expr;)*) => {$(
        pub(super) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
            Ok(Option::<$kind>::deserialize(deserializer)?.map_or_else(|| $default.into(), |given| given.0))
        }
    )*};
}

readers! {
    min_size: Count(u32) or POOL_MIN_SIZE.default;
    max_size: Count(u32) or POOL_MAX_SIZE.default;
    max_attempts: Count(u32) or RETRY_ATTEMPTS.default;
    acquire_timeout: Seconds(Duration) or POOL_ACQUIRE_TIMEOUT.default;
    delay: Seconds(Duration) or RETRY_DELAY.default;
    key_source: Place(KeyPlace) or KeyPlace::default();
    key_env: Variable(String) or KEY_ENV;
    sops_key: Text(String) or SOPS_KEY;
}

/// Any text.
#[derive(serde::Deserialize)]
struct Text(String);

/// Where the key is.
#[derive(serde::Deserialize)]
struct Place(KeyPlace);

/// A whole number; larger ones than any bound become the largest, and are moved to the bound where they are used.
struct Count(u32);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        count(deserializer).map(Self)
    }
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    struct Count;

    impl Visitor<'_> for Count {
        type Value = u32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number, 0 or more")
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<u32, E> {
            Ok(u32::try_from(value).unwrap_or(u32::MAX))
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<u32, E> {
            u64::try_from(value).map_err(|_| unfit(&self)).and_then(|value| self.visit_u64(value))
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<u32, E> {
            value.trim().parse().map_err(|_| unfit(&self)).and_then(|value| self.visit_u64(value))
        }
    }

    deserializer.deserialize_any(Count)
}

/// A number of seconds, fractions allowed; more than a [`Duration`] can hold becomes the longest.
struct Seconds(Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        seconds(deserializer).map(Self)
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Seconds;

    impl Visitor<'_> for Seconds {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of seconds, 0 or more, such as 2.5")
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<Duration, E> {
            if value.is_finite() && value >= 0.0 {
                return Ok(Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX));
            }
            Err(unfit(&self))
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<Duration, E> {
            Ok(Duration::from_secs(value))
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<Duration, E> {
            u64::try_from(value).map_err(|_| unfit(&self)).and_then(|value| self.visit_u64(value))
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<Duration, E> {
            value.trim().parse().map_err(|_| unfit(&self)).and_then(|value| self.visit_f64(value))
        }
    }

    deserializer.deserialize_any(Seconds)
}

/// `true` or `false`: whether data is encrypted is nothing to guess from `1`, `on` or `yes`, nor from null.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Flag;

    impl Visitor<'_> for Flag {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true or false")
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<bool, E> {
            value.trim().parse().map_err(|_| unfit(&self))
        }
    }

    deserializer.deserialize_any(Flag)
}

/// The name of an environment variable. Anything else there is probably the key itself, which a later "is not set"
/// would show.
struct Variable(String);

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        variable(deserializer).map(Self)
    }
}

fn variable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Variable;

    impl Visitor<'_> for Variable {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the name of an environment variable, such as STRONGROOM_DB_KEY")
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<String, E> {
            let starts = value.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
            let fits = starts && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if fits { Ok(value.to_owned()) } else { Err(unfit(&self)) }
        }
    }

    deserializer.deserialize_any(Variable)
}

impl<'de> Deserialize<'de> for KeyPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Place;

        impl Visitor<'_> for Place {
            type Value = KeyPlace;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("env, sops or passphrase")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<KeyPlace, E> {
                match value {
                    "env" => Ok(KeyPlace::Env),
                    "sops" => Ok(KeyPlace::Sops),
                    "passphrase" => Ok(KeyPlace::Passphrase),
                    _ => Err(unfit(&self)),
                }
            }
        }

        deserializer.deserialize_any(Place)
    }
}

/// What serde's own error would say, without the value that was found.
fn unfit<'de, E: Error>(expected: &impl Visitor<'de>) -> E {
    struct Expected<'a, V>(&'a V);

    impl<'de, V: Visitor<'de>> fmt::Display for Expected<'_, V> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.expecting(f)
        }
    }

    E::custom(format_args!("this value does not fit, expected {}", Expected(expected)))
}
