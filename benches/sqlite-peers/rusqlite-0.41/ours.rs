//! This library: its defaults, but up to ten connections and SQLite's default page cache, as everyone here has.

#[path = "../workloads.rs"]
mod workloads;

use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::AsyncDatabase;
use workloads::{ALL, INSERT, MANY, POOL, Peer, READ, Row, Setup, TEXT, UPDATE};

#[derive(Clone)]
struct Ours(AsyncDatabase);

impl Peer for Ours {
    async fn open(setup: Setup) -> Self {
        let synchronous = if setup.synchronous == "FULL" { Synchronous::Full } else { Synchronous::Normal };
        let tuning = Tuning::default().synchronous(synchronous).cache_kib(2000);
        Self(AsyncDatabase::builder(&setup.path).tuning(tuning).pool_max(POOL).open().await.unwrap())
    }

    async fn script(&self, sql: String) {
        self.0.execute_script(&sql).await.unwrap();
    }

    async fn number(&self, sql: String) -> i64 {
        self.0.fetch_value(&sql, ()).await.unwrap().unwrap()
    }

    async fn read(&self, id: i64) -> String {
        self.0.fetch_value(READ, (id,)).await.unwrap().unwrap()
    }

    async fn insert(&self, a: i64) {
        self.0.execute(INSERT, (a, TEXT)).await.unwrap();
    }

    async fn update(&self, id: i64) {
        self.0.execute(UPDATE, (id,)).await.unwrap();
    }

    async fn bulk(&self) {
        self.0.execute_many(INSERT, (0..MANY).map(|a| (a, TEXT))).await.unwrap();
    }

    async fn fetch(&self) -> Vec<Row> {
        self.0.fetch_all_as(ALL, ()).await.unwrap()
    }
}

fn main() {
    workloads::on_tasks::<Ours>();
}
