//! This library.

use std::hint::black_box;

use strongroom::values::ValueRef;
use strongroom::postgres::PostgresConnector;
use strongroom::AsyncDatabase;

use crate::{ALL, BULK, INSERT, POOL, READ, Side, TEXT, Work};

#[derive(Clone)]
pub struct Ours(AsyncDatabase<PostgresConnector>);

impl Ours {
    pub async fn open(connector: PostgresConnector) -> Self {
        Self(AsyncDatabase::with_connector(connector).pool_max(POOL).open().await.unwrap())
    }
}

impl Side for Ours {
    async fn once(&self, work: Work, id: i64) {
        let db = &self.0;
        match work {
            Work::Read => {
                black_box(db.fetch_value::<String>(READ, (id,)).await.unwrap());
            }
            Work::Insert => {
                db.execute(INSERT, (id, TEXT, 0.5)).await.unwrap();
            }
            Work::Transaction => {
                let mut transaction = db.begin().await.unwrap();
                for _ in 0..100 {
                    transaction.execute(INSERT, (id, TEXT, 0.5)).await.unwrap();
                }
                transaction.commit().await.unwrap();
            }
            Work::Bulk | Work::Copy => {
                let rows = (0..BULK).map(|a| (a, TEXT, a as f64 / 3.0));
                db.execute_many(INSERT, rows).await.unwrap();
            }
            Work::Fetch => {
                let rows = db.fetch_all(ALL, ()).await.unwrap();
                for row in &rows {
                    let ValueRef::Text(text) = row.value(2).unwrap() else { panic!("a text") };
                    let values: (i64, i64, &str, f64) =
                        (row.get(0).unwrap(), row.get(1).unwrap(), text, row.get(3).unwrap());
                    black_box(values);
                }
            }
        }
    }
}
