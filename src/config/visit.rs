//! Reading single settings: exactly, or not at all.
//!
//! Environment variables are text, so text that spells a value is taken for it. What does not fit is refused in words
//! that name what fits and never quote what was found, for it may be a misplaced secret.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::KeyPlace;

/// A whole number; larger ones than any bound become the largest, and are moved to the bound where they are used.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
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
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
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

/// `true` or `false`: whether data is encrypted is nothing to guess from `1`, `on` or `yes`.
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
pub(super) fn variable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
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
