//! What tests ask of the plans of statements.

use crate::connector::QueryPlan;

/// Panics with the whole plan if a statement looks at every row of a table.
///
/// ```should_panic
/// use strongroom::AsyncDatabase;
/// use strongroom::testing::assert_no_full_scan;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let db = AsyncDatabase::builder(":memory:").open().await.unwrap();
/// db.execute_script("CREATE TABLE users (id INTEGER PRIMARY KEY, mail TEXT)").await.unwrap();
/// // There is no index on `mail`.
/// assert_no_full_scan(&db.explain("SELECT id FROM users WHERE mail = $1", ("a@b.c",)).await.unwrap());
/// # }
/// ```
///
/// # Panics
/// That is what it is for.
#[track_caller]
pub fn assert_no_full_scan(plan: &QueryPlan) {
    let scans: Vec<_> = plan.full_scans().map(|step| &*step.detail).collect();
    assert!(scans.is_empty(), "a statement looks at every row: {}\nits plan:\n{plan}", scans.join(", "));
}
