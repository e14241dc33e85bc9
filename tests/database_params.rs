//! Parameters: every way to write them, every value, and refusal before anything runs.
#![cfg(feature = "sqlite")]

mod common;

use common::{Home, Kind, count, kinds, memory, with_table};
use strongroom::engine::Params;
use strongroom::values::{IntoParams, Null};
use strongroom::{AsyncDatabase, Error, ErrorKind, Reason, Result, Value, named, params};

const UNFIT: (ErrorKind, Reason) = (ErrorKind::Query, Reason::Parameters);

async fn text(db: &AsyncDatabase, sql: &str, params: impl IntoParams) -> Result<String> {
    db.fetch_value(sql, params).await.map(Option::unwrap)
}

#[tokio::test]
async fn every_way_to_write_parameters_binds_the_same() {
    let db = memory().await;
    let sql = "SELECT $1 || '-' || $2";
    let list = vec!["a", "b"];
    assert_eq!(text(&db, sql, ("a", "b")).await.unwrap(), "a-b");
    assert_eq!(text(&db, sql, ["a", "b"]).await.unwrap(), "a-b");
    assert_eq!(text(&db, sql, &["a", "b"]).await.unwrap(), "a-b");
    assert_eq!(text(&db, sql, &list[..]).await.unwrap(), "a-b");
    assert_eq!(text(&db, sql, &list).await.unwrap(), "a-b");
    assert_eq!(text(&db, sql, list).await.unwrap(), "a-b");
    assert_eq!(text(&db, sql, params!["a", "b"]).await.unwrap(), "a-b");
    assert_eq!(text(&db, sql, vec![Value::Text("a".into()), Value::Text("b".into())]).await.unwrap(), "a-b");
    let sql = "SELECT :x || '-' || @y || :x";
    assert_eq!(text(&db, sql, named![x: "a", y: "b"]).await.unwrap(), "a-ba");
    assert_eq!(text(&db, sql, [("y", "b"), ("x", "a")]).await.unwrap(), "a-ba");
    assert_eq!(text(&db, sql, [(":x", "a"), ("@y", "b")]).await.unwrap(), "a-ba");
    assert_eq!(text(&db, sql, vec![("x", "a"), ("y", "b")]).await.unwrap(), "a-ba");
    assert_eq!(db.fetch_value::<i64>("SELECT 1", params![]).await.unwrap(), Some(1));
}

#[tokio::test]
async fn numbers_bind_by_the_number_in_the_name_on_every_handle() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        for (sql, expected) in [
            ("SELECT $2 || $1", "BA"),
            ("SELECT $1 || $2", "AB"),
            ("SELECT $2 || $1 || $2", "BAB"),
            ("SELECT ?2 || ?1", "BA"),
            ("SELECT ?2 || ?1 || ?2", "BAB"),
            ("SELECT ? || ?", "AB"),
            ("SELECT $02 || $1", "BA"),
        ] {
            assert_eq!(text(&db, sql, ("A", "B")).await.unwrap(), expected, "{kind:?}: {sql}");
            let mut tx = db.begin().await.unwrap();
            let found: Option<String> = tx.fetch_value(sql, ("A", "B")).await.unwrap();
            assert_eq!(found.unwrap(), expected, "{sql} in a transaction");
            tx.commit().await.unwrap();
            let mut conn = db.connection().await.unwrap();
            let found: Option<String> = conn.fetch_value(sql, ("A", "B")).await.unwrap();
            assert_eq!(found.unwrap(), expected, "{sql} on a raw connection");
        }
    }
}

fn case(what: &str, params: impl IntoParams) -> (String, Params) {
    (format!("INSERT INTO t (n) SELECT length({what})"), params.into_params().unwrap())
}

