//! The pages of the derived key: locked, left out of core dumps, empty in a child; and what is told of that is true.
#![cfg(all(feature = "sqlcipher", target_os = "linux"))]
#![allow(unsafe_code, reason = "there is no safe fork, and none that asks what may be locked")]

use std::collections::HashSet;
use std::env;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pbkdf2::pbkdf2_hmac;
use sha2::Sha512;
use strongroom::sqlcipher::key_protection;
use strongroom::{AsyncDatabase, PassphraseKeySource, Secret};
use tempfile::TempDir;

const CHILD: &str = "STRONGROOM_TEST_LOCKED";
const PASSPHRASE: &str = "the passphrase of a test that looks for the key";
const CONTROL: &[u8] = b"held in ordinary memory, as everything else";
const MASK: u8 = 0xA5;

fn masked(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ MASK).collect()
}

/// A copy that nothing but the memory of the process holds.
fn control() -> Vec<u8> {
    let words = masked(&masked(CONTROL));
    std::hint::black_box(&words);
    words
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// A database, and the key that it has.
fn prepared() -> (TempDir, [u8; 32]) {
    let home = TempDir::new().unwrap();
    let path = home.path().join("a.db");
    run(async {
        let db = AsyncDatabase::builder(&path).key(PassphraseKeySource::new(PASSPHRASE)).open().await.unwrap();
        db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
        db.close().await.unwrap();
    });
    let mut key = [0; 32];
    pbkdf2_hmac::<Sha512>(PASSPHRASE.as_bytes(), &std::fs::read(&path).unwrap()[..16], 256_000, &mut key);
    (home, key)
}

async fn open(home: &Path) -> AsyncDatabase {
    let db = AsyncDatabase::builder(home.join("a.db")).key(PassphraseKeySource::new(PASSPHRASE)).open().await.unwrap();
    let lent = [db.read_connection().await.unwrap(), db.read_connection().await.unwrap()];
    assert_eq!(db.fetch_value::<i64>("SELECT a FROM t", ()).await.unwrap(), Some(1));
    drop(lent);
    db
}

/// One mapping of a process: where it is, what it may, and how the kernel treats it.
struct Mapping {
    start: u64,
    end: u64,
    writable: bool,
    flags: Vec<String>,
}

fn mappings(process: u32) -> Vec<Mapping> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps")).unwrap();
    let mut found: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        let (first, rest) = line.split_once(' ').unwrap();
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            found.last_mut().unwrap().flags = flags.split_whitespace().map(str::to_owned).collect();
        } else if let Some((start, end)) = first.split_once('-').filter(|_| !first.contains(':')) {
            let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap());
            found.push(Mapping { start, end, writable: rest.starts_with("rw"), flags: Vec::new() });
        }
    }
    found
}

/// The mappings of a process that hold `needle`.
fn holding(process: u32, needle: &[u8]) -> Vec<Mapping> {
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let holds = |mapping: &Mapping| {
        let mut bytes = vec![0; usize::try_from(mapping.end - mapping.start).unwrap()];
        memory
            .read_at(&mut bytes, mapping.start)
            .is_ok_and(|read| memchr::memmem::find(&bytes[..read], needle).is_some())
    };
    mappings(process).into_iter().filter(|mapping| mapping.writable && holds(mapping)).collect()
}

/// The test `name`, run again as a process that opens the database and waits.
struct Subject(Child, BufReader<std::process::ChildStdout>);

impl Subject {
    fn start(name: &str, home: &Path, prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture"]).env(CHILD, home).stdin(Stdio::piped()).stdout(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self(child, output)
    }

