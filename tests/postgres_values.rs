//! Values of every type, to the server and back.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use common::{run_sql, script, server, value};
use strongroom::values::{IntoParams, Null};
use strongroom::{ErrorKind, Reason, Value, named, params};

#[tokio::test]
async fn every_type_that_is_read_comes_out_as_documented() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    let cases: &[(&str, Value)] = &[
        ("true", Value::Bool(true)),
        ("cast(-32768 as int2)", Value::Integer(-32_768)),
        ("cast(-2147483648 as int4)", Value::Integer(-2_147_483_648)),
        ("cast(-9223372036854775808 as int8)", Value::Integer(i64::MIN)),
        ("cast(4294967295 as oid)", Value::Integer(4_294_967_295)),
        ("cast(0.5 as float4)", Value::Real(0.5)),
        ("cast(1e300 as float8)", Value::Real(1e300)),
        ("cast('hé' as text)", Value::Text("hé".into())),
        ("cast('abc' as varchar(5))", Value::Text("abc".into())),
        ("cast('abc' as char(5))", Value::Text("abc  ".into())),
        ("cast('abc' as name)", Value::Text("abc".into())),
        ("cast('\\x00ff' as bytea)", Value::Blob(vec![0, 255])),
        ("cast('{\"a\": 1}' as json)", Value::Text("{\"a\": 1}".into())),
        ("cast('{\"a\":1}' as jsonb)", Value::Text("{\"a\": 1}".into())),
        (
            "cast('550E8400-e29b-41d4-a716-446655440000' as uuid)",
            Value::Text("550e8400-e29b-41d4-a716-446655440000".into()),
        ),
        ("date '2024-02-29'", Value::Text("2024-02-29".into())),
        ("date 'infinity'", Value::Text("infinity".into())),
        ("date '0044-03-15 BC'", Value::Text("0044-03-15 BC".into())),
        ("time '23:59:59.25'", Value::Text("23:59:59.250".into())),
        ("timestamp '1969-12-31 23:59:59.999999'", Value::Text("1969-12-31T23:59:59.999999".into())),
        ("timestamptz '2024-01-02 03:04:05+02'", Value::Text("2024-01-02T01:04:05Z".into())),
        ("timestamptz '-infinity'", Value::Text("-infinity".into())),
        ("array[1, null, 3]", Value::Text("{1,NULL,3}".into())),
        ("array[[1,2],[3,4]]", Value::Text("{{1,2},{3,4}}".into())),
        ("cast('{}' as text[])", Value::Text("{}".into())),
        ("'[0:1]={1,2}'::int[]", Value::Text("[0:1]={1,2}".into())),
        ("array['a b', 'null', '', 'q\"\\', 'x']", Value::Text(r#"{"a b","null","","q\"\\",x}"#.into())),
        ("array[true, false]", Value::Text("{t,f}".into())),
        ("array[cast('\\x01' as bytea)]", Value::Text(r#"{"\\x01"}"#.into())),
        ("cast(null as int)", Value::Null),
    ];
    for (sql, expected) in cases {
        let rows = run_sql(&mut connection, &format!("SELECT {sql}"), ()).await.unwrap();
        assert_eq!(&rows.first().unwrap().get::<Value>(0).unwrap(), expected, "{sql}");
    }
}

#[tokio::test]
async fn text_made_here_is_the_text_the_server_makes() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    let numerics = "0, 1, -1, 0.1, 12.3400, 10000, 100000000, 0.0001, 0.00000001, -9999.9999, 1e40, 1e-40, 'NaN', 'Infinity', \
                    123456789012345678901234567890.123456789";
    let dates = "'0001-01-01', '0001-12-31 BC', '1600-02-29', '1900-02-28', '2000-03-01', '2100-12-31', '294276-01-01'";
    let arrays = r#"'{a,b}', '{{a,b},{c,NULL}}', '{" a",b\\c}', '[2:3]={x,y}', '{}'"#;
    for (ty, list) in [("numeric", numerics), ("date", dates), ("text[]", arrays)] {
        for literal in list.split(", ").map(|literal| literal.trim_matches('\'')) {
            let sql = format!("SELECT cast($1 as {ty}), cast(cast($1 as {ty}) as text)");
            let rows = run_sql(&mut connection, &sql, (literal,)).await.unwrap();
            let row = rows.first().unwrap();
            assert_eq!(row.get::<String>(0).unwrap(), row.get::<String>(1).unwrap(), "{literal}");
        }
    }
}

#[tokio::test]
async fn numbers_are_fitted_to_the_type_of_the_column_or_refused_before_anything_is_sent() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (a int2, b int4, c int8, d float4, e float8, f numeric, g bool)").await;
    let insert = "INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6, $7)";
    run_sql(&mut connection, insert, (1, 2, i64::MAX, 0.25, 1_i64 << 53, 0.1, true)).await.unwrap();
    run_sql(&mut connection, insert, (true, -1, 3, 2, 2.5, 10, 0)).await.unwrap();
    let rows = run_sql(&mut connection, "SELECT * FROM t ORDER BY c DESC", ()).await.unwrap();
    assert_eq!(rows.first().unwrap().get::<String>("f").unwrap(), "0.1");
    assert!(!rows.row(1).unwrap().get::<bool>("g").unwrap());

    let refused =
        [params![32_768, 1, 1, 1, 1, 1, 1], params![1, 1_i64 << 31, 1, 1, 1, 1, 1], params![1, 1, 1, 1e300, 1, 1, 1]];
    for params in refused.into_iter().chain([params![1, 1, 1, 1, 1, 1, 2], params![1.5, 1, 1, 1, 1, 1, 1]]) {
        let error = run_sql(&mut connection, insert, params).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Query, Reason::Type));
    }
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t").await, 2);
}