#[tokio::test]
async fn mixtures_gaps_casts_and_wrong_counts_are_refused_before_anything_runs() {
    let db = memory().await;
    with_table(&db).await;
    let cases: Vec<(String, Params)> = vec![
        case("$2 || ?1", ("a", "b")),
        case("$2 || ?1", ("a",)),
        case("?1 || $1", ("a",)),
        case(":a || ?1", ("a", "b")),
        case(":a || ?1", named![a: "x"]),
        case(":a || $1", named![a: "x"]),
        case("? || ?1", ("a",)),
        case("? || $2", ("a", "b")),
        case("@a || ?", ("a", "b")),
        case("$1 || $3", params!["a", "b", "c"]),
        case("?1 || ?3", ("a", "b")),
        case("$0", ("a",)),
        case("?0", ("a",)),
        case("$99999999999999999999", ("a",)),
        case("$1::text", ("a",)),
        case("$1a", ("a",)),
        case("$a", ("a",)),
        case("$$a$$", ("a",)),
        case("$1(x)", ("a",)),
        case(":1", ("a",)),
        case("@1", named![a: 1]),
        case(":a::b", named![a: "x"]),
        case("$1 || $2", ("a",)),
        case("$1", ("a", "b")),
        case("$1", ()),
        case("'x'", ("a",)),
        case(":a || :b", named![a: "x"]),
        case(":a", named![a: "x", b: "y"]),
        case(":a", named![a: "x", a: "y"]),
        case(":a", ("a",)),
        case("$1", named![a: "x"]),
    ];
    for (sql, params) in cases {
        let error = db.execute(&sql, params.clone()).await.expect_err(&sql);
        assert_eq!(error.kind(), ErrorKind::Query, "{sql}: {error:?}");
        let mut spoken: Vec<Error> = Vec::new();
        spoken.push(db.fetch_one(&sql, params.clone()).await.unwrap_err());
        spoken.push(db.begin().await.unwrap().execute(&sql, params.clone()).await.unwrap_err());
        spoken.push(db.connection().await.unwrap().execute(&sql, params.clone()).await.unwrap_err());
        spoken.push(db.execute_many(&sql, [params]).await.unwrap_err());
        assert!(spoken.iter().all(|again| again.kind() == error.kind()), "{sql}: {spoken:?}");
        if !sql.contains("?0") {
            assert_eq!(kinds(&error), UNFIT, "{sql}: {error:?}");
        }
        assert_eq!(count(&db).await, 0, "{sql} ran");
    }
}

#[tokio::test]
async fn a_refused_mixture_says_what_to_write_instead() {
    let db = memory().await;
    for (sql, words) in [
        ("SELECT $2 || ?1", "mixes styles"),
        ("SELECT $1, $3", "parameter 3 but not 2"),
        ("SELECT $1::text", "cast("),
        ("SELECT $1", "takes 1 parameter, 0 given"),
    ] {
        let error = db.fetch_all(sql, ()).await.unwrap_err();
        assert!(error.to_string().contains(words), "{sql}: {error}");
    }
    let error = db.fetch_all("SELECT :id", (1,)).await.unwrap_err();
    assert!(error.to_string().contains("named!"), "{error}");
    let error = db.fetch_all("SELECT :id", named![di: 1]).await.unwrap_err();
    assert!(error.to_string().contains(":di"), "{error}");
}

#[tokio::test]
async fn placeholders_inside_strings_comments_and_quoted_names_are_none() {
    let db = memory().await;
    db.execute_script("CREATE TABLE \"$1\" (\"?\" TEXT, [:a] TEXT, `@b` TEXT)").await.unwrap();
    for sql in [
        "SELECT '$1 ?2 :a' || $1",
        "SELECT 'it''s $2' || $1 -- $2 ? :a",
        "SELECT /* $2 ? :a */ $1",
        "SELECT /* $2 -- */ $1 /* ? ",
        "SELECT count(\"?\") || count([:a]) || count(`@b`) || $1 FROM \"$1\"",
        "SELECT \"$2\" || $1 FROM (SELECT 'x' AS \"$2\")",
        "SELECT x$2 || $1 FROM (SELECT 'x' AS x$2)",
        "SELECT -1 - -$1",
        "SELECT 4 / $1",
    ] {
        assert!(db.fetch_all(sql, (2,)).await.is_ok_and(|rows| rows.len() == 1), "{sql}");
    }
}

#[tokio::test]
async fn integers_of_every_type_arrive_and_what_does_not_fit_is_an_error() {
    let db = memory().await;
    macro_rules! there_and_back {
        ($($type:ty)*) => {$(
            for value in [<$type>::MIN, 0, 1, <$type>::MAX] {
                let back = db.fetch_value::<$type>("SELECT $1", (value,)).await;
                match i64::try_from(value) {
                    Ok(_) => assert_eq!(back.unwrap(), Some(value)),
                    Err(_) => assert_eq!(kinds(&back.unwrap_err()), (ErrorKind::Query, Reason::Type)),
                }
            }
        )*};
    }
    there_and_back! { i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize }
    for value in [(1_i64 << 53) + 1, -(1_i64 << 53) - 1, i64::MAX, i64::MIN] {
        assert_eq!(
            db.fetch_value::<i64>("SELECT $1", (value,)).await.unwrap(),
            Some(value),
            "no detour through floats"
        );
    }
    assert!(db.fetch_value::<i8>("SELECT 128", ()).await.is_err());
    assert!(db.fetch_value::<u8>("SELECT -1", ()).await.is_err());
    assert!(db.fetch_value::<f64>("SELECT $1", ((1_i64 << 53) + 1,)).await.is_err());
}

