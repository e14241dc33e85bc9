//! How values reach their placeholders.

use super::lab::{Lab, equal, holds, must, refused};
use crate::connector::{Connection, Connector};
use crate::error::{ErrorKind, Reason};
use crate::named;
use crate::params::{Dialect, IntoParams, Params};
use crate::value::Value;

async fn text<C: Connector<Connection: Connection>>(
    lab: &mut Lab<C>,
    clause: &str,
    sql: &str,
    params: impl IntoParams,
) -> String {
    let rows = lab.must(clause, sql, params).await;
    must(clause, rows.first().map_or(Ok(String::new()), |row| row.get(0)))
}

pub(super) async fn by_number<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    let clause = "$1 to $N are bound by the number in the name";
    let (one, two) = ("cast($1 AS TEXT)", "cast($2 AS TEXT)");
    for (sql, expected) in [
        (format!("SELECT {two} || {one}"), "BA"),
        (format!("SELECT {two} || {two} || {one}"), "BBA"),
        (format!("SELECT {one} || {two} || {one}"), "ABA"),
        (format!("SELECT {two} || '$1' || {one}"), "B$1A"),
        (format!("SELECT {two} || /* $3 ? :x */ {one} -- $4"), "BA"),
        (format!("SELECT {two} || {one} AS \"$5\""), "BA"),
    ] {
        equal(clause, &text(lab, clause, &sql, ("A", "B")).await.as_str(), &expected);
    }
    if lab.capabilities.dialect == Dialect::Sqlite {
        for sql in ["SELECT ? || ?", "SELECT ?1 || ?2"] {
            equal("? and ?N are bound by position", &text(lab, clause, sql, ("A", "B")).await.as_str(), &"AB");
        }
    }
}

pub(super) async fn by_name<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    let clause = ":name and @name are bound by name";
    for sql in [
        "SELECT cast(:b AS TEXT) || cast(:a AS TEXT) || cast(:b AS TEXT)",
        "SELECT cast(@b AS TEXT) || cast(@a AS TEXT) || cast(@b AS TEXT)",
    ] {
        equal(clause, &text(lab, clause, sql, named![a: "A", b: "B"]).await.as_str(), &"BAB");
    }
    for params in [named![a: 1], named![a: 1, c: 2], named![a: 1, b: 2, c: 3], (1, 2).into_params()] {
        let clause = "a name without a value, or a value without a name, is refused";
        refused(clause, lab.run("SELECT cast(:a AS BIGINT) + cast(:b AS BIGINT)", params).await);
    }
}

pub(super) async fn counts<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    let clause = "a wrong number of parameters is refused before anything runs";
    let one = || Value::Integer(1);
    for (sql, count) in [
        ("INSERT INTO {t} VALUES ($1, $2)", 0),
        ("INSERT INTO {t} VALUES ($1, $2)", 1),
        ("INSERT INTO {t} VALUES ($1, $2)", 3),
        ("INSERT INTO {t} VALUES ($1, $3)", 2),
        ("INSERT INTO {t} VALUES ($1, $3)", 3),
        ("INSERT INTO {t} VALUES ($0, $1)", 2),
        ("INSERT INTO {t} VALUES (1, 'a')", 1),
    ] {
        let params = Params::Positional((0..count).map(|_| one()).collect());
        let error = refused(clause, lab.run(sql, params).await);
        let found = (error.kind(), error.reason());
        equal("such an error is Query, Parameters", &found, &(ErrorKind::Query, Reason::Parameters));
    }
    lab.counts(clause, 0).await;
}

pub(super) async fn mixtures<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    let clause = "a mixture of styles of placeholders is refused before anything runs";
    let mut mixtures = vec!["INSERT INTO {t} VALUES ($1, :b)", "INSERT INTO {t} VALUES (@a, $2)"];
    if lab.capabilities.dialect == Dialect::Sqlite {
        mixtures.extend(["INSERT INTO {t} VALUES ($2, ?1)", "INSERT INTO {t} VALUES (?, $2)"]);
    }
    for sql in mixtures {
        refused(clause, lab.run(sql, (1, "a")).await);
        refused(clause, lab.run(sql, named![a: 1, b: "b"]).await);
    }
    lab.counts(clause, 0).await;
}

/// Enough to be sure that nothing counts in bytes; an engine may take minutes for all it can.
const MANY: usize = 1000;

pub(super) async fn many<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    let count = lab.capabilities.max_params.min(MANY);
    let cells: Vec<_> = (1..=count).map(|number| format!("(cast(${number} AS BIGINT))")).collect();
    let sql = format!("SELECT column1 FROM (VALUES {}) AS t", cells.join(", "));
    let numbers = (1..).map(Value::Integer).take(count).collect();
    let clause = "a statement takes as many parameters as the capabilities say, each in its place";
    let rows = lab.must(clause, &sql, Params::Positional(numbers)).await;
    let found = rows.iter().filter_map(|row| row.get::<i64>(0).ok());
    holds(clause, rows.len() == count && found.eq((1..).take(count)), format_args!("{} of {count}", rows.len()));
}
