//! Values of other crates, each behind the feature of its name. All travel as text in the standard form of their
//! field (RFC 3339, RFC 9562), which sorts as it should and every engine can store.

#[allow(unused_imports, reason = "which of them is needed depends on the features")]
use super::{FromValue, IntoValue, Value, ValueRef};
use crate::{Error, ErrorKind, Reason, Result};

fn parse<T: std::str::FromStr>(value: ValueRef<'_>, wanted: &str) -> Result<T> {
    let text = match value {
        ValueRef::Text(text) => text,
        other => {
            let message = format!("cannot read {} as {wanted}", other.type_name());
            return Err(Error::new(ErrorKind::Query, message).because(Reason::Type));
        }
    };
    text.parse()
        .map_err(|_| Error::new(ErrorKind::Query, format!("this text is not a valid {wanted}")).because(Reason::Type))
}

macro_rules! as_text {
    ($($type:ty, $wanted:literal, |$value:ident| $text:expr;)*) => {$(
        impl IntoValue for $type {
            fn into_value(self) -> Result<Value> {
                let $value = self;
                Ok(Value::Text($text))
            }
        }

        impl FromValue for $type {
            fn from_value(value: ValueRef<'_>) -> Result<Self> {
                parse(value, $wanted)
            }
        }
    )*};
}

#[cfg(feature = "uuid")]
as_text! { uuid::Uuid, "UUID", |value| value.to_string(); }

#[cfg(feature = "chrono")]
as_text! {
    chrono::DateTime<chrono::Utc>, "RFC 3339 time", |value| value.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    chrono::NaiveDate, "date", |value| value.to_string();
    chrono::NaiveTime, "time of day", |value| value.to_string();
    chrono::NaiveDateTime, "date and time", |value| value.format("%Y-%m-%dT%H:%M:%S%.f").to_string();
}

#[cfg(feature = "jiff")]
as_text! {
    jiff::Timestamp, "RFC 3339 time", |value| value.to_string();
    jiff::civil::Date, "date", |value| value.to_string();
    jiff::civil::Time, "time of day", |value| value.to_string();
    jiff::civil::DateTime, "date and time", |value| value.to_string();
}
