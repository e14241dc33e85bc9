//! async-sqlite's pool as its README has it: WAL, and as many connections as processors, its default.

#[path = "../on_connection.rs"]
mod on_connection;
#[path = "../workloads.rs"]
mod workloads;

use async_sqlite::{JournalMode, Pool, PoolBuilder};
use on_connection::OnConnection;
use rusqlite::Connection;
use workloads::Setup;

#[derive(Clone)]
struct AsyncSqlite(Pool);

impl OnConnection for AsyncSqlite {
    async fn open(setup: Setup) -> Self {
        let pool = PoolBuilder::new().path(&setup.path).journal_mode(JournalMode::Wal).open().await.unwrap();
        let pragmas = setup.pragmas();
        for result in pool.conn_for_each(move |db| db.execute_batch(&pragmas)).await {
            result.unwrap();
        }
        Self(pool)
    }

    async fn on<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> T {
        self.0.conn(work).await.unwrap()
    }
}

fn main() {
    workloads::on_tasks::<AsyncSqlite>();
}