    /// What it says next.
    fn says(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.1.read_line(&mut line).unwrap(), 0, "the child ended");
            if let Some((_, said)) = line.split_once("says: ") {
                return said.trim().to_owned();
            }
        }
    }

    fn go_on(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

/// In the child: tells the parent, and waits for it.
fn say(what: &str) {
    println!("\nsays: {what}");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn home_of_child() -> Option<PathBuf> {
    env::var_os(CHILD).map(PathBuf::from)
}

fn protection() -> [bool; 3] {
    let told = key_protection();
    [told.locked, told.excluded_from_dumps, told.wiped_on_fork]
}

#[test]
fn the_key_stands_only_where_the_kernel_protects_it_and_nowhere_after_closing() {
    const NAME: &str = "the_key_stands_only_where_the_kernel_protects_it_and_nowhere_after_closing";
    if let Some(home) = home_of_child() {
        let control = control();
        return run(async {
            let db = open(&home).await;
            say(&format!("{:?}", protection()));
            db.close().await.unwrap();
            say("closed");
            assert_eq!(control.len(), CONTROL.len());
        });
    }
    let (home, key) = prepared();
    let mut subject = Subject::start(NAME, home.path(), |_| ());
    assert_eq!(subject.says(), "[true, true, true]");
    assert!(!holding(subject.0.id(), CONTROL).is_empty(), "the search does not work");
    for half in [&key[..16], &key[16..]] {
        let found = holding(subject.0.id(), half);
        assert_eq!(found.len(), 1);
        for flag in ["lo", "dd", "wf"] {
            assert!(found[0].flags.iter().any(|one| one == flag), "{flag} is missing in {:?}", found[0].flags);
        }
    }
    subject.go_on();
    assert_eq!(subject.says(), "closed");
    assert!(holding(subject.0.id(), &key[..16]).is_empty() && holding(subject.0.id(), &key[16..]).is_empty());
    subject.go_on();
    assert!(subject.0.wait().unwrap().success());
}

#[test]
fn a_core_dump_of_a_process_with_an_open_database_does_not_hold_the_key() {
    const NAME: &str = "a_core_dump_of_a_process_with_an_open_database_does_not_hold_the_key";
    if let Some(home) = home_of_child() {
        let control = control();
        return run(async {
            let db = open(&home).await;
            assert!(!control.is_empty() && db.is_encrypted());
            std::process::abort();
        });
    }
    let (home, key) = prepared();
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if pattern.trim() != "core" {
        println!("skipped: core dumps go to `{}` here, and not into the working directory", pattern.trim());
        return;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", NAME]).env(CHILD, home.path()).current_dir(home.path()).env("RUST_BACKTRACE", "0");
    // SAFETY: sets a limit of the child, and asks for no memory.
    unsafe { command.pre_exec(|| unlimited_dumps().map_err(std::io::Error::from)) };
    let output = command.output().unwrap();
    assert!(output.status.signal().is_some(), "{output:?}");
    let dump = home
        .path()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core")));
    let dump = std::fs::read(dump.expect("a core dump")).unwrap();
    let holds = |needle: &[u8]| memchr::memmem::find(&dump, needle).is_some();
    assert!(holds(CONTROL), "the dump has what stood in ordinary memory");
    assert!(!holds(&key[..16]) && !holds(&key[16..]), "the dump has the key");
    // SQLCipher's own copy is masked, and its mask stands elsewhere: together they are the key. SECURITY.md says so; where
    // this fails, something has become better.
    assert!(holds_masked(&dump, &key), "SQLCipher's masked copy");
}

/// Whether there are two places that make `key` when one is laid over the other.
fn holds_masked(dump: &[u8], key: &[u8; 32]) -> bool {
    let words = || dump.as_chunks::<8>().0.iter();
    let all: HashSet<&[u8; 8]> = words().filter(|word| **word != [0; 8]).collect();
    words().enumerate().filter(|(_, word)| **word != [0; 8]).any(|(at, word)| {
        let mask: [u8; 8] = std::array::from_fn(|byte| word[byte] ^ key[byte]);
        let Some(masked) = dump.get(at * 8..at * 8 + 32).filter(|_| all.contains(&mask)) else { return false };
        let mask: Vec<u8> = masked.iter().zip(key).map(|(one, other)| one ^ other).collect();
        memchr::memmem::find(dump, &mask).is_some()
    })
}

fn unlimited_dumps() -> rustix::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: maximum, maximum })
}

