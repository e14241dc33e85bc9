//! tokio-rusqlite: one connection, on a thread of its own; it has no pool.

#[path = "../on_connection.rs"]
mod on_connection;
#[path = "../workloads.rs"]
mod workloads;

use on_connection::OnConnection;
use rusqlite::Connection;
use workloads::Setup;

#[derive(Clone)]
struct TokioRusqlite(tokio_rusqlite::Connection);

impl OnConnection for TokioRusqlite {
    async fn open(setup: Setup) -> Self {
        let db = Self(tokio_rusqlite::Connection::open(&setup.path).await.unwrap());
        db.on(move |db| db.execute_batch(&setup.pragmas())).await;
        db
    }

    async fn on<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> T {
        self.0.call(|db| work(db)).await.unwrap()
    }
}

fn main() {
    workloads::on_tasks::<TokioRusqlite>();
}
