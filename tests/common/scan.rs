//! Looking for secrets in the memory of a child process.
//!
//! The child is the test program itself, run again; it gets its passphrase masked, so that nothing but the code under
//! test can hold it plainly. It stops at named stages, and the parent reads all memory it can write to.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::Duration;

use pbkdf2::pbkdf2_hmac;
use sha2::Sha512;
use strongroom::keys::{KeyCandidate, async_trait};
use strongroom::pool::NoRetry;
use strongroom::{
    AsyncDatabase, CommandKeySource, DatabaseBuilder, FileKeySource, KeySource, PassphraseKeySource, Result, Secret,
    SqlCipherConnector, apply_cipher_key, rusqlite,
};
use tempfile::TempDir;

const CHILD: &str = "STRONGROOM_TEST_SCAN";
const MASKED: &str = "STRONGROOM_TEST_SCAN_MASKED";
const PASSPHRASE: &str = "qZ8 passphrase that is nowhere else Xv5";
const NEXT: &str = "kW3 passphrase that follows upon it Jb9";
const CONTROL: &str = "qZ8 control that is left behind Xv5";
const MASK: u8 = 0xA5;

type Builder = DatabaseBuilder<SqlCipherConnector>;

/// What is looked for, by name.
struct Needles(Vec<(&'static str, Vec<u8>)>);

impl Needles {
    /// Everything that opens the file at `path`, in the shapes it could have in memory.
    fn of(path: &Path) -> Self {
        let salt = std::fs::read(path).unwrap()[..16].to_vec();
        let (mut key, mut code_key) = ([0; 32], [0; 32]);
        pbkdf2_hmac::<Sha512>(PASSPHRASE.as_bytes(), &salt, 256_000, &mut key);
        let mut new = [0; 32];
        pbkdf2_hmac::<Sha512>(NEXT.as_bytes(), &salt, 256_000, &mut new);
        let code_salt: Vec<u8> = salt.iter().map(|byte| byte ^ 0x3a).collect();
        pbkdf2_hmac::<Sha512>(&key, &code_salt, 2, &mut code_key);
        Self(vec![
            ("passphrase", PASSPHRASE.into()),
            ("passphrase, first half", PASSPHRASE.as_bytes()[..18].into()),
            ("passphrase, second half", PASSPHRASE.as_bytes()[20..].into()),
            ("key", key.into()),
            ("key, first half", key[..16].into()),
            ("key, second half", key[16..].into()),
            ("key of the codes", code_key.into()),
            ("key in hex", hex(&key)[..32].into()),
            ("key in upper-case hex", hex(&key).to_uppercase()[..32].into()),
            ("new passphrase, first half", NEXT.as_bytes()[..18].into()),
            ("new passphrase, second half", NEXT.as_bytes()[20..].into()),
            ("new key, first half", new[..16].into()),
            ("new key, second half", new[16..].into()),
            ("new key in hex", hex(&new)[..32].into()),
            ("control", CONTROL.into()),
        ])
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from_digit(digit.into(), 16).unwrap())
        .collect()
}

/// A child that stands at a stage.
struct Subject(Child, BufReader<std::process::ChildStdout>);

impl Subject {
    fn start(test: &str, directory: &Path) -> Self {
        let masked: Vec<u8> = [PASSPHRASE, CONTROL, NEXT].join("\0").bytes().map(|byte| byte ^ MASK).collect();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(CHILD, directory)
            .env(MASKED, hex(&masked))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self(child, output)
    }

    /// Lets the child go on until its next stage; `None` at its end.
    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.1.read_line(&mut line).unwrap() == 0 {
                assert!(self.0.wait().unwrap().success(), "the child failed");
                return None;
            }
            if let Some((_, stage)) = line.split_once("stage: ") {
                return Some(stage.trim().to_owned());
            }
        }
    }

    fn go_on(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// The names of the needles that the child's memory holds. `None` where the system lets nobody look.
    fn search(&self, needles: &Needles) -> Option<Vec<&'static str>> {
        let memory = File::open(format!("/proc/{}/mem", self.0.id())).ok()?;
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.0.id())).ok()?;
        let mut found = Vec::new();
        for map in maps.lines().filter(|map| map.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
            let (start, end) = map.split_once(' ').unwrap().0.split_once('-').unwrap();
            let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
            let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
            let Ok(read) = memory.read_at(&mut bytes, start) else { continue };
            let held = needles.0.iter().filter(|(_, needle)| memchr::memmem::find(&bytes[..read], needle).is_some());
            found.extend(held.map(|(name, _)| *name));
        }
        found.sort_unstable();
        found.dedup();
        Some(found)
    }
}

