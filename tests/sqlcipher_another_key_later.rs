//! A file whose key is another one in the middle of a call: what the call had done until then is not called undone.
#![cfg(all(feature = "sqlcipher", unix))]

mod common;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use common::{Home, Kind, count, kinds, with_table};
use strongroom::{AsyncDatabase, Error, ErrorKind, Reason};

const AT: u64 = 1000;

/// Damages the first page, which looks like another key, or mends it.
fn flip(path: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, AT).unwrap();
    file.write_all_at(&[byte[0] ^ 1], AT).unwrap();
}

async fn call(db: &AsyncDatabase, what: &str) -> Error {
    // The first page is read anew after the first row is committed.
    let first = "INSERT INTO t (n) VALUES (1)";
    let then = "PRAGMA shrink_memory; SELECT count(*) FROM t";
    match what {
        "script" => db.execute_script(&format!("{first}; {then}; {first}")).await.unwrap_err(),
        "closure" => {
            let text = format!("{first}; {then}");
            db.connection().await.unwrap().interact(move |c| c.execute_batch(&text)).await.unwrap_err()
        }
        _ => db.execute_script(&format!("{then}; {first}")).await.unwrap_err(),
    }
}

#[tokio::test]
async fn what_was_committed_before_the_key_was_another_one_is_not_called_undone() {
    for (what, rows) in [("script", 1), ("closure", 1), ("nothing", 0)] {
        let home = Home::new(Kind::KeyedFile);
        let db = home.builder().pool_max(1).open().await.unwrap();
        with_table(&db).await;
        db.checkpoint().await.unwrap();
        assert_eq!(count(&db).await, 0);
        db.connection().await.unwrap().execute("UPDATE t SET n = 2", ()).await.unwrap();
        flip(&home.path());
        let error = call(&db, what).await;
        flip(&home.path());
        assert_eq!(kinds(&error), (ErrorKind::Encryption, Reason::WrongKey), "{what}: {error}");
        assert_eq!(error.is_transient(), rows == 0, "{what}: {error}");
        assert_eq!(error.to_string().contains("nothing was done"), rows == 0, "{what}: {error}");
        assert_eq!(count(&db).await, rows, "{what}");
        db.close().await.unwrap();
    }
}
