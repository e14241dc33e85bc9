//! Many sets into a table whose rows are for some roles only, which COPY does not support.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use common::{script, server};
use strongroom::{AsyncDatabase, ErrorKind, Reason};

#[tokio::test]
async fn many_sets_are_looked_at_by_the_policies_of_their_table() {
    let Some(server) = server() else { return };
    let mut beside = server.connect().await;
    script(
        &mut beside,
        "CREATE TABLE t (id bigint, of text); ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         CREATE ROLE clerk; GRANT ALL ON t TO clerk;
         CREATE POLICY own ON t USING (of = current_user) WITH CHECK (of = current_user)",
    )
    .await;
    for cached in [256, 0] {
        let clerk = server.connector().setting("role", "clerk").statement_cache(cached);
        let db = AsyncDatabase::with_connector(clerk).pool_max(1).open().await.unwrap();
        let insert = "INSERT INTO t (id, of) VALUES ($1, $2)";
        let own = (0..500).map(|id| (id, "clerk"));
        assert_eq!(db.execute_many(insert, own.clone()).await.unwrap().rows_affected, 500);
        let error = db.execute_many(insert, own.chain([(500, "somebody")])).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Query, Reason::NotPermitted), "{error}");
        let count = db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap();
        assert_eq!(count, Some(500), "nothing is left of what was refused");
        // The superuser passes policies by, and so may its sets.
        let owner = AsyncDatabase::with_connector(server.connector()).pool_max(1).open().await.unwrap();
        let anybody = (0..500).map(|id| (id, "anybody"));
        assert_eq!(owner.execute_many(insert, anybody).await.unwrap().rows_affected, 500);
        assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(500));
        script(&mut beside, "TRUNCATE t").await;
    }
}
