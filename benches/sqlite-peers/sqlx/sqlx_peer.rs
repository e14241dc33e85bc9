//! sqlx: up to ten connections, its default, not tested before each use; bulk inserts by its `QueryBuilder`.

#[path = "../workloads.rs"]
mod workloads;

use std::time::Duration;

use sqlx::QueryBuilder;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use workloads::{ALL, INSERT, MANY, POOL, Peer, READ, Row, Setup, TEXT, UPDATE};

/// Rows of one statement of a bulk insert: larger ones take longer per row.
const CHUNK: usize = 250;

#[derive(Clone)]
struct Sqlx(SqlitePool);

impl Peer for Sqlx {
    async fn open(setup: Setup) -> Self {
        let full = setup.synchronous == "FULL";
        let options = SqliteConnectOptions::new()
            .filename(&setup.path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(if full { SqliteSynchronous::Full } else { SqliteSynchronous::Normal })
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new().max_connections(POOL).test_before_acquire(false);
        Self(pool.connect_with(options).await.unwrap())
    }

    async fn script(&self, sql: String) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&self.0).await.unwrap();
    }

    async fn number(&self, sql: String) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&self.0).await.unwrap()
    }

    async fn read(&self, id: i64) -> String {
        sqlx::query_scalar(READ).bind(id).fetch_one(&self.0).await.unwrap()
    }

    async fn insert(&self, a: i64) {
        sqlx::query(INSERT).bind(a).bind(TEXT).execute(&self.0).await.unwrap();
    }

    async fn update(&self, id: i64) {
        sqlx::query(UPDATE).bind(id).execute(&self.0).await.unwrap();
    }

    async fn bulk(&self) {
        let mut transaction = self.0.begin_with("BEGIN IMMEDIATE").await.unwrap();
        for first in (0..MANY).step_by(CHUNK) {
            let mut insert = QueryBuilder::new("INSERT INTO log (a, b) ");
            insert.push_values((first..MANY).take(CHUNK), |mut row, a| {
                row.push_bind(a).push_bind(TEXT);
            });
            insert.build().execute(&mut *transaction).await.unwrap();
        }
        transaction.commit().await.unwrap();
    }

    async fn fetch(&self) -> Vec<Row> {
        sqlx::query_as(ALL).fetch_all(&self.0).await.unwrap()
    }
}

fn main() {
    workloads::on_tasks::<Sqlx>();
}