/// Runs `test` again as a child and looks into it at every stage. `forgetful`: freed memory may be reused, so only what
/// is found proves something, and the control is found only while it is held.
pub(crate) fn parent_or_child(test: &str) {
    if let Some(directory) = std::env::var_os(CHILD) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(child(directory.into()));
    }
    let directory = TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(prepare(directory.path()));
    let needles = Needles::of(&directory.path().join("a.db"));
    let mut subject = Subject::start(test, directory.path());
    let mut stages = Vec::new();
    while let Some(stage) = subject.next() {
        let Some(found) = subject.search(&needles) else {
            let required = std::env::var_os("STRONGROOM_REQUIRE_PEERS").is_some_and(|value| value == "1");
            assert!(!required, "the memory of a child must be readable here");
            println!("skipped: the memory of a child cannot be read here");
            subject.0.kill().unwrap();
            return;
        };
        stages.push((stage, found));
        subject.go_on();
    }
    judge(&stages);
}

fn judge(stages: &[(String, Vec<&str>)]) {
    println!("{stages:#?}");
    let names: Vec<&str> = stages.iter().map(|(stage, _)| stage.as_str()).collect();
    assert_eq!(
        names,
        [
            "held",
            "open",
            "closed",
            "wrong key",
            "sources",
            "own connection",
            "dropped",
            "making",
            "asked again",
            "settling",
            "changed",
            "over"
        ]
    );
    for (stage, found) in stages {
        // The control was freed without being wiped, or is still there: a search that misses it proves nothing.
        assert!(found.contains(&"control"), "{stage}: the search does not work");
        let rest: Vec<_> = found.iter().filter(|name| **name != "control").collect();
        match stage.as_str() {
            // The secret that the caller holds, and nothing made from it.
            "held" => assert!(rest.iter().all(|name| name.starts_with("passphrase")) && rest.len() == 3, "{rest:?}"),
            // The derived key, which opens further connections, once the passphrase is gone.
            "open" => assert_eq!(rest, [&"key", &"key, first half", &"key, second half"], "while open"),
            "making" => assert_eq!(rest, [&"key", &"key, first half", &"key, second half"], "before the change"),
            // The keys of both, what was given before, and what the source offers meanwhile: the old passphrase, as it was made
            // for this question.
            "asked again" => {
                let whole = ["key", "passphrase"]
                    .map(|name| [name.to_owned(), format!("{name}, first half"), format!("{name}, second half")]);
                let new = ["new key", "new passphrase"]
                    .map(|name| [format!("{name}, first half"), format!("{name}, second half")]);
                let mut expected: Vec<_> =
                    whole.iter().flatten().chain(new.iter().flatten()).map(String::as_str).collect();
                expected.sort_unstable();
                let mut rest: Vec<_> = rest.into_iter().copied().collect();
                rest.sort_unstable();
                assert_eq!(rest, expected, "before the change, once the file is held");
            }
            // Of the new passphrase, what the source has given; the old key is gone.
            "settling" => {
                let halves = ["new key, first half", "new key, second half"];
                let given = ["new passphrase, first half", "new passphrase, second half"];
                assert_eq!(rest, [&halves[..], &given[..]].concat().iter().collect::<Vec<_>>(), "once it is changed");
            }
            "changed" => assert_eq!(rest, [&"new key, first half", &"new key, second half"], "after the change"),
            _ => assert!(rest.is_empty(), "{stage}: {rest:?}"),
        }
    }
}

