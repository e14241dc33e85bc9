//! What is stored comes back.

use super::lab::{Lab, broken, equal, holds, must};
use crate::connector::{Connection, Connector};
use crate::error::Result;
use crate::params::Params;
use crate::row::Row;
use crate::value::{Null, Value};

/// Writes `value` into a column of this type and reads it back.
async fn there_and_back<C: Connector<Connection: Connection>>(
    lab: &mut Lab<C>,
    kind: &str,
    value: Value,
) -> Result<Row> {
    let clause = "tables can be made";
    lab.must(clause, "DROP TABLE IF EXISTS {t}", ()).await;
    lab.must(clause, &format!("CREATE TABLE {{t}} (v {kind})"), ()).await;
    lab.run("INSERT INTO {t} VALUES ($1)", Params::Positional(vec![value])).await?;
    let rows = lab.run("SELECT v FROM {t}", ()).await?;
    Ok(rows.first().unwrap_or_else(|| broken("a row that was written is there", kind)))
}

pub(super) async fn stored_exactly<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    for integer in [0, 1, -1, i64::MAX, i64::MIN, (1 << 53) + 1, -(1 << 53) - 1] {
        let clause = "64-bit integers are stored exactly";
        let row = must(clause, there_and_back(lab, "BIGINT", Value::Integer(integer)).await);
        equal(clause, &must(clause, row.get::<i64>(0)), &integer);
    }
    for real in [0.0, -0.0, 0.1, -1.5, f64::MAX, f64::MIN, f64::MIN_POSITIVE, f64::EPSILON, 1e300] {
        let clause = "64-bit floats are stored exactly";
        let row = must(clause, there_and_back(lab, "DOUBLE PRECISION", Value::Real(real)).await);
        equal(clause, &must(clause, row.get::<f64>(0)), &real);
    }
    for text in ["", " ", "a", "it's \"quoted\" \\ $1 ? :x", "äß中🦀\u{10FFFF}", "a\r\n\tb", &"long ".repeat(50_000)]
    {
        let clause = "text is stored exactly, and the empty one is not NULL";
        let row = must(clause, there_and_back(lab, "TEXT", Value::Text(text.into())).await);
        equal(clause, &must(clause, row.get::<Option<String>>(0)).as_deref(), &Some(text));
    }
    let every_byte: Vec<u8> = (0..=255).collect();
    for blob in [vec![], vec![0], every_byte, vec![0xA5; 1 << 20]] {
        let clause = "bytes are stored exactly, and no bytes are not NULL";
        let kind = lab.bytes_type();
        let row = must(clause, there_and_back(lab, kind, Value::Blob(blob.clone())).await);
        let found = must(clause, row.get::<Option<Vec<u8>>>(0));
        holds(clause, found.as_ref() == Some(&blob), format_args!("{} bytes", blob.len()));
    }
    for flag in [true, false] {
        let clause = "truth values are stored, as 0 and 1 if need be";
        let row = must(clause, there_and_back(lab, "BOOLEAN", Value::Bool(flag)).await);
        equal(clause, &must(clause, row.get::<bool>(0)), &flag);
    }
    for kind in ["BIGINT", "DOUBLE PRECISION", "TEXT", "BOOLEAN", lab.bytes_type()] {
        let clause = "NULL is stored in a column of any type";
        lab.must(clause, "DROP TABLE IF EXISTS {t}", ()).await;
        let row = must(clause, there_and_back(lab, kind, Value::Null).await);
        holds(clause, must(clause, row.get::<Value>(0)) == Value::Null, kind);
    }
    lab.must("a bare NULL can be bound", "INSERT INTO {t} VALUES ($1)", (Null,)).await;
}

/// What not every engine can store is refused then, and never altered in silence.
pub(super) async fn stored_or_refused<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    for text in ["\0", "a\0b", "a\0"] {
        let clause = "text with a NUL is stored exactly or refused";
        if let Ok(row) = there_and_back(lab, "TEXT", Value::Text(text.into())).await {
            equal(clause, &must(clause, row.get::<String>(0)).as_str(), &text);
        }
    }
    for real in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let clause = "floats that are no numbers are stored exactly or refused";
        if let Ok(row) = there_and_back(lab, "DOUBLE PRECISION", Value::Real(real)).await {
            let found: f64 = must(clause, row.get(0));
            holds(clause, found.total_cmp(&real).is_eq() || found.is_nan() && real.is_nan(), found);
        }
    }
}
