//! r2d2_sqlite in `spawn_blocking`: ten connections, r2d2's default, the pragmas in `with_init`.

#[path = "../on_connection.rs"]
mod on_connection;
#[path = "../workloads.rs"]
mod workloads;

use on_connection::OnConnection;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;
use workloads::{POOL, Setup};

#[derive(Clone)]
struct R2d2(r2d2::Pool<SqliteConnectionManager>);

impl OnConnection for R2d2 {
    async fn open(setup: Setup) -> Self {
        let manager = SqliteConnectionManager::file(&setup.path);
        let manager = manager.with_init(move |db| db.execute_batch(&setup.pragmas()));
        Self(r2d2::Pool::builder().max_size(POOL).build(manager).unwrap())
    }

    async fn on<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> T {
        let pool = self.0.clone();
        tokio::task::spawn_blocking(move || work(&pool.get().unwrap())).await.unwrap().unwrap()
    }
}

fn main() {
    workloads::on_tasks::<R2d2>();
}
