//! A relative path means one file, whatever becomes of the working directory. Alone in its program: the directory is the
//! process's.
#![cfg(feature = "sqlite")]

use strongroom::AsyncDatabase;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_stays_the_same_file_when_the_process_changes_its_directory() {
    let [one, two] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for directory in [&two, &one] {
        std::env::set_current_dir(directory).unwrap();
        let db = AsyncDatabase::builder("app.db").open().await.unwrap();
        db.execute_script("CREATE TABLE t (a)").await.unwrap();
        db.close().await.unwrap();
    }
    let lazy = AsyncDatabase::builder("./app.db").pool_max(5).build();
    let late = AsyncDatabase::builder("new.db");
    let missing = AsyncDatabase::builder("missing/app.db");
    let memory = AsyncDatabase::builder(":memory:");
    std::env::set_current_dir(&two).unwrap();
    lazy.execute_many("INSERT INTO t VALUES ($1)", (0..2000).map(|n| (n,))).await.unwrap();
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(lazy.read_connection().await.unwrap());
    }
    for reader in &mut readers {
        assert_eq!(reader.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(2000));
    }
    drop(readers);
    assert!(lazy.engine_stats().wal_bytes > 0, "the log of another file was looked at");
    assert!(lazy.close().await.unwrap().is_clean());
    late.open().await.unwrap().close().await.unwrap();
    assert!(one.path().join("new.db").exists() && !two.path().join("new.db").exists());
    let error = missing.open().await.unwrap_err();
    assert_eq!(error.to_string().split(';').next(), Some("cannot open missing/app.db: there is no directory missing"));
    assert!(memory.open().await.unwrap().fetch_value::<i64>("SELECT 1", ()).await.unwrap().is_some());
    let other = AsyncDatabase::builder("app.db").open().await.unwrap();
    assert_eq!(other.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(0));
}
