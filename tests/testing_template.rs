//! Databases for tests: set up once, copied for each.

#![cfg(all(feature = "testing", feature = "sqlcipher"))]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use futures_util::future::try_join_all;
use strongroom::sqlcipher::TemplateDatabase;
use strongroom::{
    AsyncDatabase, DatabaseBuilder, Error, ErrorKind, PassphraseKeySource, Result, Secret, SqlCipherConnector,
};

const SCHEMA: &str = "CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1), (2)";

fn plain(path: PathBuf) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path)
}

fn keyed(path: PathBuf) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path).key(PassphraseKeySource::new(Secret::raw_key([7; 32])))
}

async fn count(db: &AsyncDatabase) -> Result<Option<i64>> {
    db.fetch_value("SELECT count(*) FROM t", ()).await
}

#[tokio::test]
async fn each_copy_has_what_was_set_up_and_nothing_of_the_others() -> Result<()> {
    for opening in [plain, keyed] {
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        let template = TemplateDatabase::new(opening, async move |db| {
            counted.fetch_add(1, SeqCst);
            db.execute_script(SCHEMA).await
        })
        .await?;
        let copies = try_join_all((0..8).map(|_| template.copy())).await?;
        for (at, copy) in (0..).zip(&copies) {
            copy.execute_many("INSERT INTO t VALUES ($1)", (0..at).map(|n| (n,))).await?;
        }
        for (at, copy) in (0..).zip(&copies) {
            assert_eq!(count(copy).await?, Some(2 + at));
            assert_eq!(copy.is_encrypted(), template.copy().await?.is_encrypted());
        }
        assert_eq!(count(&*template.copy().await?).await?, Some(2), "the template is as it was");
        assert_eq!(runs.load(SeqCst), 1);
    }
    Ok(())
}

#[tokio::test]
async fn what_was_made_is_removed_with_the_value() -> Result<()> {
    let template = TemplateDatabase::new(keyed, async |db| db.execute_script(SCHEMA).await).await?;
    let copy = template.copy().await?;
    let folder = copy.path().parent().unwrap().to_owned();
    assert!(copy.path().is_file());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700, "nobody else reads it");
    }
    copy.close().await?;
    drop(copy);
    assert!(!folder.exists());
    Ok(())
}

#[tokio::test]
async fn a_copy_that_is_dropped_in_use_is_removed_too() -> Result<()> {
    let template = TemplateDatabase::new(plain, async |db| db.execute_script(SCHEMA).await).await?;
    let copy = template.copy().await?;
    let (folder, clone) = (copy.path().parent().unwrap().to_owned(), AsyncDatabase::clone(&copy));
    copy.execute("INSERT INTO t VALUES (3)", ()).await?;
    drop(copy);
    if cfg!(unix) {
        assert!(!folder.exists());
    }
    drop(clone);
    Ok(())
}

#[tokio::test]
async fn a_set_up_that_fails_says_so_and_leaves_nothing() {
    let path = Arc::new(std::sync::Mutex::new(PathBuf::new()));
    let seen = Arc::clone(&path);
    let opening = move |path: PathBuf| {
        seen.lock().unwrap().clone_from(&path);
        plain(path)
    };
    let refused = TemplateDatabase::new(opening, async |_| Err(Error::new(ErrorKind::Config, "no such file"))).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
    assert!(!path.lock().unwrap().parent().unwrap().exists());
}
