//! libsql on a local file. It has neither a pool nor a cache of statements, so this program keeps connections with their
//! prepared statements in a list. Its calls never wait for another task, so there are as many as threads of the runtime.

#[path = "../workloads.rs"]
mod workloads;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use libsql::ffi::SQLITE_BUSY;
use libsql::params::IntoParams;
use libsql::{Builder, Connection, Database, Error, Statement, TransactionBehavior};
use workloads::{ALL, INSERT, MANY, Peer, READ, Row, Setup, TEXT, UPDATE};

#[derive(Clone)]
struct Libsql(Arc<Inner>);

struct Inner {
    database: Database,
    setup: Setup,
    idle: Mutex<Vec<Handle>>,
}

struct Handle {
    connection: Connection,
    statements: Option<Statements>,
}

struct Statements {
    read: Statement,
    insert: Statement,
    update: Statement,
    all: Statement,
}

impl Libsql {
    async fn handle(&self) -> Handle {
        let idle = self.0.idle.lock().unwrap().pop();
        if let Some(handle) = idle {
            return handle;
        }
        let connection = self.0.database.connect().unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection.execute_batch(&self.0.setup.pragmas()).await.unwrap();
        Handle { connection, statements: None }
    }

    fn give_back(&self, handle: Handle) {
        self.0.idle.lock().unwrap().push(handle);
    }
}

impl Handle {
    async fn statements(&mut self) -> &mut Statements {
        if self.statements.is_none() {
            let db = &self.connection;
            self.statements = Some(Statements {
                read: db.prepare(READ).await.unwrap(),
                insert: db.prepare(INSERT).await.unwrap(),
                update: db.prepare(UPDATE).await.unwrap(),
                all: db.prepare(ALL).await.unwrap(),
            });
        }
        self.statements.as_mut().unwrap()
    }
}

/// Under load libsql answers "database is locked" without having waited for the busy timeout; the statement is repeated.
async fn write(statement: &Statement, parameters: impl IntoParams + Copy) {
    loop {
        let done = statement.execute(parameters).await;
        statement.reset();
        match done {
            Err(Error::SqliteFailure(SQLITE_BUSY, _)) => {}
            done => return assert_eq!(done.unwrap(), 1),
        }
    }
}

impl Peer for Libsql {
    async fn open(setup: Setup) -> Self {
        let database = Builder::new_local(&setup.path).build().await.unwrap();
        Self(Arc::new(Inner { database, setup, idle: Mutex::default() }))
    }

    async fn script(&self, sql: String) {
        let handle = self.handle().await;
        handle.connection.execute_batch(&sql).await.unwrap();
        self.give_back(handle);
    }

    async fn number(&self, sql: String) -> i64 {
        let handle = self.handle().await;
        let mut rows = handle.connection.query(&sql, ()).await.unwrap();
        let number = rows.next().await.unwrap().unwrap().get(0).unwrap();
        drop(rows);
        self.give_back(handle);
        number
    }

    async fn read(&self, id: i64) -> String {
        let mut handle = self.handle().await;
        let read = &mut handle.statements().await.read;
        let text = read.query_row([id]).await.unwrap().get(0).unwrap();
        read.reset();
        self.give_back(handle);
        text
    }

    async fn insert(&self, a: i64) {
        let mut handle = self.handle().await;
        write(&handle.statements().await.insert, (a, TEXT)).await;
        self.give_back(handle);
    }

    async fn update(&self, id: i64) {
        let mut handle = self.handle().await;
        write(&handle.statements().await.update, [id]).await;
        self.give_back(handle);
    }

    async fn bulk(&self) {
        let mut handle = self.handle().await;
        let transaction = handle.connection.transaction_with_behavior(TransactionBehavior::Immediate).await.unwrap();
        let insert = &handle.statements().await.insert;
        for a in 0..MANY {
            insert.execute((a, TEXT)).await.unwrap();
            insert.reset();
        }
        transaction.commit().await.unwrap();
        self.give_back(handle);
    }

    async fn fetch(&self) -> Vec<Row> {
        let mut handle = self.handle().await;
        let all = &handle.statements().await.all;
        let mut found = all.query(()).await.unwrap();
        let mut rows = Vec::new();
        while let Some(row) = found.next().await.unwrap() {
            rows.push((row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap(), row.get(3).unwrap()));
        }
        all.reset();
        self.give_back(handle);
        rows
    }
}

fn main() {
    workloads::on_tasks::<Libsql>();
}