/// The files that the child opens, made in this process so that the child never created them.
async fn prepare(directory: &Path) {
    let db = builder(directory).key(PassphraseKeySource::new(PASSPHRASE)).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    db.close().await.unwrap();
    // The same salt, and so the same key.
    std::fs::copy(directory.join("a.db"), directory.join("b.db")).unwrap();
    let file = directory.join("passphrase");
    std::fs::write(&file, format!("{PASSPHRASE}\n")).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn builder(directory: &Path) -> Builder {
    AsyncDatabase::builder(directory.join("a.db")).retry(NoRetry).pool_max(4)
}

/// The masked words of the parent; the `index`th of them is unmasked in place, in a buffer that never grows.
fn unmasked(index: usize) -> Vec<u8> {
    let hex = std::env::var(MASKED).unwrap();
    let byte = |at: usize| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap();
    let all = hex.len() / 2;
    let ends: Vec<usize> = (0..all).filter(|at| byte(*at) == MASK).chain([all]).collect();
    let range = index.checked_sub(1).map_or(0, |before| ends[before] + 1)..ends[index];
    let mut word = Vec::with_capacity(range.len());
    word.extend(range.map(|at| byte(at) ^ MASK));
    word
}

fn stage(name: &str) {
    // Its own line, whatever the test harness has printed before.
    println!("\nstage: {name}");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

async fn child(directory: PathBuf) {
    // Stays where it is, and so does a copy that is freed without being wiped.
    let control = unmasked(1);
    drop(control.clone());

    let secret = Secret::new(unmasked(0));
    stage("held");
    let db = builder(&directory).key(PassphraseKeySource::new(secret)).open().await.unwrap();
    use_it(&db).await;
    stage("open");
    db.close().await.unwrap();
    drop(db);
    stage("closed");

    let mut wrong = unmasked(0);
    wrong[7] ^= 1;
    let error = builder(&directory).key(PassphraseKeySource::new(wrong)).cipher_compatibility(3).open().await;
    drop(error.unwrap_err());
    // The right one at the wrong level: found out by diagnosis, which keys several connections.
    let error = builder(&directory).key(PassphraseKeySource::new(unmasked(0))).cipher_compatibility(3).open().await;
    assert!(error.unwrap_err().to_string().contains("the key is right"));
    stage("wrong key");

    let file = directory.join("passphrase");
    let db = builder(&directory).key(FileKeySource::new(&file)).open().await.unwrap();
    use_it(&db).await;
    db.close().await.unwrap();
    let cat = CommandKeySource::new("cat").args([file.to_str().unwrap()]);
    let db = builder(&directory).key(cat).open().await.unwrap();
    db.close().await.unwrap();
    stage("sources");

    let own = rusqlite::Connection::open(directory.join("a.db")).unwrap();
    apply_cipher_key(&own, &Secret::new(unmasked(0))).unwrap();
    assert_eq!(own.query_row("SELECT a FROM t", (), |row| row.get::<_, i64>(0)).unwrap(), 1);
    drop(own);
    stage("own connection");

    let db = builder(&directory).key(PassphraseKeySource::new(unmasked(0))).open().await.unwrap();
    use_it(&db).await;
    drop(db);
    tokio::time::sleep(Duration::from_millis(300)).await;
    stage("dropped");

    let source = Changing::default();
    let db = AsyncDatabase::builder(directory.join("b.db")).key(source.clone()).retry(NoRetry).open().await.unwrap();
    use_it(&db).await;
    db.rekey_fresh(source).await.unwrap();
    use_it(&db).await;
    stage("changed");
    db.close().await.unwrap();
    drop(db);
    stage("over");
    assert!(!control.is_empty());
}

/// Keeps no secret, but knows how to make each; stops before a change of key, and once it was made.
#[derive(Clone, Default)]
struct Changing(Arc<AtomicU8>);

#[async_trait]
impl KeySource for Changing {
    async fn resolve(&self) -> Result<Secret> {
        Ok(Secret::new(unmasked(if self.0.load(SeqCst) == 2 { 2 } else { 0 })))
    }

    fn describe(&self) -> String {
        "the source of a test".into()
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        let offered: &[usize] = [&[0][..], &[0, 2], &[2]][usize::from(self.0.load(SeqCst))];
        let candidate = |word: &usize| KeyCandidate { secret: Secret::new(unmasked(*word)), source: self.describe() };
        Ok(offered.iter().map(candidate).collect())
    }

    async fn replace(&self) -> Result<Secret> {
        stage(if self.0.swap(1, SeqCst) == 0 { "making" } else { "asked again" });
        Ok(Secret::new(unmasked(2)))
    }

    async fn settle(&self, _: &Secret) -> Result<()> {
        stage("settling");
        self.0.store(2, SeqCst);
        Ok(())
    }
}

async fn use_it(db: &AsyncDatabase) {
    let conns = [db.read_connection().await.unwrap(), db.read_connection().await.unwrap()];
    assert_eq!(db.fetch_value::<i64>("SELECT a FROM t", ()).await.unwrap(), Some(1));
    db.execute("UPDATE t SET a = a", ()).await.unwrap();
    drop(conns);
}
