//! rusqlite called directly: `prepare_cached`, autocommit, one thread.

#[path = "../on_connection.rs"]
mod on_connection;
#[path = "../workloads.rs"]
mod workloads;

use std::future::ready;

use on_connection::OnConnection;
use rusqlite::Connection;
use workloads::Setup;

struct Direct(Connection);

impl OnConnection for Direct {
    async fn open(setup: Setup) -> Self {
        let db = Connection::open(&setup.path).unwrap();
        db.execute_batch(&setup.pragmas()).unwrap();
        Self(db)
    }

    fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> impl Future<Output = T> + Send {
        ready(work(&self.0).unwrap())
    }
}

fn main() {
    workloads::on_one_thread::<Direct>();
}
