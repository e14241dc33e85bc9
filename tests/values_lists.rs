//! `IN $1`: lists as one parameter.
#![cfg(feature = "sqlite")]

mod common;

use common::{kinds, memory};
use strongroom::engine::{Dialect, Placeholders};
use strongroom::values::IntoParams;
use strongroom::{AsyncDatabase, ErrorKind, Reason, list, named, params};

async fn filled() -> AsyncDatabase {
    let db = memory().await;
    db.execute_script("CREATE TABLE t (id INTEGER, name TEXT); CREATE INDEX t_id ON t (id)").await.unwrap();
    let rows = [(1, Some("a")), (2, Some("b,\"]c")), (3, Some("\u{1}é\\")), (4, None)];
    db.execute_many("INSERT INTO t VALUES ($1, $2)", rows).await.unwrap();
    db
}

async fn ids(db: &AsyncDatabase, clause: &str, params: impl IntoParams) -> Vec<i64> {
    db.fetch_all_as(&format!("SELECT id FROM t WHERE {clause} ORDER BY id"), params).await.unwrap()
}

#[tokio::test]
async fn a_list_binds_behind_in_in_every_style_of_placeholders() {
    let db = filled().await;
    assert_eq!(ids(&db, "id IN $1", (list([1, 3, 9]),)).await, [1, 3]);
    assert_eq!(ids(&db, "id in ?1 AND id > ?2", (list([1, 3]), 1)).await, [3]);
    assert_eq!(ids(&db, "id > ? AND id IN ?", (1, list(vec![1, 3]))).await, [3]);
    assert_eq!(ids(&db, "id NOT IN :ids", named![ids: list([1, 3])]).await, [2, 4]);
    assert_eq!(ids(&db, "id Not /* a */ In -- b\n @ids", named![ids: list([1, 3])]).await, [2, 4]);
    assert_eq!(ids(&db, "id IN $1 OR id IN $2 OR id IN $1", (list([1]), list([4]))).await, [1, 4]);
    assert_eq!(ids(&db, "name IN $1", (list(["b,\"]c", "\u{1}é\\", "' OR 1"]),)).await, [2, 3]);
    assert_eq!(ids(&db, "name IN $1", (list([Some("a"), None]),)).await, [1]);
    assert_eq!(ids(&db, "id IN $1", (list(Vec::<i64>::new()),)).await, Vec::<i64>::new());
    assert_eq!(ids(&db, "id NOT IN $1", (list(Vec::<i64>::new()),)).await, [1, 2, 3, 4]);
    assert_eq!(ids(&db, "id IN $1", (list([1.0, 2.5]),)).await, [1]);
    assert_eq!(ids(&db, "(id > 2) IN $1", (list([true]),)).await, [3, 4]);
    assert_eq!(ids(&db, "id IN $1", params![list(1..100_000)]).await, [1, 2, 3, 4], "more than parameters can be");
    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.execute("DELETE FROM t WHERE id IN $1", (list([1, 2]),)).await.unwrap().rows_affected, 2);
    tx.commit().await.unwrap();
    let sets = [(9, list([3])), (8, list([4]))];
    assert_eq!(db.execute_many("UPDATE t SET id = $1 WHERE id IN $2", sets).await.unwrap().rows_affected, 2);
}

#[tokio::test]
async fn what_is_no_list_is_refused_with_the_way_out() {
    let db = filled().await;
    for params in [params![1], params!["a"], params![strongroom::values::Null]] {
        let error = db.fetch_all("SELECT id FROM t WHERE id IN $1", params).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Parameters));
        assert!(error.to_string().contains("strongroom::list(..), or write IN ($1)"), "{error}");
    }
    assert_eq!(ids(&db, "id IN ($1, $2)", (1, 2)).await, [1, 2], "as ever");
    assert_eq!(ids(&db, "id IN ($1)", (1,)).await, [1]);
    for refused in [list([&b"x"[..]]).unwrap_err(), list([f64::NAN]).unwrap_err(), list([u64::MAX]).unwrap_err()] {
        assert_eq!(kinds(&refused), (ErrorKind::Query, Reason::Type), "{refused}");
    }
    let error = db.fetch_all("SELECT id FROM t WHERE id IN $1", (list([f64::INFINITY]),)).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type));
}

#[test]
fn each_engine_gets_what_it_knows() {
    for (sql, sqlite, postgres) in [
        ("a IN $1", "a IN (SELECT +value FROM json_each($1))", "a = ANY($1)"),
        ("a NOT IN $1 x", "a NOT IN (SELECT +value FROM json_each($1)) x", "a <> ALL($1) x"),
        ("'IN' $1", "'IN' $1", "'IN' $1"),
        ("a IN ($1)", "a IN ($1)", "a IN ($1)"),
        ("begin $1", "begin $1", "begin $1"),
        ("\"in\" $1", "\"in\" $1", "\"in\" $1"),
    ] {
        let rewritten = |dialect| Placeholders::scan(sql, dialect).unwrap().with_lists(sql).into_owned();
        assert_eq!(rewritten(Dialect::Sqlite), sqlite);
        assert_eq!(rewritten(Dialect::Postgres), postgres);
        assert_eq!(rewritten(Dialect::Other), sql);
    }
    let sql = "a IN :x AND position(:y IN :z) > 0 AND b NOT IN :x";
    let found = Placeholders::scan(sql, Dialect::Postgres).unwrap();
    assert_eq!(found.rewrite(sql), "a = ANY($1) AND position($2 IN $3) > 0 AND b <> ALL($1)");
}