#[tokio::test]
async fn floats_arrive_bit_by_bit_and_nan_is_refused() {
    let db = memory().await;
    for value in [0.0, -0.0, 0.1, f64::MIN_POSITIVE, 5e-324, f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY] {
        let back = db.fetch_value::<f64>("SELECT $1", (value,)).await.unwrap().unwrap();
        assert_eq!(back.to_bits(), value.to_bits(), "{value}");
    }
    with_table(&db).await;
    for nan in [f64::NAN, -f64::NAN] {
        let error = db.execute("INSERT INTO t (n) VALUES ($1)", (nan,)).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type));
        assert!(error.to_string().contains("NaN"), "{error}");
    }
    assert_eq!(count(&db).await, 0);
}

#[tokio::test]
async fn empty_and_awkward_texts_and_blobs_arrive_as_they_are() {
    let db = memory().await;
    for value in ["", "\0", "a\0b", "'", "\"; DROP TABLE t", "é\u{10FFFF}", " ", "\u{FEFF}"] {
        let row = db.fetch_one("SELECT $1, typeof($1)", (value,)).await.unwrap().unwrap();
        assert_eq!(
            (row.get::<String>(0).unwrap(), row.get::<String>(1).unwrap()),
            (value.to_owned(), "text".to_owned())
        );
    }
    for value in [&b""[..], &[0], &[0xFF, 0, 0xFE]] {
        let row = db.fetch_one("SELECT $1, typeof($1), length($1)", (value,)).await.unwrap().unwrap();
        assert_eq!(
            (row.get::<Vec<u8>>(0).unwrap(), row.get::<String>(1).unwrap()),
            (value.to_owned(), "blob".to_owned())
        );
        assert_eq!(row.get::<usize>(2).unwrap(), value.len());
    }
    let row = db.fetch_one("SELECT $1, $2, $3, $4", (Null, None::<i64>, Some(true), 'c')).await.unwrap().unwrap();
    let values: Vec<Value> = (0..4).map(|index| row.get(index).unwrap()).collect();
    assert_eq!(values, [Value::Null, Value::Null, Value::Integer(1), Value::Text("c".into())]);
    let error = db.fetch_all("SELECT cast(x'FF' AS TEXT)", ()).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type), "text that is not UTF-8: {error}");
}

/// `SELECT` of the sum of so many parameters.
fn sum_of(style: &str, count: usize) -> String {
    let marks: Vec<String> = (1..=count).map(|n| style.replace('N', &n.to_string())).collect();
    format!("SELECT sum(column1) FROM (VALUES ({}))", marks.join("), ("))
}

#[tokio::test]
async fn as_many_parameters_as_the_engine_takes_and_not_one_more() {
    let db = memory().await;
    let most = db.capabilities().max_params;
    assert_eq!(most, 32_766);
    let values: Vec<usize> = (1..=most + 1).collect();
    for style in ["?", "?N", "$N"] {
        let sum: usize = (1..=most).sum();
        assert_eq!(db.fetch_value(&sum_of(style, most), &values[..most]).await.unwrap(), Some(sum), "{style}");
        let error = db.fetch_value::<i64>(&sum_of(style, most + 1), &values).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Query, "{style}: {error}");
        assert!(error.to_string().contains("variable"), "{style}: {error}");
    }
}

#[tokio::test]
async fn thousands_of_numbers_may_repeat_and_stand_in_any_order() {
    let db = memory().await;
    for sign in ["$", "?"] {
        let values: Vec<i64> = (1..=1500).collect();
        let marks: Vec<String> = (1..=1500).rev().chain([1, 1500, 7]).map(|n| format!("{sign}{n}")).collect();
        let sql = format!("SELECT column1 FROM (VALUES ({}))", marks.join("), ("));
        let back: Vec<i64> = db.fetch_all_as(&sql, &values).await.unwrap();
        assert_eq!(back, values.iter().rev().copied().chain([1, 1500, 7]).collect::<Vec<_>>(), "{sign}");
        let hidden = format!("{sql} WHERE $a");
        assert_eq!(kinds(&db.fetch_all(&hidden, &values).await.unwrap_err()), UNFIT, "{sign}");
    }
}

#[tokio::test]
async fn a_blob_of_a_hundred_megabytes_goes_there_and_back() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script("CREATE TABLE b (data BLOB)").await.unwrap();
    let blob = (0..=u8::MAX).rev().chain([0; 69]).collect::<Vec<u8>>().repeat(100_000_000 / 325);
    db.execute("INSERT INTO b VALUES ($1)", (blob.clone(),)).await.unwrap();
    let back: Vec<u8> = db.fetch_value("SELECT data FROM b", ()).await.unwrap().unwrap();
    assert!(back == blob, "the bytes differ");
    let error = db.execute("INSERT INTO b VALUES (zeroblob(2000000000))", ()).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Query, Reason::TooLarge), "{error}");
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM b", ()).await.unwrap(), Some(1));
}
