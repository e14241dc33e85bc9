//! A salvage on a full or failing disk, given up, killed, or beside somebody who writes: the new file is whole, or not there.
#![cfg(all(feature = "sqlcipher", target_os = "linux", target_env = "gnu"))]

mod common;
#[path = "common/faults.rs"]
mod faults;

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Home, Kind, key, numbers, secs};
use faults::Call;
use strongroom::sqlcipher::SalvageOptions;
use strongroom::{AsyncDatabase, ErrorKind, Reason};

const CHILD: &str = "STRONGROOM_TEST_SALVAGE";
/// After so many reports of progress the child kills itself.
const STEPS: &str = "STRONGROOM_TEST_SALVAGE_STEPS";

/// A database of which one page is damaged.
async fn damaged() -> Home {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    let rows = format!("CREATE TABLE t AS SELECT i, hex(zeroblob(40)) h FROM ({})", numbers(3000));
    db.execute_script(&rows).await.unwrap();
    db.close().await.unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(home.path()).unwrap();
    file.write_all_at(b"damage", 10 * 4096 + 100).unwrap();
    home
}

fn files(home: &Home) -> Vec<String> {
    let names =
        home.directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

async fn rows(path: &Path) -> i64 {
    let db = AsyncDatabase::builder(path).key(key()).create_if_missing(false).open().await.unwrap();
    let rows = common::count(&db).await;
    db.close().await.unwrap();
    rows
}

#[tokio::test]
async fn a_full_or_failing_disk_leaves_nothing_but_what_was_there() {
    let home = damaged().await;
    let target = home.directory.path().join("new.db");
    std::fs::write(&target, "an older copy").unwrap();
    let pattern = home.directory.path().canonicalize().unwrap().join("new.db-copy-*");
    for (call, skip, errno, reason) in [
        (Call::Write, 0, libc::ENOSPC, Reason::DiskFull),
        (Call::Write, 7, libc::ENOSPC, Reason::DiskFull),
        (Call::Sync, 0, libc::EIO, Reason::Io),
        (Call::Open, 0, libc::EACCES, Reason::NotPermitted),
    ] {
        faults::fail(&pattern, call, skip, usize::MAX, errno);
        let error = home.builder().salvage_to(&target, SalvageOptions::new().replace(true)).await.unwrap_err();
        faults::heal(&pattern);
        assert_eq!(error.reason(), reason, "{call:?}: {error}");
        assert_eq!(files(&home), ["app.db", "new.db"], "{call:?}");
        assert_eq!(std::fs::read(&target).unwrap(), b"an older copy", "{call:?}");
    }
}

#[tokio::test]
async fn a_page_that_the_disk_does_not_give_is_lost_and_others_are_not() {
    let home = damaged().await;
    let target = home.directory.path().join("new.db");
    let file = home.path().canonicalize().unwrap();
    // Behind the header and the log's absence: some reads in the middle.
    faults::fail(&file, Call::Read, 20, 1, libc::EIO);
    let report = home.builder().salvage_to(&target, SalvageOptions::new()).await.unwrap();
    faults::heal(&file);
    assert_eq!(report.lost_pages.len(), 2, "{report:?}");
    assert!(rows(&target).await > 2500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_salvage_that_is_given_up_leaves_nothing() {
    let home = damaged().await;
    let target = home.directory.path().join("new.db");
    for steps in [0, 3, 10, 15] {
        let (told, mut here) = tokio::sync::mpsc::unbounded_channel();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let mut left = steps;
        let options = SalvageOptions::new().on_progress(move |_| {
            if left == 0 {
                told.send(()).ok();
                // Goes on once the future is gone, or the test is.
                wait.recv_timeout(secs(20)).ok();
            }
            left -= 1;
        });
        let running = tokio::spawn(home.builder().salvage_to(target.clone(), options));
        tokio::time::timeout(secs(20), here.recv()).await.unwrap().unwrap();
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        go.send(()).unwrap();
        common::eventually("it is gone", || files(&home) == ["app.db"]).await;
    }
    home.builder().salvage_to(&target, SalvageOptions::new()).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_written_meanwhile_is_not_taken_for_salvaged() {
    let home = damaged().await;
    let target = home.directory.path().join("new.db");
    let path = home.path();
    let options = SalvageOptions::new().on_progress(move |_| {
        let file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut &file, &[0; 4096]).unwrap();
    });
    let error = home.builder().salvage_to(&target, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert_eq!(files(&home), ["app.db"]);
}

/// Salvages. Does nothing unless started by the test below.
#[test]
fn the_salvaging_process() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let mut left: u64 = std::env::var(STEPS).unwrap().parse().unwrap();
    let options = SalvageOptions::new().replace(true).on_progress(move |_| {
        if left == 0 {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
        left -= 1;
    });
    let target = Path::new(&path).with_file_name("new.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(AsyncDatabase::builder(&path).key(key()).salvage_to(target, options)).unwrap();
}

#[tokio::test]
async fn killed_at_any_step_the_new_file_is_whole_or_not_there() {
    let home = damaged().await;
    let before = std::fs::read(home.path()).unwrap();
    let target = home.directory.path().join("new.db");
    let mut died = 0;
    for steps in [0, 2, 5, 9, 14, 16, 18, 1000] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "the_salvaging_process", "--nocapture"]).env(CHILD, home.path());
        child.env(STEPS, steps.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let ended_well = child.status().unwrap().success();
        died += usize::from(!ended_well);
        assert_eq!(std::fs::read(home.path()).unwrap(), before, "{steps}");
        assert_eq!(target.exists(), ended_well, "{steps}");
    }
    assert!((3..8).contains(&died), "{died}");
    assert!(rows(&target).await > 2500);
    // What the dead have left is gone.
    assert_eq!(files(&home), ["app.db", "new.db"]);
}
