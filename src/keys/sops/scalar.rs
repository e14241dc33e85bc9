//! Scalars: what a plain YAML scalar means, and the bytes by which the MAC knows a value.
//!
//! Both follow Go (`yaml.v3` and `strconv`), because sops does; see the rules in `docs/sops.md`.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write as _;

use zeroize::Zeroizing;

use crate::error::{Reason, Result};

use super::tree::Scalar;
use super::{fault::fault, time};

/// What `yaml.v3` takes an untagged plain scalar for.
pub(super) fn plain(text: &str) -> Result<Scalar> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "true" | "True" | "TRUE" => Scalar::Bool(true),
        "false" | "False" | "FALSE" => Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ => match text.as_bytes()[0] {
            b'.' => finite(text).map_or_else(|| Scalar::Text(text.into()), Scalar::Float),
            b'+' | b'-' | b'0'..=b'9' => return number(text),
            _ => Scalar::Text(text.into()),
        },
    })
}

/// A scalar that starts like a number: a moment, an integer, a float or text after all.
fn number(text: &str) -> Result<Scalar> {
    if let Some(moment) = time::canonical(text) {
        return Ok(Scalar::Time(moment));
    }
    let digits: Cow<'_, str> = if text.contains('_') { text.replace('_', "").into() } else { text.into() };
    if let Some(value) = integer(&digits) {
        let value = i64::try_from(value)
            .map_err(|_| fault(Reason::Malformed, "an unencrypted integer does not fit into 64 bits with a sign"))?;
        return Ok(Scalar::Integer(value));
    }
    // What begins like a number is none of the words that Rust reads as one.
    Ok(finite(&digits).map_or_else(|| Scalar::Text(text.into()), Scalar::Float))
}

/// Integers with a sign and the prefixes `0x`, `0o`, `0b` and `0`; up to what 64 bits without a sign hold.
fn integer(text: &str) -> Option<i128> {
    let (negative, rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match rest.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &rest[2..]),
        [b'0', b'o' | b'O', ..] => (8, &rest[2..]),
        [b'0', b'b' | b'B', ..] => (2, &rest[2..]),
        [b'0', _, ..] => (8, &rest[1..]),
        _ => (10, rest),
    };
    // `from_str_radix` would take a second sign.
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let value = if negative { -value } else { value };
    (value >= i128::from(i64::MIN)).then_some(value)
}

/// Go calls a float out of range an error, and the scalar is text then.
fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Shortest digits that read back as the same float, never an exponent.
pub(super) fn float_bytes(value: f64) -> Zeroizing<Vec<u8>> {
    match value {
        f64::INFINITY => Zeroizing::new(b"+Inf".to_vec()),
        f64::NEG_INFINITY => Zeroizing::new(b"-Inf".to_vec()),
        _ if value.is_nan() => spell(value),
        _ => even(value),
    }
}

/// Of two shortest spellings that are equally near Go takes the one that ends in an even digit, and Rust the larger one.
fn even(value: f64) -> Zeroizing<Vec<u8>> {
    let mut text = spell(value);
    let shortest = spell(format_args!("{value:e}"));
    let count = digits(&shortest).count();
    // With a given number of digits Rust rounds to even too.
    let rounded = spell(format_args!("{value:.*e}", count.saturating_sub(1)));
    if str::from_utf8(&rounded).ok().and_then(|text| text.parse().ok()) == Some(value) {
        let places = text.iter_mut().skip_while(|byte| !matches!(byte, b'1'..=b'9')).filter(|byte| **byte != b'.');
        places.zip(digits(&rounded)).for_each(|(place, digit)| *place = digit);
    }
    text
}

/// The digits in front of the exponent.
fn digits(text: &[u8]) -> impl Iterator<Item = u8> {
    text.iter().copied().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit)
}

/// Spells a number in a buffer that never grows: the longest, `5e-324`, has 326 characters.
pub(super) fn spell(number: impl Display) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(400));
    let _ = write!(&mut *text, "{number}");
    text
}

impl Scalar {
    /// The bytes by which the MAC knows an unencrypted value; null has none.
    pub(super) fn mac_bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Null | Self::Comment(_) => Cow::Borrowed(&[]),
            Self::Text(text) | Self::Time(text) => Cow::Borrowed(text.as_bytes()),
            Self::Bytes(bytes) => Cow::Borrowed(bytes),
            Self::Integer(value) => Cow::Owned(spell(value).to_vec()),
            Self::Float(value) => Cow::Owned(float_bytes(*value).to_vec()),
            Self::Bool(true) => Cow::Borrowed(b"True"),
            Self::Bool(false) => Cow::Borrowed(b"False"),
        }
    }
}
