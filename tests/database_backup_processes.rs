//! Processes that are killed while they copy: the copy is whole, or not there.
//!
//! `STRONGROOM_BACKUP_KILLS` (6 by default) is the number of deaths at random moments, `STRONGROOM_KILL_SEED` replays them.
#![cfg(all(feature = "sqlcipher", unix))]

mod common;
#[path = "common/killed.rs"]
mod killed;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Home, Kind, key, numbers};
use killed::killed;
use strongroom::AsyncDatabase;
use strongroom::database::{BackupOptions, CheckDepth};

const CHILD: &str = "STRONGROOM_TEST_BACKUP";
/// After so many reports of progress the child kills itself.
const STEPS: &str = "STRONGROOM_TEST_BACKUP_STEPS";
/// Whether the copy is encrypted.
const PLAIN: &str = "STRONGROOM_TEST_BACKUP_PLAIN";
const ROWS: u64 = 3000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Copies. Does nothing unless started by the tests below.
#[test]
fn the_copying_process() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let (path, mut left, plain) = (Path::new(&path), number(STEPS, u64::MAX), number(PLAIN, 0) == 1);
    runtime().block_on(async {
        let db = AsyncDatabase::builder(path).key(key()).open().await.unwrap();
        let options =
            BackupOptions::new().replace(true).check(CheckDepth::Full).step_pages(16).on_progress(move |_| {
                if left == 0 {
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
                }
                left -= 1;
            });
        let options = if plain { options.plaintext() } else { options };
        db.backup_with(path.with_file_name("copy.db"), options).await.unwrap();
    });
}

fn child(path: &Path, steps: u64, plain: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_copying_process", "--nocapture"]).env(CHILD, path).env(STEPS, steps.to_string());
    command.env(PLAIN, u8::from(plain).to_string()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// That the copy is one or is not there, the original works, and the next copy tidies up.
async fn look(home: &Home, plain: bool, what: &str) -> bool {
    let target = home.directory.path().join("copy.db");
    let there = target.exists();
    if there {
        let builder = AsyncDatabase::builder(&target);
        let copy = if plain { builder.open().await } else { builder.key(key()).open().await };
        let copy = copy.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(common::count(&copy).await, i64::try_from(ROWS).unwrap(), "{what}");
        assert!(copy.check(CheckDepth::Full).await.unwrap().is_ok(), "{what}");
        copy.close().await.unwrap();
    }
    let db = home.open().await;
    assert_eq!(common::count(&db).await, i64::try_from(ROWS).unwrap(), "{what}");
    db.backup_with(&target, BackupOptions::new().replace(true)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    db.close().await.unwrap();
    let left = home.directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().contains("-copy-")).count(), 0, "{what}");
    std::fs::remove_file(target).unwrap();
    there
}

fn home() -> Home {
    let home = Home::new(Kind::KeyedFile);
    runtime().block_on(async {
        let db = home.open().await;
        let rows = format!("CREATE TABLE t AS SELECT i, hex(randomblob(40)) h FROM ({})", numbers(ROWS));
        db.execute_script(&rows).await.unwrap();
        db.close().await.unwrap();
    });
    home
}

#[test]
fn a_copy_that_is_killed_at_any_step_is_whole_or_not_there() {
    let home = home();
    for plain in [false, true] {
        for step in 0.. {
            let gone = child(&home.path(), step, plain).wait().unwrap();
            let there = runtime().block_on(look(&home, plain, &format!("step {step}, plain {plain}")));
            assert_eq!(there, gone.success(), "step {step}, plain {plain}");
            if gone.success() {
                assert!(step > 4, "it has too few steps to tell anything");
                break;
            }
        }
    }
}

#[test]
fn a_copy_that_is_killed_at_any_moment_is_whole_or_not_there() {
    let (rounds, seed) = (number("STRONGROOM_BACKUP_KILLS", 6), number("STRONGROOM_KILL_SEED", fastrand::u64(..)));
    let (mut random, home) = (fastrand::Rng::with_seed(seed), home());
    let (mut whole, mut found) = (Duration::from_millis(60), 0);
    for round in 0..rounds {
        let (after, plain) = (whole.mul_f64(random.f64()), random.bool());
        let began = Instant::now();
        let mut child = child(&home.path(), u64::MAX, plain);
        let gone = killed(&mut child, began, after);
        whole = if gone.success() { whole.mul_f64(0.8) } else { whole.mul_f64(1.1) };
        let what = format!("seed {seed}, round {round}, killed after {after:?}");
        found += u32::from(runtime().block_on(look(&home, plain, &what)));
    }
    println!("{found} of {rounds} copies were whole");
}
