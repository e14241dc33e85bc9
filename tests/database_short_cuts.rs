//! `STRONGROOM_SHORT_CUTS` switches the engine's short cuts off, for tests alone: the gate runs whole files that way.
//!
//! Each test looks at a program of its own, because the environment is one for a whole process.
#![cfg(feature = "sqlcipher")]

use std::process::Command;

use strongroom::AsyncDatabase;
use strongroom::sqlcipher::{EngineStats, Synchronous, Tuning};

const VARIABLE: &str = "STRONGROOM_SHORT_CUTS";

/// What short reads, short writes and writes side by side have counted, by default.
async fn counted() -> (EngineStats, EngineStats) {
    let home = tempfile::tempdir().unwrap();
    let mut counted = Vec::new();
    for synchronous in [Synchronous::Normal, Synchronous::Full] {
        let file = home.path().join(format!("{synchronous:?}.db"));
        let tuning = Tuning::default().synchronous(synchronous);
        let db = AsyncDatabase::builder(file).tuning(tuning).open().await.unwrap();
        db.execute("CREATE TABLE t (n)", ()).await.unwrap();
        for n in 0..8 {
            db.execute("INSERT INTO t VALUES ($1)", (n,)).await.unwrap();
        }
        let writes = (0..16).map(|n| db.execute("INSERT INTO t VALUES ($1)", (n,)));
        futures_util::future::try_join_all(writes).await.unwrap();
        for _ in 0..8 {
            assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(24));
        }
        counted.push(db.engine_stats());
        db.close().await.unwrap();
    }
    (counted[0], counted[1])
}

/// Runs in the programs that the tests below start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the others"]
async fn what_this_program_does() {
    let (normal, full) = counted().await;
    println!("inline={} kept={} groups={}", normal.inline_runs, normal.snapshot_hits, full.groups);
}

fn told_by(environment: Option<&str>) -> Vec<u64> {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "what_this_program_does", "--ignored", "--nocapture"]).env_remove(VARIABLE);
    program.envs(environment.map(|value| (VARIABLE, value)));
    let said = String::from_utf8(program.output().unwrap().stdout).unwrap();
    let line = said.lines().find_map(|line| line.split_once("inline=")).expect(&said).1;
    line.split(' ').map(|count| count.rsplit('=').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn every_short_cut_is_taken_where_the_environment_says_nothing() {
    let told = told_by(None);
    assert!(told.len() == 3 && told.iter().all(|count| *count > 0), "{told:?}");
}

#[cfg(feature = "testing")]
#[test]
fn none_is_taken_where_the_environment_names_none() {
    assert_eq!(told_by(Some("")), [0, 0, 0]);
}

#[cfg(feature = "testing")]
#[test]
fn those_are_taken_that_the_environment_names() {
    let told = told_by(Some("inline_reads,group_commit"));
    assert!(told[0] > 0 && told[1] == 0 && told[2] > 0, "{told:?}");
}

/// A program that is no test does not heed it. Whoever runs the tests with the variable means the build that does.
#[cfg(not(feature = "testing"))]
#[test]
fn without_the_feature_testing_the_variable_has_no_effect_and_nobody_sets_it() {
    assert!(told_by(Some("")).iter().all(|count| *count > 0));
    assert!(std::env::var_os(VARIABLE).is_none(), "add the feature `testing`");
}
