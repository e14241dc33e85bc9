//! The engines of this crate in a pool of bb8.
#![cfg(all(feature = "bb8", feature = "sqlcipher"))]

mod toy;

use std::sync::atomic::Ordering::SeqCst;

use strongroom::engine::{Access, Bb8Manager, Connection as _, ResourceState, Statement, TransactionMode};
use strongroom::pool::Ping;
use strongroom::{Connector, ErrorKind, PassphraseKeySource, Secret, SqlCipherConnector};
use toy::{Gate, Step, Toys, secs};

async fn pool<C: Connector>(manager: Bb8Manager<C>, size: u32) -> bb8::Pool<Bb8Manager<C>> {
    let builder = bb8::Pool::builder().max_size(size).connection_timeout(secs(10)).retry_connection(false);
    builder.build(manager).await.unwrap()
}

#[tokio::test]
async fn an_encrypted_database_is_written_and_read_through_bb8() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let connector = |byte| SqlCipherConnector::new(&path).key(PassphraseKeySource::new(Secret::raw_key([byte; 32])));
    let writers = pool(Bb8Manager::new(connector(7)), 1).await;
    let mut writer = writers.get().await.unwrap();
    writer.run_script("CREATE TABLE t (n); INSERT INTO t VALUES (1), (2)".into()).await.unwrap();

    let readers = pool(Bb8Manager::new(connector(7)).access(Access::Read), 3).await;
    let mut loans = Vec::new();
    for _ in 0..3 {
        loans.push(readers.get().await.unwrap());
    }
    for reader in &mut loans {
        let rows = reader.run(Statement::new("SELECT n FROM t", ()).unwrap()).await.unwrap();
        assert_eq!(rows.len(), 2);
        reader.run(Statement::new("INSERT INTO t VALUES (3)", ()).unwrap()).await.unwrap_err();
    }

    let wrong = bb8::Pool::builder().max_size(1).min_idle(1).retry_connection(false);
    assert_eq!(wrong.build(Bb8Manager::new(connector(8))).await.unwrap_err().kind(), ErrorKind::Encryption);
}

#[tokio::test]
async fn a_connection_that_comes_back_within_a_transaction_is_replaced() {
    let writers = pool(Bb8Manager::new(SqlCipherConnector::new(":memory:")), 1).await;
    let mut writer = writers.get().await.unwrap();
    writer.run_script("CREATE TABLE t (n)".into()).await.unwrap();
    writer.begin(TransactionMode::WRITE).await.unwrap();
    writer.run(Statement::new("INSERT INTO t VALUES (1)", ()).unwrap()).await.unwrap();
    drop(writer);
    let mut writer = writers.get().await.unwrap();
    assert_eq!(writers.state().statistics.connections_closed_broken, 1);
    writer.begin(TransactionMode::WRITE).await.expect("no transaction is open");
    writer.rollback().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_broke_or_fails_its_check_is_replaced() {
    let toys = Toys::default();
    let pool = pool(Bb8Manager::new(toys.clone()).health(Ping), 1).await;
    assert_eq!(pool.get().await.unwrap().number, 1);
    assert_eq!(pool.get().await.unwrap().number, 1);
    pool.get().await.unwrap().state = ResourceState::Broken;
    assert_eq!(pool.get().await.unwrap().number, 2);
    toys.world.script(Step::Ping, [Gate::Err]);
    assert_eq!(pool.get().await.unwrap().number, 3);
    assert_eq!((toys.world.live(), toys.world.peak.load(SeqCst)), (1, 1));
}
