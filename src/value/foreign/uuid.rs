//! `uuid`: written as hyphenated text, whose order is that of the bytes; read from every text form and from 16 bytes.

use uuid::Uuid;

use super::{FromValue, IntoValue, Result, Value, ValueRef, invalid, mismatch};

#[diagnostic::do_not_recommend]
impl IntoValue for Uuid {
    fn into_value(self) -> Result<Value> {
        Ok(Value::Text(self.to_string()))
    }
}

#[diagnostic::do_not_recommend]
impl FromValue for Uuid {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Text(text) => Self::try_parse(text).map_err(|_| invalid("text", "UUID")),
            ValueRef::Blob(bytes) => Self::from_slice(bytes).map_err(|_| {
                let found = format!("blob of {} bytes", bytes.len());
                invalid(&found, "UUID").hint("a UUID has 16 bytes")
            }),
            other => Err(mismatch(other, "UUID")),
        }
    }
}