#[test]
fn the_child_of_a_fork_has_no_key_and_drops_what_it_inherited() {
    const NAME: &str = "the_child_of_a_fork_has_no_key_and_drops_what_it_inherited";
    if let Some(home) = home_of_child() {
        let control = control();
        let db = run(open(&home));
        // SAFETY: the child waits for the parent of both, drops what it has inherited, and ends.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            say(&format!("{} {:?}", std::process::id(), protection()));
            drop(db);
            drop(control);
            // SAFETY: ends the process without running what its parent has registered.
            unsafe { libc::_exit(0) }
        }
        let mut status = 1;
        // SAFETY: waits for the child made above, and writes one number.
        assert_eq!(unsafe { libc::waitpid(forked, &raw mut status, 0) }, forked);
        assert_eq!(status, 0);
        return;
    }
    let (home, key) = prepared();
    let mut subject = Subject::start(NAME, home.path(), |_| ());
    let said = subject.says();
    let (process, told) = said.split_once(' ').unwrap();
    let process = process.parse().unwrap();
    // A page of its own, as locks are not inherited.
    assert_eq!(told, "[true, true, true]");
    assert!(!holding(process, CONTROL).is_empty(), "the search does not work");
    assert!(holding(process, &key[..16]).is_empty() && holding(process, &key[16..]).is_empty());
    assert_eq!(holding(subject.0.id(), &key[..16]).len(), 1);
    subject.go_on();
    assert!(subject.0.wait().unwrap().success());
}

#[test]
fn where_the_system_locks_nothing_that_is_told_and_the_database_opens_all_the_same() {
    const NAME: &str = "where_the_system_locks_nothing_that_is_told_and_the_database_opens_all_the_same";
    if let Some(home) = home_of_child() {
        return run(async {
            let db = open(&home).await;
            say(&format!("{:?}", protection()));
            db.close().await.unwrap();
        });
    }
    let (home, key) = prepared();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(home.path(), everybody).unwrap();
    for file in home.path().read_dir().unwrap() {
        std::fs::set_permissions(file.unwrap().path(), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    }
    let mut subject = Subject::start(NAME, home.path(), |command| {
        // SAFETY: sets a limit of the child, and gives up the right to go beyond it.
        unsafe {
            command.pre_exec(|| {
                use rustix::process::{Resource, Rlimit, setrlimit};
                Ok(setrlimit(Resource::Memlock, Rlimit { current: Some(0), maximum: Some(0) })?)
            });
        }
        if rustix::process::getuid().is_root() {
            command.uid(65534).gid(65534);
        }
    });
    assert_eq!(subject.says(), "[false, true, true]");
    let found = holding(subject.0.id(), &key[..16]);
    assert_eq!(found.len(), 1);
    let has = |flag: &str| found[0].flags.iter().any(|one| one == flag);
    assert_eq!([has("lo"), has("dd"), has("wf")], [false, true, true]);
    subject.go_on();
    assert!(subject.0.wait().unwrap().success());
}

#[test]
fn many_keys_at_a_time_do_not_mix_and_their_places_are_used_again() {
    run(async {
        let home = TempDir::new().unwrap();
        // More than a page has room for.
        let mut open = Vec::new();
        for number in 0..100_u8 {
            let path = home.path().join(format!("{number}.db"));
            let builder = AsyncDatabase::builder(&path).key(Secret::raw_key([number; 32])).pool_max(3);
            let db = builder.open().await.unwrap();
            db.execute_script(&format!("CREATE TABLE t (a); INSERT INTO t VALUES ({number})")).await.unwrap();
            open.push(db);
        }
        for (number, db) in open.iter().enumerate().step_by(2) {
            // Whoever comes second is keyed from what is kept.
            let lent = db.read_connection().await.unwrap();
            assert_eq!(
                db.fetch_value::<i64>("SELECT a FROM t", ()).await.unwrap(),
                Some(i64::try_from(number).unwrap())
            );
            drop(lent);
        }
        for db in open.drain(..) {
            db.close().await.unwrap();
        }
        let bytes = || {
            let all = mappings(std::process::id());
            let wiped = all.iter().filter(|one| one.flags.iter().any(|flag| flag == "wf"));
            wiped.map(|one| one.end - one.start).sum::<u64>()
        };
        let before = bytes();
        assert!(before >= 8192, "{before}");
        for number in 0..100_u8 {
            let path = home.path().join(format!("{number}.db"));
            let db = AsyncDatabase::builder(&path).key(Secret::raw_key([number; 32])).open().await.unwrap();
            assert_eq!(db.fetch_value::<u8>("SELECT a FROM t", ()).await.unwrap(), Some(number));
            open.push(db);
        }
        assert_eq!(bytes(), before);
    });
}
