//! deadpool-sqlite: a pool of its default size, the pragmas in a `post_create` hook.

#[path = "../on_connection.rs"]
mod on_connection;
#[path = "../workloads.rs"]
mod workloads;

use deadpool_sqlite::{Config, Hook, HookError, Pool, Runtime};
use on_connection::OnConnection;
use rusqlite::Connection;
use workloads::Setup;

#[derive(Clone)]
struct DeadpoolSqlite(Pool);

impl OnConnection for DeadpoolSqlite {
    async fn open(setup: Setup) -> Self {
        let path = setup.path.clone();
        let set = Hook::async_fn(move |db, _| {
            let pragmas = setup.pragmas();
            Box::pin(async move {
                let done = db.interact(move |db| db.execute_batch(&pragmas)).await.unwrap();
                done.map_err(HookError::Backend)
            })
        });
        let builder = Config::new(path).builder(Runtime::Tokio1).unwrap();
        Self(builder.post_create(set).build().unwrap())
    }

    async fn on<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> T {
        let db = self.0.get().await.unwrap();
        db.interact(|db| work(db)).await.unwrap().unwrap()
    }
}

fn main() {
    workloads::on_tasks::<DeadpoolSqlite>();
}