#[test]
fn what_position_of_postgres_looks_in_is_no_list() {
    for (sql, expected) in [
        ("position((a) IN $1)", "position((a) IN $1)"),
        ("position(lower(a) IN $1) > 0 AND b IN $2", "position(lower(a) IN $1) > 0 AND b = ANY($2)"),
        ("POSITION /* ( */ (f((a), (b)) in $1)", "POSITION /* ( */ (f((a), (b)) in $1)"),
        (
            "position((SELECT x FROM t WHERE y IN $1) IN z) > 0",
            "position((SELECT x FROM t WHERE y = ANY($1)) IN z) > 0",
        ),
        ("t.position IN $1", "t.position = ANY($1)"),
        ("f(position) NOT IN $1", "f(position) <> ALL($1)"),
    ] {
        let found = Placeholders::scan(sql, Dialect::Postgres).unwrap();
        assert_eq!(found.with_lists(sql), expected);
    }
}

#[tokio::test]
async fn a_list_between_parentheses_is_refused_with_the_way_out() {
    let db = filled().await;
    for clause in [
        "id IN ($1)",
        "id NOT IN ( /* one */ $1 )",
        "name in ('a', $1)",
        "name IN ($1 || '')",
        "id IN (($1))",
        "id IN (VALUES ($1))",
        "id IN (VALUES (1), ($1))",
        "id IN (SELECT id FROM t) AND id IN (?1)",
    ] {
        let sql = format!("SELECT id FROM t WHERE {clause}");
        let error = db.fetch_all(&sql, (list([1, 3]),)).await.expect_err(clause);
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Parameters), "{clause}");
        assert!(error.to_string().contains("not a list; write IN $1, without parentheses"), "{error}");
    }
    let error = db.fetch_all("SELECT id FROM t WHERE id IN (:ids)", named![ids: list([1])]).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Parameters), "{error}");
    let sets = [("x", list([1])), ("y", list([2]))];
    let error = db.execute_many("UPDATE t SET name = $1 WHERE id IN ($2)", sets).await.unwrap_err();
    assert!(error.to_string().contains("set 1 of parameters") && error.to_string().contains("IN $1"), "{error}");
    let error = db.execute_many("UPDATE t SET name = $1 WHERE id IN $2", [("x", 1)]).await.unwrap_err();
    assert!(error.to_string().contains("placeholder 2 behind IN takes a list"), "{error}");

    // A text that looks like a list is a text, and what reads JSON may have a list.
    assert_eq!(ids(&db, "name IN ($1)", ("[1]",)).await, Vec::<i64>::new());
    assert_eq!(ids(&db, "id IN (SELECT +value FROM json_each($1))", (list([1, 3]),)).await, [1, 3]);
    assert_eq!(ids(&db, "id IN (SELECT 2 WHERE '[1,3]' = $1)", (list([1, 3]),)).await, [2]);
    assert_eq!(ids(&db, "id IN (json_array_length($1), 9)", (list([1, 3]),)).await, [2]);
    let stored: String = db.fetch_value("SELECT $1", (list([1, 3]),)).await.unwrap().unwrap();
    assert_eq!(stored, "[1,3]");
}

#[tokio::test]
async fn an_element_is_compared_as_a_value_is() {
    let db = memory().await;
    db.execute_script(
        "CREATE TABLE k (a TEXT, b INTEGER, c BLOB, d NUMERIC); CREATE INDEX k_a ON k (a);
         INSERT INTO k VALUES ('7', 7, '7', '7'), ('x', 8, 8, 8)",
    )
    .await
    .unwrap();
    for column in ["a", "b", "c", "d", "a || ''", "b + 0"] {
        for (value, listed) in [("7", list([7])), ("'7'", list(["7"])), ("7.0", list([7.0])), ("'x'", list(["x"]))] {
            let (by_value, by_list) = (format!("{column} = {value}"), format!("{column} IN $1"));
            let listed = listed.unwrap();
            let count = async |clause: &str, params: strongroom::Result<strongroom::values::Params>| {
                let sql = format!("SELECT count(*) FROM k WHERE {clause}");
                db.fetch_value::<i64>(&sql, params).await.unwrap().unwrap()
            };
            let bound = match value {
                "7" => params![7],
                "7.0" => params![7.0],
                text => params![text.trim_matches('\'')],
            };
            let one = count(&format!("{column} = $1"), bound).await;
            assert_eq!(count(&by_list, params![listed.clone()]).await, one, "{by_value}");
            assert_eq!(count(&format!("{column} NOT IN $1"), params![listed]).await, 2 - one, "NOT {by_value}");
        }
    }
    let plan = db.explain("SELECT * FROM k WHERE a IN $1", (list(["7"]),)).await.unwrap();
    assert!(plan.to_string().contains("USING INDEX k_a"), "{plan}");
    assert_eq!(plan.full_scans().count(), 0, "{plan}");
}
