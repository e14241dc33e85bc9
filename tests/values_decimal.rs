//! Decimals, digit for digit.
#![cfg(all(feature = "rust_decimal", feature = "sqlite"))]

mod common;

use common::{kinds, memory};
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use strongroom::values::ValueRef;
use strongroom::values::{FromValue, IntoValue};
use strongroom::{ErrorKind, Reason, list, named};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Price {
    amount: Decimal,
}

#[tokio::test]
async fn decimals_are_stored_as_their_digits_and_read_where_none_is_lost() {
    let db = memory().await;
    db.execute("CREATE TABLE t (amount TEXT, loose NUMERIC)", ()).await.unwrap();
    let amount: Decimal = "1234567890123456789.10".parse().unwrap();
    db.execute("INSERT INTO t VALUES ($1, 1.10)", (amount,)).await.unwrap();
    assert_eq!(db.fetch_value::<String>("SELECT amount FROM t", ()).await.unwrap().unwrap(), "1234567890123456789.10");
    assert_eq!(db.fetch_value("SELECT amount FROM t", ()).await.unwrap(), Some(amount));
    let price: Option<Price> = db.fetch_one_as("SELECT amount FROM t", ()).await.unwrap();
    assert_eq!(price, Some(Price { amount }));
    assert_eq!(db.fetch_value("SELECT amount = :amount FROM t", named(Price { amount })).await.unwrap(), Some(true));
    assert_eq!(db.fetch_value("SELECT amount IN $1 FROM t", (list([amount]),)).await.unwrap(), Some(true));
    assert_eq!(db.fetch_value("SELECT loose FROM t", ()).await.unwrap(), Some(Decimal::new(11, 1)));
    assert_eq!(db.fetch_value("SELECT 42", ()).await.unwrap(), Some(Decimal::from(42)));
    for sql in
        ["SELECT 0.1 + 0.2", "SELECT 1e300", "SELECT 'x'", "SELECT '1.23456789012345678901234567890'", "SELECT x'00'"]
    {
        let error = db.fetch_value::<Decimal>(sql, ()).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type), "{sql}");
    }
}

proptest! {
    #[test]
    fn every_decimal_comes_back_with_its_digits(number in any::<i64>(), high in any::<i32>(), scale in 0..=28_u32) {
        let decimal = Decimal::from_i128_with_scale((i128::from(high) << 64) ^ i128::from(number), scale);
        let stored = decimal.into_value().unwrap();
        let back = Decimal::from_value(stored.as_ref()).unwrap();
        prop_assert_eq!((back, back.scale()), (decimal, decimal.scale()));
    }

    #[test]
    fn any_float_is_read_or_refused(real in any::<f64>()) {
        let _ = Decimal::from_value(ValueRef::Real(real));
    }
}
