//! Rows stand under the names that their columns have now.
#![cfg(feature = "sqlite")]

mod common;

use common::{Home, Kind, with_table};
use strongroom::sqlcipher::Tuning;

/// Texts that SQLite's library takes for one, or that are rewritten to one.
const SAME: [[&str; 2]; 2] =
    [["SELECT * FROM t", "SELECT * FROM t "], ["SELECT * FROM t WHERE $1 > 0", "SELECT * FROM t WHERE $1 > 0 "]];

#[tokio::test]
async fn a_text_that_was_prepared_anew_by_another_text_has_the_header_of_its_rows() {
    for [one, same] in SAME {
        for change in ["ALTER TABLE t ADD COLUMN m", "ALTER TABLE t RENAME COLUMN n TO other"] {
            let home = Home::new(Kind::PlainFile);
            let tuning = Tuning::default().statement_cache(2).kept_snapshots(false);
            let db = home.builder().pool_max(2).tuning(tuning).open().await.unwrap();
            with_table(&db).await;
            db.execute_script("CREATE TABLE a (a); CREATE TABLE b (b); INSERT INTO t VALUES (1, 2)").await.unwrap();
            let mut reader = db.read_connection().await.unwrap();
            let params = |sql: &str| vec![1_i64; usize::from(sql.contains("$1"))];
            let before = reader.fetch_all(one, params(one)).await.unwrap();
            assert_eq!(before.columns(), ["id", "n"].map(Into::into).as_slice(), "{one}");
            db.execute(change, ()).await.unwrap();
            for other in ["SELECT * FROM a", "SELECT * FROM b"] {
                reader.fetch_all(other, ()).await.unwrap();
            }
            let expected = if change.contains("ADD") { vec!["id", "n", "m"] } else { vec!["id", "other"] };
            for sql in [same, one, same, one] {
                let rows = reader.fetch_all(sql, params(sql)).await.unwrap();
                let columns: Vec<&str> = rows.columns().iter().map(|name| &**name).collect();
                assert_eq!(columns, expected, "{sql:?} after {change}");
                assert_eq!(rows.iter().next().unwrap().len(), expected.len(), "{sql:?} after {change}");
            }
        }
    }
}
