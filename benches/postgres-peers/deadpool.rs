//! tokio-postgres with deadpool-postgres.

use std::hint::black_box;
use std::pin::pin;

use deadpool_postgres::{Config, Pool, PoolConfig, Runtime};
use futures_util::future::try_join_all;
use tokio_postgres::NoTls;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use crate::{ALL, BULK, COPY, INSERT, POOL, READ, Side, TEXT, Work, common};

#[derive(Clone)]
pub struct Deadpool(Pool);

impl Deadpool {
    pub fn open(port: u16) -> Self {
        let mut config = Config::new();
        config.host = Some("127.0.0.1".into());
        config.port = Some(port);
        config.dbname = Some("postgres".into());
        config.user = Some("app".into());
        config.password = Some(common::PASSWORD.into());
        config.pool = Some(PoolConfig::new(POOL as usize));
        Self(config.create_pool(Some(Runtime::Tokio1), NoTls).unwrap())
    }
}

impl Side for Deadpool {
    async fn once(&self, work: Work, id: i64) {
        let mut client = self.0.get().await.unwrap();
        match work {
            Work::Read => {
                let read = client.prepare_cached(READ).await.unwrap();
                black_box(client.query_one(&read, &[&id]).await.unwrap().get::<_, String>(0));
            }
            Work::Insert => {
                let insert = client.prepare_cached(INSERT).await.unwrap();
                client.execute(&insert, &[&id, &TEXT, &0.5]).await.unwrap();
            }
            Work::Transaction => {
                let transaction = client.transaction().await.unwrap();
                for _ in 0..100 {
                    let insert = transaction.prepare_cached(INSERT).await.unwrap();
                    transaction.execute(&insert, &[&id, &TEXT, &0.5]).await.unwrap();
                }
                transaction.commit().await.unwrap();
            }
            Work::Bulk => {
                let transaction = client.transaction().await.unwrap();
                let insert = &transaction.prepare_cached(INSERT).await.unwrap();
                let transaction_ref = &transaction;
                let all = (0..BULK).map(|a| async move {
                    transaction_ref.execute(insert, &[&a, &TEXT, &(a as f64 / 3.0)]).await
                });
                try_join_all(all).await.unwrap();
                transaction.commit().await.unwrap();
            }
            Work::Copy => {
                let sink = client.copy_in(COPY).await.unwrap();
                let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::INT8, Type::TEXT, Type::FLOAT8]));
                for a in 0..BULK {
                    writer.as_mut().write(&[&a, &TEXT, &(a as f64 / 3.0)]).await.unwrap();
                }
                writer.finish().await.unwrap();
            }
            Work::Fetch => {
                let all = client.prepare_cached(ALL).await.unwrap();
                for row in client.query(&all, &[]).await.unwrap() {
                    let values: (i64, i64, &str, f64) = (row.get(0), row.get(1), row.get(2), row.get(3));
                    black_box(values);
                }
            }
        }
    }
}
