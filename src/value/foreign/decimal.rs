//! `rust_decimal`: written digit for digit.

use rust_decimal::Decimal;

use super::{FromValue, IntoValue, Result, Value, ValueRef, invalid, mismatch};

#[diagnostic::do_not_recommend]
impl IntoValue for Decimal {
    fn into_value(self) -> Result<Value> {
        Ok(Value::Text(self.to_string()))
    }
}

#[diagnostic::do_not_recommend]
impl FromValue for Decimal {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Text(text) => Self::from_str_exact(text).map_err(|_| invalid("text", "decimal")),
            ValueRef::Integer(integer) => Ok(integer.into()),
            ValueRef::Real(real) => from_real(real).ok_or_else(|| {
                invalid("real", "decimal").hint("declare the column TEXT: a column of NUMERIC or DECIMAL keeps floats")
            }),
            other => Err(mismatch(other, "decimal")),
        }
    }
}

/// What SQLite makes of a text of up to 15 digits in a column of NUMERIC: such a float still tells the digits.
fn from_real(real: f64) -> Option<Decimal> {
    let text = real.to_string();
    let digits = text.trim_start_matches(['-', '0', '.']).bytes().filter(u8::is_ascii_digit).count();
    (digits <= 15).then(|| Decimal::from_str_exact(&text).ok())?
}