#[tokio::test]
async fn text_is_read_by_the_server_as_a_literal_of_the_column() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(
        &mut connection,
        "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN small AS int CHECK (value < 10); \
         CREATE TABLE t (a uuid, b timestamptz, c jsonb, d mood, e int[], f numeric(10, 2), g small, h interval)",
    )
    .await;
    let given = (
        "550e8400-e29b-41d4-a716-446655440000",
        "2024-01-02T03:04:05Z",
        "{\"a\": 1}",
        "happy",
        "{1,2}",
        "1.005",
        9,
        "1 day",
    );
    run_sql(&mut connection, "INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", given).await.unwrap();
    let rows = run_sql(&mut connection, "SELECT a, b, c, d, e, f, g, cast(h as text) AS h FROM t", ()).await.unwrap();
    let row = rows.first().unwrap();
    let texts: Vec<String> = ["a", "b", "c", "d", "e", "h"].map(|name| row.get(name).unwrap()).into();
    assert_eq!(texts, [given.0, given.1, given.2, given.3, given.4, given.7]);
    assert_eq!((row.get::<String>("f").unwrap(), row.get::<i64>("g").unwrap()), ("1.01".into(), 9));

    let error = run_sql(&mut connection, "INSERT INTO t (a) VALUES ($1)", ("hunter2",)).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Query, Reason::Type));
    assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
    let error = run_sql(&mut connection, "INSERT INTO t (g) VALUES ($1)", (10,)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Check);
}

#[tokio::test]
async fn every_type_is_read_as_postgresql_writes_it_and_takes_that_text_back() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(
        &mut connection,
        "CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TYPE pair AS (a int, b text);
         CREATE DOMAIN span AS interval; CREATE DOMAIN pairs AS pair",
    )
    .await;
    let cases = [
        ("interval", "1 year 2 mons 3 days 04:05:06.5"),
        ("inet", "10.0.0.1/8"),
        ("cidr", "10.0.0.0/8"),
        ("macaddr", "08:00:2b:01:02:03"),
        ("macaddr8", "08:00:2b:01:02:03:04:05"),
        ("money", "$1,000.50"),
        ("int4range", "[1,5)"),
        ("tstzrange", "[\"2026-01-01 00:00:00+00\",)"),
        ("int8multirange", "{[1,3),[7,9)}"),
        ("pair", "(1,\"a b\")"),
        ("pairs", "(1,\"a b\")"),
        ("pair[]", "{\"(1,a)\",\"(2,b)\"}"),
        ("mood[]", "{sad,happy}"),
        ("interval[]", "{\"1 day\",02:00:00}"),
        ("span", "1 day"),
        ("span[]", "{\"1 day\"}"),
        ("inet[]", "{10.0.0.1,::1}"),
        ("bit(3)", "101"),
        ("varbit", "10101"),
        ("xml", "<a>b</a>"),
        ("tsvector", "'cat':2 'fat':1"),
        ("tsquery", "'fat' & 'cat'"),
        ("point", "(1,2)"),
        ("box", "(2,2),(1,1)"),
        ("polygon", "((0,0),(1,1))"),
        ("circle", "<(1,2),3>"),
        ("hstore", "\"a\"=>\"1\""),
        ("timetz", "12:00:00+02"),
        ("pg_lsn", "16/B374D848"),
        ("jsonpath", "$.\"a\""),
        ("regclass", "pg_type"),
        ("int4[]", "[2:3]={1,2}"),
    ];
    for (ty, text) in cases {
        script(&mut connection, &format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id int, a {ty}, b {ty})")).await;
        let insert = format!("INSERT INTO t VALUES (1, $1, NULL), (2, $1, $1) RETURNING a, id -- as {ty}");
        let rows = run_sql(&mut connection, &insert, (text,)).await.unwrap_or_else(|error| panic!("{ty}: {error}"));
        assert_eq!((rows.len(), rows.changes().rows_affected), (2, 2), "{ty}");
        let select = format!("SELECT *, a FROM t ORDER BY id DESC; -- as {ty}");
        let rows = run_sql(&mut connection, &select, ()).await.unwrap_or_else(|error| panic!("{ty}: {error}"));
        assert_eq!(rows.columns().iter().map(|name| &**name).collect::<Vec<_>>(), ["id", "a", "b", "a"], "{ty}");
        let (full, half) = (rows.first().unwrap(), rows.iter().nth(1).unwrap());
        assert_eq!((full.get::<i64>(0).unwrap(), half.get::<i64>(0).unwrap()), (2, 1), "{ty}");
        for column in 1..4 {
            assert_eq!(full.get::<String>(column).unwrap(), text, "{ty}");
        }
        assert_eq!(half.get::<Option<String>>(2).unwrap(), None, "{ty}");
    }
}

