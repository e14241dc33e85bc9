//! The end of a process, and a fork, while a passphrase is derived: nobody is inside libcrypto when its memory goes.
#![cfg(all(feature = "sops", feature = "sqlcipher", unix))]
#![allow(unsafe_code, reason = "there is no other way to be there at the very end, and no safe fork")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use age::secrecy::SecretString;
use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsBackend, SopsFormat, encrypt};
use strongroom::{KeySource, Secret, SopsKeySource};

const FOLDER: &str = "STRONGROOM_TEST_FOLDER";

/// A SOPS file, and its identity in a file that asks for 2^`work` blocks.
fn write(folder: &Path, work: u8) {
    let identity = AgeIdentity::generate();
    let text = encrypt(SopsFormat::Yaml, &[("db_key", &Secret::new("opened"))], &[identity.recipient()]).unwrap();
    fs::write(folder.join("s.yaml"), text).unwrap();
    let mut recipient = age::scrypt::Recipient::new(SecretString::from("pass phrase"));
    recipient.set_work_factor(work);
    fs::write(folder.join("key.age"), age::encrypt(&recipient, identity.secret().expose()).unwrap()).unwrap();
}

fn resolve(folder: &Path) -> Secret {
    let identities = IdentitySources::none().file(folder.join("key.age")).passphrase("pass phrase");
    let source = SopsKeySource::at(folder.join("s.yaml")).identities(identities).backend(SopsBackend::Native);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(source.resolve()).unwrap()
}

const THREADS: usize = 2;

/// Derivations that have ended, and how many there were when the process began to exit.
static ENDED: AtomicUsize = AtomicUsize::new(0);
static BEFORE: AtomicUsize = AtomicUsize::new(0);

/// Runs after libcrypto's own handler, which is registered later: who is inside then meets memory that is freed. Each thread
/// may have been about to end a derivation, and have begun another before the gate was closed.
extern "C" fn linger() {
    for _ in 0..100 {
        if ENDED.load(SeqCst) > BEFORE.load(SeqCst) + 2 * THREADS {
            // SAFETY: ends the process without any handler, since this is one.
            unsafe { libc::_exit(70) };
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The child of the test below; in the parent's own run it does nothing.
#[test]
fn child_that_exits_while_it_derives() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    // SAFETY: a plain function that lives as long as the process.
    assert_eq!(unsafe { libc::atexit(linger) }, 0);
    for _ in 0..THREADS {
        let folder = folder.clone();
        std::thread::spawn(move || {
            loop {
                resolve(Path::new(&folder));
                ENDED.fetch_add(1, SeqCst);
            }
        });
    }
    let enough = fastrand::usize(THREADS..12);
    while ENDED.load(SeqCst) < enough {
        std::thread::sleep(Duration::from_millis(1));
    }
    BEFORE.store(ENDED.load(SeqCst), SeqCst);
    std::process::exit(0);
}

#[test]
fn a_process_that_exits_while_it_derives_has_nobody_there_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 14);
    for run in 0..4 {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_exits_while_it_derives", "--nocapture"])
            .env(FOLDER, folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "run {run}: {:?}: {said}", output.status);
    }
}

/// The threads of the parent that derive are not there in the child, which must not wait for them.
#[test]
fn a_child_of_a_process_that_derives_ends_and_derives_itself() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 17);
    let parent = {
        let folder = folder.path().to_owned();
        std::thread::spawn(move || (0..6).for_each(|_| assert_eq!(resolve(&folder).expose(), b"opened")))
    };
    let mut ends = Vec::new();
    while !parent.is_finished() {
        // SAFETY: the child uses what the C library makes safe to use after a fork, and ends by itself.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let opened = ends.len() != 1 || resolve(folder.path()).expose() == b"opened";
            std::process::exit(i32::from(!opened));
        }
        let mut status = 0;
        // SAFETY: `child` is a child of this process, and `status` lives through the call.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        ends.push(status);
        std::thread::sleep(Duration::from_millis(50));
    }
    parent.join().unwrap();
    // A child that waits for the parent's threads takes longer than all that these do.
    assert!(ends.len() > 3 && ends.iter().all(|end| *end == 0), "{ends:?}");
}
