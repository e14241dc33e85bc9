//! Values that mean less in the type of a cached statement than they may mean to the column.
//!
//! The server keeps the types of a prepared statement's parameters for as long as the statement lives. When somebody
//! changes a column from `timestamp` to `timestamptz`, the old statement goes on reading `2026-11-27T12:00:00Z` as a
//! `timestamp`, drops the zone without a word, and casts what is left. Nobody tells a client of such a change. So a value
//! that the cached type would not keep whole is sent only after the statement has been prepared anew.

use tokio_postgres::types::{Kind, Type};

use super::decode::base;
use crate::value::ValueRef;

/// Whether `ty` keeps less than all of `value`. `utc` if the session's time zone is UTC, so that `timestamptz` and
/// `timestamp` are cast into each other unchanged.
pub(crate) fn loses(value: ValueRef<'_>, ty: &Type, utc: bool) -> bool {
    match value {
        ValueRef::Text(text) => loses_text(text, base(ty), utc),
        #[allow(clippy::cast_possible_truncation, reason = "that is the question")]
        ValueRef::Real(real) => *base(ty) == Type::FLOAT4 && f64::from(real as f32).to_bits() != real.to_bits(),
        // What does not fit exactly is refused before it is sent.
        _ => false,
    }
}

/// Whether a column that has become `numeric` would keep less of `value` than it was given, where a cached statement binds
/// it as a `double precision`: the server casts one to the other by fifteen digits.
pub(crate) fn loses_digits(value: ValueRef<'_>, ty: &Type) -> bool {
    let ValueRef::Real(real) = value else { return false };
    *base(ty) == Type::FLOAT8 && real.is_finite() && format!("{real:.14e}").parse() != Ok(real)
}

fn loses_text(text: &str, ty: &Type, utc: bool) -> bool {
    match *ty {
        Type::TEXT | Type::VARCHAR | Type::JSON | Type::UNKNOWN | Type::NUMERIC => false,
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => {
            text.parse::<i64>().map_or(true, |number| number.to_string() != text)
        }
        Type::BPCHAR => text.ends_with(' '),
        Type::NAME => text.len() > 63,
        Type::UUID => text.len() != 36 || text.bytes().any(|byte| byte.is_ascii_uppercase()),
        Type::DATE => !is_date(text),
        Type::TIME => !is_time(text),
        Type::TIMESTAMP => !split(text).is_some_and(|(date, time)| is_date(date) && is_time(time)),
        Type::TIMESTAMPTZ => {
            let at_zero =
                |time: &str| ["Z", "+00:00", "+00", ""].iter().any(|zone| time.strip_suffix(zone).is_some_and(is_time));
            !utc || !split(text).is_some_and(|(date, time)| is_date(date) && at_zero(time))
        }
        // What a list of integers or texts holds, an array of them keeps.
        _ if matches!(ty.kind(), Kind::Array(element) if keeps_lists(element, text)) => false,
        // JSONB forgets the order of keys, INET its mask, BOOL and FLOAT8 the spelling; enums nothing, nor does CITEXT.
        _ => !super::decode::is_text(ty),
    }
}

/// Whether an array of `element` keeps all of `text`, which is written as an array.
fn keeps_lists(element: &Type, text: &str) -> bool {
    match *element {
        Type::TEXT | Type::VARCHAR => true,
        Type::INT2 | Type::INT4 | Type::INT8 => {
            text.bytes().all(|byte| byte.is_ascii_digit() || b"{,-}".contains(&byte))
        }
        _ => false,
    }
}

fn split(text: &str) -> Option<(&str, &str)> {
    text.split_once(['T', ' '])
}

fn is_date(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// Without a zone. That no type keeps more than microseconds does not depend on the type.
fn is_time(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_type_keeps_whole_is_sent_as_it_is() {
        let kept = [
            ("2026-11-27T12:00:00.123456", Type::TIMESTAMP),
            ("2026-11-27 12:00:00", Type::TIMESTAMP),
            ("2026-11-27 12:00:00.000000000Z", Type::TIMESTAMPTZ),
            ("2026-11-27", Type::DATE),
            ("12:00:00.5", Type::TIME),
            ("2026-11-27T12:00:00Z", Type::TIMESTAMPTZ),
            ("67e55044-10b1-426f-9247-bb680e5fe0c8", Type::UUID),
            ("-12", Type::INT4),
            ("1.50", Type::NUMERIC),
            ("anything ", Type::TEXT),
            ("ab", Type::BPCHAR),
            ("{\"b\": 1, \"a\": 2}", Type::JSON),
        ];
        for (text, ty) in kept {
            assert!(!loses(ValueRef::Text(text), &ty, true), "{text} as {ty}");
        }
        assert!(!loses(ValueRef::Real(0.5), &Type::FLOAT4, false));
        assert!(!loses(ValueRef::Real(0.1), &Type::FLOAT8, false));
    }

    #[test]
    fn what_a_type_does_not_keep_whole_is_looked_at_first() {
        let lost = [
            ("2026-11-27T12:00:00Z", Type::TIMESTAMP),
            ("2026-11-27T12:00:00-05:00", Type::TIMESTAMP),
            ("2026-11-27 12:00:00 Europe/Paris", Type::TIMESTAMP),
            ("2026-11-27T12:00:00", Type::DATE),
            ("12:00:00+02", Type::TIME),
            ("2026-11-27T12:00:00+05:00", Type::TIMESTAMPTZ),
            ("now", Type::TIMESTAMP),
            ("007", Type::INT8),
            ("ab ", Type::BPCHAR),
            ("{\"b\": 1, \"a\": 2}", Type::JSONB),
            ("yes", Type::BOOL),
            ("0.1", Type::FLOAT4),
        ];
        for (text, ty) in lost {
            assert!(loses(ValueRef::Text(text), &ty, true), "{text} as {ty}");
        }
        assert!(loses(ValueRef::Text("2026-11-27T12:00:00Z"), &Type::TIMESTAMPTZ, false));
        assert!(loses(ValueRef::Real(0.1), &Type::FLOAT4, false));
    }
}
