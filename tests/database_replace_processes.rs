//! Processes that are killed while they encrypt, decrypt or restore: the database of before or of after, whole.
//!
//! `STRONGROOM_REPLACE_KILLS` (6 by default) is the number of deaths at random moments, `STRONGROOM_KILL_SEED` replays them.
#![cfg(all(feature = "sqlcipher", unix))]

mod common;
#[path = "common/killed.rs"]
mod killed;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{key, numbers};
use killed::killed;
use strongroom::AsyncDatabase;
use strongroom::database::CheckDepth;
use strongroom::sqlcipher::ReplaceOptions;
use tempfile::TempDir;

const CHILD: &str = "STRONGROOM_TEST_REPLACE";
const WAY: &str = "STRONGROOM_TEST_REPLACE_WAY";
/// After so many reports of progress the child kills itself.
const STEPS: &str = "STRONGROOM_TEST_REPLACE_STEPS";
const WAYS: [&str; 3] = ["encrypt", "decrypt", "restore"];
const ROWS: u64 = 2000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Does nothing unless started by the tests below.
#[test]
fn the_replacing_process() {
    let (Some(path), mut left) = (std::env::var_os(CHILD), number(STEPS, u64::MAX)) else { return };
    let path = Path::new(&path);
    runtime().block_on(async {
        let options = ReplaceOptions::new().check(CheckDepth::Full).on_progress(move |_| {
            if left == 0 {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
            }
            left -= 1;
        });
        let builder = AsyncDatabase::builder(path).key(key());
        let done = match std::env::var(WAY).unwrap().as_str() {
            "encrypt" => builder.encrypt(options).await,
            "decrypt" => builder.decrypt(options).await,
            _ => builder.restore_from(path.with_file_name("copy.db"), options).await,
        };
        done.unwrap();
    });
}

fn child(home: &TempDir, way: &str, steps: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_replacing_process", "--nocapture"]).env(CHILD, home.path().join("app.db"));
    command.env(WAY, way).env(STEPS, steps.to_string());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A database as a killed program leaves it: with a log.
fn home(way: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let made = home.path().join("made.db");
        let builder = AsyncDatabase::builder(&made);
        let db = if way == "encrypt" { builder.open().await } else { builder.key(key()).open().await }.unwrap();
        db.execute_script(&format!("CREATE TABLE t AS SELECT i, hex(i) h FROM ({})", numbers(ROWS))).await.unwrap();
        db.backup_to(home.path().join("copy.db")).await.unwrap();
        db.execute("INSERT INTO t VALUES (0, 'one more')", ()).await.unwrap();
        for end in ["", "-wal"] {
            std::fs::copy(home.path().join(format!("made.db{end}")), home.path().join(format!("app.db{end}"))).unwrap();
        }
        db.close().await.unwrap();
    });
    home
}

/// Which of the two it is. Everything else that may be there is a draft, which the next call removes.
async fn look(home: &TempDir, way: &str, what: &str) -> bool {
    let path = home.path().join("app.db");
    let plain = std::fs::read(&path).unwrap().starts_with(b"SQLite format 3\0");
    let builder = AsyncDatabase::builder(&path);
    let db = if plain { builder.open().await } else { builder.key(key()).open().await };
    let db = db.unwrap_or_else(|error| panic!("{what}: {error}"));
    let rows = u64::try_from(common::count(&db).await).unwrap();
    assert!(db.check(CheckDepth::Full).await.unwrap().is_ok(), "{what}");
    db.close().await.unwrap();
    let after = match way {
        "encrypt" => !plain,
        "decrypt" => plain,
        _ => rows == ROWS,
    };
    assert_eq!(rows, if way == "restore" && after { ROWS } else { ROWS + 1 }, "{what}");
    if !after {
        assert!(child(home, way, u64::MAX).wait().unwrap().success(), "{what}");
    }
    let left = home.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["app.db", "copy.db", "made.db"], "{what}");
    after
}

#[test]
fn a_database_whose_replacing_is_killed_at_any_step_is_that_of_before_or_after() {
    for way in WAYS {
        for step in 0.. {
            let (home, what) = (home(way), format!("{way}, step {step}"));
            let gone = child(&home, way, step).wait().unwrap();
            assert_eq!(runtime().block_on(look(&home, way, &what)), gone.success(), "{what}");
            if gone.success() {
                assert!(step > 4, "{way} has too few steps to tell anything");
                break;
            }
        }
    }
}

#[test]
fn a_database_whose_replacing_is_killed_at_any_moment_is_that_of_before_or_after() {
    let (rounds, seed) = (number("STRONGROOM_REPLACE_KILLS", 6), number("STRONGROOM_KILL_SEED", fastrand::u64(..)));
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut whole, mut found) = (Duration::from_millis(60), 0);
    for round in 0..rounds {
        let (after, way) = (whole.mul_f64(random.f64()), WAYS[random.usize(..3)]);
        let (home, began) = (home(way), Instant::now());
        let mut child = child(&home, way, u64::MAX);
        let gone = killed(&mut child, began, after);
        whole = if gone.success() { whole.mul_f64(0.8) } else { whole.mul_f64(1.1) };
        let what = format!("seed {seed}, round {round}, {way} killed after {after:?}");
        found += u32::from(runtime().block_on(look(&home, way, &what)));
    }
    println!("{found} of {rounds} were done");
}
