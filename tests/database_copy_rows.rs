//! Tables from one database into another: all rows as of one moment, compared, or none.
#![cfg(all(feature = "sqlcipher", feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::sync::{Arc, Mutex};

use common::server;
use strongroom::database::CopyRows;
use strongroom::{AsyncDatabase, Connection, Connector, ErrorKind, PassphraseKeySource, Reason, Secret, params};

const SCHEMA: &str = "CREATE TABLE customers (id BIGINT PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE orders (id BIGINT PRIMARY KEY, customer BIGINT NOT NULL REFERENCES customers (id), price DOUBLE PRECISION,
        paid BOOLEAN NOT NULL, note TEXT)";

async fn memory() -> AsyncDatabase {
    AsyncDatabase::builder(":memory:").key(PassphraseKeySource::new(Secret::raw_key([7; 32]))).open().await.unwrap()
}

async fn fill<C: Connector<Connection: Connection>>(db: &AsyncDatabase<C>, rows: i64) {
    db.execute_script(SCHEMA).await.unwrap();
    db.execute_many("INSERT INTO customers VALUES ($1, $2)", (0..rows).map(|id| (id, format!("Müller {id}"))))
        .await
        .unwrap();
    let orders = (0..rows).map(|id| {
        let price = [None, Some(2.0), Some(0.1), Some(-1e300)][usize::try_from(id % 4).unwrap()];
        (id, rows - 1 - id, price, id % 2 == 0, (id % 3 == 0).then(|| format!("note {id}")))
    });
    db.execute_many("INSERT INTO orders VALUES ($1, $2, $3, $4, $5)", orders).await.unwrap();
}

async fn count<C: Connector<Connection: Connection>>(db: &AsyncDatabase<C>, table: &str) -> i64 {
    db.fetch_value(&format!("SELECT count(*) FROM {table}"), ()).await.unwrap().unwrap()
}

#[tokio::test]
async fn rows_go_to_another_engine_and_back() {
    let Some(server) = server() else { return };
    let (from, back) = (memory().await, memory().await);
    let cluster = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    fill(&from, 10_000).await;
    for script in [cluster.execute_script(SCHEMA).await, back.execute_script(SCHEMA).await] {
        script.unwrap();
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let what = CopyRows::of(["customers", "orders"])
        .on_progress(move |now| notes.lock().unwrap().push((now.table.to_owned(), now.done, now.total)));
    let (reader, writer) = (from.clone(), cluster.clone());
    // From a task of its own, as a program would.
    let report = tokio::spawn(async move { reader.copy_rows(&writer, what).await }).await.unwrap().unwrap();
    assert_eq!(report.tables, [("customers".to_owned(), 10_000), ("orders".to_owned(), 10_000)]);
    let seen = seen.lock().unwrap().clone();
    assert!(seen.len() >= 6, "{seen:?}");
    assert_eq!(seen.last().unwrap(), &("orders".to_owned(), 10_000, 10_000));
    cluster.copy_rows(&back, CopyRows::of(["customers", "orders"])).await.unwrap();
    let all = "SELECT * FROM orders ORDER BY id";
    let (one, other) = (from.fetch_all(all, ()).await.unwrap(), back.fetch_all(all, ()).await.unwrap());
    assert_eq!(one.len(), 10_000);
    for (one, other) in one.iter().zip(other.iter()) {
        assert!(one.iter().eq(other.iter()), "{one:?} {other:?}");
    }
}

/// The comparison is over all that stands in the table, also what stood there before.
#[tokio::test]
async fn what_stands_there_stays_and_columns_are_found_whatever_their_case_and_order() {
    let (from, to) = (memory().await, memory().await);
    from.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, Name TEXT, b BLOB)").await.unwrap();
    from.execute("INSERT INTO t VALUES (1, 'one', x'00ff')", ()).await.unwrap();
    to.execute_script("CREATE TABLE t (b BLOB, more INTEGER DEFAULT 5, NAME TEXT, id INTEGER)").await.unwrap();
    to.execute("INSERT INTO t VALUES (x'', 1, 'there', 0)", ()).await.unwrap();
    from.copy_rows(&to, CopyRows::of(["main.t"])).await.unwrap();
    let rows = to.fetch_all("SELECT id, name, hex(b), more FROM t ORDER BY id", ()).await.unwrap();
    assert_eq!(format!("{:?}", rows.row(1).unwrap().get::<String>(2).unwrap()), "\"00FF\"");
    assert_eq!((rows.len(), rows.row(1).unwrap().get::<i64>(3).unwrap()), (2, 5));
}