#[tokio::test]
async fn statements_of_every_kind_give_such_columns_as_text() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (id int, span interval)").await;
    let statements = [
        ("INSERT INTO t SELECT i, '1 day' FROM generate_series(1, 3) i RETURNING span", 3),
        ("UPDATE t SET span = '1 day' WHERE id > $1 RETURNING span", 2),
        ("WITH a AS (SELECT span FROM t) SELECT span FROM a WHERE $1 > 0", 3),
        ("(SELECT span FROM t) UNION ALL (SELECT span FROM t WHERE $1 > 0)", 6),
        ("VALUES (cast('1 day' AS interval))", 1),
        ("TABLE t", 3),
        ("SELECT span FROM t WHERE id > $1 FOR UPDATE", 2),
        ("DELETE FROM t WHERE id > $1 RETURNING span", 2),
        ("SELECT ROW(1, 'a'), span FROM t", 1),
    ];
    for (sql, count) in statements {
        let outcome = if sql.contains("$1") {
            run_sql(&mut connection, sql, (1,)).await
        } else {
            run_sql(&mut connection, sql, ()).await
        };
        let rows = outcome.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(rows.len(), count, "{sql}");
        let last = rows.columns().len() - 1;
        assert_eq!(rows.first().unwrap().get::<String>(last).unwrap(), "1 day", "{sql}");
    }
    let sql = "WITH a AS (INSERT INTO t VALUES (9, '1 day') RETURNING span) SELECT span FROM a";
    let error = run_sql(&mut connection, sql, ()).await.unwrap_err();
    assert!(error.to_string().contains("cast(span as text)"), "{error}");
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t WHERE id = 9").await, 0);
}

#[tokio::test]
async fn placeholders_bind_by_their_number_and_names_by_name() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    let cases = [
        ("SELECT cast($2 as text) || '-' || cast($1 as text) || '-' || cast($2 as text)", ("A", "B").into_params()),
        ("SELECT cast(?2 as text) || '-' || cast(?1 as text) || '-' || cast(?2 as text)", ("A", "B").into_params()),
        ("SELECT cast(:b as text) || '-' || cast(@a as text) || '-' || cast(:b as text)", named![a: "A", b: "B"]),
    ];
    for (sql, params) in cases {
        let rows = run_sql(&mut connection, sql, params).await.unwrap();
        assert_eq!(rows.first().unwrap().get::<String>(0).unwrap(), "B-A-B", "{sql}");
    }
    for (sql, params) in
        [("SELECT $1", ().into_params()), ("SELECT $1", params![1, 2]), ("SELECT $1 || ?1", params!["a"])]
    {
        let error = run_sql(&mut connection, sql, params).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Parameters, "{sql}");
    }
    let rows = run_sql(&mut connection, "SELECT '$1', cast($1 as text) /* $2 */ -- $3", (Null,)).await.unwrap();
    assert_eq!(rows.first().unwrap().get::<Option<String>>(1).unwrap(), None);
}

#[tokio::test]
async fn arrays_and_vectors_are_read_as_the_server_writes_them() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    let arrays = [
        "'{0.1,-2.5,NULL}'::real[]",
        "'{{0.3},{1.1}}'::real[]",
        "'[0:1]={7,8}'::int[]",
        "'1 2 3'::int2vector",
        "'7'::oidvector",
        "''::int2vector",
    ];
    for array in arrays {
        // As an array, and as the text that the server makes of it.
        let read: String = value(&mut connection, &format!("SELECT {array}")).await;
        let written: String = value(&mut connection, &format!("SELECT CAST({array} AS text)")).await;
        assert_eq!(read, written, "{array}");
    }
}
