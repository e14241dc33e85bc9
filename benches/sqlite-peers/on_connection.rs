//! The work as closures on a rusqlite connection, for the libraries that take such.

use std::future::Future;

use rusqlite::Connection;

use crate::workloads::{ALL, INSERT, MANY, Peer, READ, Row, Setup, TEXT, UPDATE};

/// Runs closures on a connection.
pub trait OnConnection: Sized {
    fn open(setup: Setup) -> impl Future<Output = Self> + Send;

    fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> impl Future<Output = T> + Send;
}

impl<P: OnConnection> Peer for P {
    fn open(setup: Setup) -> impl Future<Output = Self> + Send {
        <Self as OnConnection>::open(setup)
    }

    fn script(&self, sql: String) -> impl Future<Output = ()> + Send {
        self.on(move |db| db.execute_batch(&sql))
    }

    fn number(&self, sql: String) -> impl Future<Output = i64> + Send {
        self.on(move |db| db.query_row(&sql, (), |row| row.get(0)))
    }

    fn read(&self, id: i64) -> impl Future<Output = String> + Send {
        self.on(move |db| db.prepare_cached(READ)?.query_row([id], |row| row.get(0)))
    }

    fn insert(&self, a: i64) -> impl Future<Output = ()> + Send {
        self.on(move |db| db.prepare_cached(INSERT)?.execute((a, TEXT)).map(drop))
    }

    fn update(&self, id: i64) -> impl Future<Output = ()> + Send {
        self.on(move |db| db.prepare_cached(UPDATE)?.execute([id]).map(drop))
    }

    fn bulk(&self) -> impl Future<Output = ()> + Send {
        self.on(|db| {
            db.execute_batch("BEGIN IMMEDIATE")?;
            let mut insert = db.prepare_cached(INSERT)?;
            for a in 0..MANY {
                insert.execute((a, TEXT))?;
            }
            db.execute_batch("COMMIT")
        })
    }

    fn fetch(&self) -> impl Future<Output = Vec<Row>> + Send {
        self.on(|db| {
            let mut all = db.prepare_cached(ALL)?;
            let rows = all.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
            rows.collect()
        })
    }
}