#[tokio::test]
async fn columns_that_a_table_computes_or_numbers_itself_are_copied_too() {
    let Some(server) = server() else { return };
    let cluster = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    let (from, back) = (memory().await, memory().await);
    let columns = "n BIGINT, twice BIGINT GENERATED ALWAYS AS (2 * n) STORED";
    let sqlite = format!("CREATE TABLE t (id INTEGER PRIMARY KEY, {columns}, thrice BIGINT AS (3 * n) VIRTUAL)");
    from.execute_script(&sqlite).await.unwrap();
    back.execute_script(&sqlite).await.unwrap();
    cluster
        .execute_script(&format!(
            "CREATE SCHEMA s; CREATE TABLE s.t (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {columns}, thrice BIGINT);
             CREATE TABLE t (LIKE s.t INCLUDING ALL)"
        ))
        .await
        .unwrap();
    from.execute_many("INSERT INTO t (id, n) VALUES ($1, $2)", (1..=3).map(|id| (10 * id, id))).await.unwrap();
    from.copy_rows(&cluster, CopyRows::of(["t"])).await.unwrap();
    cluster.copy_rows(&back, CopyRows::of(["t"])).await.unwrap();
    for sum in [
        cluster.fetch_all_as::<(i64, i64, i64, i64)>("SELECT * FROM t ORDER BY id", ()).await.unwrap(),
        back.fetch_all_as("SELECT * FROM t ORDER BY id", ()).await.unwrap(),
    ] {
        assert_eq!(sum, [(10, 1, 2, 3), (20, 2, 4, 6), (30, 3, 6, 9)]);
    }
    // As the documentation says: the sequence stays where it is, until it is set.
    let next = "INSERT INTO t (n) VALUES (4) RETURNING id";
    assert_eq!(cluster.fetch_value::<i64>(next, ()).await.unwrap(), Some(1));
    let set = "SELECT setval(pg_get_serial_sequence('t', 'id'), max(id)) FROM t";
    assert_eq!(cluster.fetch_value::<i64>(set, ()).await.unwrap(), Some(30));
    assert_eq!(cluster.fetch_value::<i64>(next, ()).await.unwrap(), Some(31));
}

#[tokio::test]
async fn a_copy_that_fails_or_differs_changes_nothing() {
    let (from, to) = (memory().await, memory().await);
    fill(&from, 5000).await;
    to.execute_script("CREATE TABLE customers (id INTEGER, name TEXT); CREATE TABLE orders (id INTEGER)")
        .await
        .unwrap();
    let missing = from.copy_rows(&to, CopyRows::of(["customers", "orders"])).await.unwrap_err();
    assert_eq!((missing.kind(), missing.reason()), (ErrorKind::Query, Reason::NoSuchColumn), "{missing}");
    assert!(missing.to_string().starts_with("table orders: "), "{missing}");
    assert_eq!(count(&to, "customers").await, 0);
    let nowhere = from.copy_rows(&to, CopyRows::of(["customers", "nowhere"])).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Query);
    assert_eq!(count(&to, "customers").await, 0);
    // A trigger of the target's own changes what is written.
    let changes = "CREATE TRIGGER upper AFTER INSERT ON customers WHEN new.id = 4321
        BEGIN UPDATE customers SET name = 'changed' WHERE id = new.id; END";
    to.execute_script(changes).await.unwrap();
    let differs = from.copy_rows(&to, CopyRows::of(["customers"])).await.unwrap_err();
    assert_eq!(differs.reason(), Reason::Damaged, "{differs}");
    assert_eq!(count(&to, "customers").await, 0);
    from.copy_rows(&to, CopyRows::of(["customers"]).compare(false)).await.unwrap();
    assert_eq!(count(&to, "customers").await, 5000);
}

#[tokio::test]
async fn a_copy_that_is_dropped_changes_nothing() {
    let (from, to) = (memory().await, memory().await);
    fill(&from, 9000).await;
    to.execute_script(SCHEMA).await.unwrap();
    let reached = Arc::new(tokio::sync::Notify::new());
    let tell = Arc::clone(&reached);
    tokio::select! {
        biased;
        () = reached.notified() => {}
        done = from.copy_rows(&to, CopyRows::of(["customers", "orders"]).on_progress(move |_| tell.notify_one())) => {
            panic!("it was not stopped: {done:?}")
        }
    }
    assert_eq!(count(&to, "customers").await, 0);
    assert_eq!(
        from.execute("INSERT INTO customers VALUES ($1, $2)", params![-1, "more"]).await.unwrap().rows_affected,
        1
    );
}
