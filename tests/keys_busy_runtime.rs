//! Key sources on a runtime whose threads for blocking work are all taken by those who wait for the key.
// Its files are made private on Windows by what makes identities.
#![cfg(any(not(windows), feature = "sops"))]

#[cfg(windows)]
#[path = "common/rights.rs"]
mod rights;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use strongroom::{FileKeySource, KeySource, Secret};
use tokio::runtime::{Builder, Handle};

/// What `source` gives to a caller who has the runtime's only thread for blocking work.
fn from_the_only_thread(source: impl KeySource + 'static) -> strongroom::Result<Secret> {
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).enable_all().max_blocking_threads(1).build().unwrap();
        let call = runtime.spawn_blocking(move || Handle::current().block_on(source.resolve()));
        sender.send(runtime.block_on(call).unwrap()).ok();
    });
    answer.recv_timeout(Duration::from_secs(30)).expect("the source answers")
}

#[test]
fn a_file_is_read_although_no_thread_of_the_runtime_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, "correct horse\n").unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    #[cfg(windows)]
    rights::make_private(&path);
    assert_eq!(from_the_only_thread(FileKeySource::new(path)).unwrap().expose(), b"correct horse");
}

#[cfg(all(unix, feature = "sops"))]
#[test]
fn a_command_and_a_sops_file_are_read_although_no_thread_of_the_runtime_is_free() {
    use strongroom::{CommandKeySource, Reason, SopsKeySource};

    let command = CommandKeySource::new("printf").args(["correct horse"]);
    assert_eq!(from_the_only_thread(command).unwrap().expose(), b"correct horse");

    let directory = tempfile::tempdir().unwrap();
    let missing = SopsKeySource::new(directory.path().join("missing.yaml"), "key");
    assert_eq!(from_the_only_thread(missing).unwrap_err().reason(), Reason::Missing);
}
