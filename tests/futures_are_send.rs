//! What a program writes first compiles as written, also in a task of its own.
#![cfg(feature = "sqlcipher")]

use std::future::Future;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use strongroom::database::TransactionOptions;
use strongroom::{AsyncDatabase, Result, Transaction};

async fn names() -> Result<AsyncDatabase> {
    let db = AsyncDatabase::builder(":memory:").open().await?;
    db.execute_script("CREATE TABLE names (name TEXT, length INTEGER)").await?;
    Ok(db)
}

async fn count(db: &AsyncDatabase) -> Option<i64> {
    db.fetch_value("SELECT count(*) FROM names", ()).await.unwrap()
}

const INSERT: &str = "INSERT INTO names VALUES ($1, $2)";

fn length(name: &str) -> i64 {
    i64::try_from(name.len()).unwrap_or(0)
}

#[tokio::test]
async fn a_task_inserts_what_a_closure_makes_of_borrowed_items() {
    let db = names().await.unwrap();
    let (list, handle) = (vec!["alice".to_owned(), "bob".to_owned()], db.clone());
    tokio::spawn(async move {
        handle.execute_many(INSERT, list.iter().map(|name| (name, length(name)))).await?;
        handle.execute_many(INSERT, list.iter().filter(|name| name.len() > 3).map(|n| (n.as_str(), 1))).await?;
        handle.execute_many(INSERT, list.iter().flat_map(|name| [(name, 1), (name, 2)])).await?;
        handle.execute_many(INSERT, list.iter().zip(1..).map(|(name, at)| (name, at + 1))).await?;
        handle.execute_many(INSERT, list.chunks(1).map(|chunk| (&chunk[0], 1))).await
    })
    .await
    .unwrap()
    .unwrap();
    assert_eq!(count(&db).await, Some(11));
}

#[tokio::test]
async fn the_same_inside_of_transactions_and_on_a_connection() {
    let db = names().await.unwrap();
    let (list, handle) = (vec!["alice".to_owned(), "bob".to_owned()], db.clone());
    tokio::spawn(async move {
        let set = |name: &str| (name.to_owned(), length(name));
        handle
            .transaction(async |tx| {
                tx.execute_many(INSERT, list.iter().map(|name| set(name))).await?;
                tx.transaction(async |nested| {
                    nested.execute_many(INSERT, list.iter().map(|name| (name, 1))).await?;
                    Ok(())
                })
                .await
            })
            .await?;
        handle
            .transaction_with(TransactionOptions::new(), async |tx| {
                tx.execute_many(INSERT, list.iter().map(|name| (name, 1))).await?;
                Ok(())
            })
            .await?;
        let mut tx = handle.begin().await?;
        tx.execute_many(INSERT, list.iter().map(|name| (name, 1))).await?;
        tx.commit().await?;
        handle.connection().await?.execute_many(INSERT, list.iter().map(|name| (name, 1))).await
    })
    .await
    .unwrap()
    .unwrap();
    assert_eq!(count(&db).await, Some(10));
}

#[tokio::test]
async fn many_at_once_and_from_a_stream() {
    let db = names().await.unwrap();
    let (lists, handle) = (vec![vec!["a", "b"], vec!["c"]], db.clone());
    tokio::spawn(async move {
        let insert = |list: &Vec<&'static str>| {
            let (db, list) = (handle.clone(), list.clone());
            async move { db.execute_many(INSERT, list.iter().map(|name| (*name, 1))).await }
        };
        for outcome in join_all(lists.iter().map(insert)).await {
            outcome?;
        }
        let tasks: Vec<_> = lists.iter().map(insert).collect();
        stream::iter(tasks).buffer_unordered(2).map(|outcome| outcome.map(drop)).collect::<Vec<_>>().await;
        Ok::<_, strongroom::Error>(())
    })
    .await
    .unwrap()
    .unwrap();
    assert_eq!(count(&db).await, Some(6));
}

#[tokio::test]
async fn the_closure_of_transaction_with_needs_no_type() {
    let db = names().await.unwrap();
    let name = "alice".to_owned();
    db.transaction_with(TransactionOptions::new(), async |tx| {
        tx.execute(INSERT, (&name, 1)).await?;
        Ok(())
    })
    .await
    .unwrap();
    db.transaction_with(TransactionOptions::new(), async |tx: &mut Transaction| tx.execute(INSERT, (&name, 1)).await)
        .await
        .unwrap();
    db.transaction_with(TransactionOptions::new(), insert_bob).await.unwrap();
    assert_eq!(count(&db).await, Some(3));
}

#[tokio::test]
async fn a_connection_is_set_up_by_an_async_closure() {
    let db = AsyncDatabase::builder(":memory:")
        .set_up(async |connection| {
            connection.interact(|c| c.pragma_update(None, "cell_size_check", true)).await?;
            Ok(())
        })
        .open()
        .await
        .unwrap();
    assert_eq!(db.fetch_value::<i64>("PRAGMA cell_size_check", ()).await.unwrap(), Some(1));
    // A boxed future will do too.
    let builder = AsyncDatabase::builder(":memory:")
        .on_connect(|connection| Box::pin(async move { connection.interact(|c| c.execute_batch("SELECT 1")).await }));
    builder.open().await.unwrap();
}

#[test]
fn execute_many_promises_send_whatever_is_behind_it() {
    fn promised<'a, I>(
        db: &'a AsyncDatabase,
        sets: I,
    ) -> impl Future<Output = Result<strongroom::engine::Changes>> + Send + 'a
    where
        I: IntoIterator<Item = (i64, i64)>,
        I::IntoIter: Send + 'a,
    {
        db.execute_many(INSERT, sets)
    }
    let db = AsyncDatabase::builder(":memory:").build();
    drop(promised(&db, (0..3).map(|n| (n, n))));
}

async fn insert_bob(tx: &mut Transaction) -> Result<()> {
    tx.execute(INSERT, ("bob", 3)).await.map(drop)
}
