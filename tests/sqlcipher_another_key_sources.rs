//! Another process changes the key of a file, and each kind of source that a configuration names has the new one, or cannot
//! have it: SOPS files that are written over, replaced and encrypted anew, and environment variables, which no other process
//! can change.
#![cfg(all(feature = "sqlcipher", feature = "sops", feature = "config", unix))]
#![allow(unsafe_code, reason = "a program may change its own environment, while no other thread looks at it")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use strongroom::keys::CandidateKeySource;
use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsBackend, SopsFormat, encrypt};
use strongroom::pool::NoRetry;
use strongroom::{
    AsyncDatabase, CachedKeySource, ChainKeySource, DatabaseConfig, EnvKeySource, FileKeySource, KeySource,
    PassphraseKeySource, Secret, SopsKeySource,
};
use tempfile::TempDir;

const HOUR: Duration = Duration::from_secs(3600);

/// A database whose key stands in a SOPS file, and what the process beside does.
struct Home {
    folder: TempDir,
    identity: AgeIdentity,
}

impl Home {
    async fn new() -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap(), identity: AgeIdentity::generate() };
        home.write_sops("of last year");
        let db =
            AsyncDatabase::builder(home.path()).key(PassphraseKeySource::new("of last year")).open().await.unwrap();
        db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES ('row')").await.unwrap();
        db.close().await.unwrap();
        home
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    fn sops(&self) -> PathBuf {
        self.folder.path().join("secrets.yml")
    }

    fn source(&self) -> SopsKeySource {
        let identities = IdentitySources::none().secret(self.identity.secret().clone());
        SopsKeySource::at(self.sops()).identities(identities).backend(SopsBackend::Native)
    }

    fn text(&self, value: &str) -> String {
        encrypt(SopsFormat::Yaml, &[("db_key", &Secret::new(value))], &[self.identity.recipient()]).unwrap()
    }

    fn write_sops(&self, value: &str) {
        std::fs::write(self.sops(), self.text(value)).unwrap();
    }

    /// As another process would.
    async fn rekey(&self, from: &str, to: &str) {
        let db = AsyncDatabase::builder(self.path()).key(PassphraseKeySource::new(from)).open().await.unwrap();
        db.rekey(PassphraseKeySource::new(to)).await.unwrap();
        db.close().await.unwrap();
    }

    async fn open(&self, source: impl KeySource + 'static) -> AsyncDatabase {
        let db = AsyncDatabase::builder(self.path()).key(source).retry(NoRetry).open().await.unwrap();
        assert_eq!(rows(&db).await, Ok(1));
        db
    }
}

async fn rows(db: &AsyncDatabase) -> Result<i64, String> {
    let count = db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await;
    count.map(Option::unwrap).map_err(|error| format!("{:?}: {error}", error.reason()))
}

#[tokio::test]
async fn a_sops_file_that_was_rotated_in_any_way_has_the_new_key_and_callers_notice_nothing() {
    type Kind = fn(&Home) -> Box<dyn KeySource>;
    let kinds: [(&str, Kind); 5] = [
        ("remembered by itself", |home| Box::new(home.source())),
        ("read each time", |home| Box::new(home.source().ttl(Duration::ZERO))),
        ("remembered by another", |home| Box::new(CachedKeySource::new(home.source().ttl(HOUR), HOUR))),
        ("behind a variable that is not set", |home| {
            Box::new(ChainKeySource::new(EnvKeySource::new("STRONGROOM_NO_SUCH_KEY")).or(home.source()))
        }),
        ("first of two", |home| Box::new(CandidateKeySource::new(home.source()).or(PassphraseKeySource::new("other")))),
    ];
    let ways = [("written over", "of this year"), ("replaced", "of next year"), ("by its value", "for ever")];
    for (number, (what, source)) in kinds.into_iter().enumerate() {
        // Each stretching of a passphrase takes its time: the first kind meets all ways, the others one each.
        let ways = if number == 0 { &ways[..] } else { &ways[number % 3..=number % 3] };
        let home = Home::new().await;
        let db = home.open(source(&home)).await;
        let mut old = "of last year";
        for &(way, new) in ways {
            db.suspend().await.unwrap();
            home.rekey(old, new).await;
            match way {
                "written over" => home.write_sops(new),
                "replaced" => {
                    let beside = home.sops().with_extension("new");
                    std::fs::write(&beside, home.text(new)).unwrap();
                    std::fs::rename(beside, home.sops()).unwrap();
                }
                _ => home.source().replace(&Secret::new(new)).await.unwrap(),
            }
            assert_eq!(rows(&db).await, Ok(1), "{what}, {way}");
            assert_eq!(db.stats().total_errors, 0, "{what}, {way}");
            old = new;
        }
    }
}

#[tokio::test]
async fn a_sops_file_without_the_new_key_or_without_an_identity_is_told_by_name_until_it_has_both() {
    let mut home = Home::new().await;
    let db = home.open(CachedKeySource::new(home.source(), HOUR)).await;
    db.suspend().await.unwrap();
    home.rekey("of last year", "of this year").await;
    let told = rows(&db).await.unwrap_err();
    assert!(told.starts_with("WrongKey") && told.contains("secrets.yml"), "{told}");
    assert!(told.contains("does not offer the new one; store the new key there"), "{told}");
    // Encrypted to somebody else, by mistake: that is what is wrong now, and the key is not at fault.
    let mine = std::mem::replace(&mut home.identity, AgeIdentity::generate());
    home.write_sops("of this year");
    let told = rows(&db).await.unwrap_err();
    assert!(
        told.starts_with("Locked") && told.contains("the key of the file was changed by another process"),
        "{told}"
    );
    home.identity = mine;
    home.write_sops("of this year");
    assert_eq!(rows(&db).await, Ok(1));
}

const CHILD: &str = "STRONGROOM_TEST_ENVIRONMENT";
const OLD: &str = "STRONGROOM_TEST_KEY";
const NEW: &str = "STRONGROOM_TEST_KEY_NEW";

/// A process with the database open by a key in its environment, which does what it is told.
struct Beside {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Beside {
    fn start(home: &Home, kind: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_process_with_an_environment", "--nocapture"]).env(CHILD, kind);
        command.env("STRONGROOM_TEST_FILE", home.path()).envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (asks, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut beside = Self { child, asks, answers };
        assert_eq!(beside.told("count"), "Ok(1)", "{kind}");
        beside.told("let go");
        beside
    }

    fn told(&mut self, what: &str) -> String {
        writeln!(self.asks, "{what}").unwrap();
        let lines = self.answers.by_ref().lines().map(Result::unwrap);
        let mut answers = lines.filter_map(|line| Some(line.split_once("ANSWER ")?.1.to_owned()));
        answers.next().expect("the process has ended")
    }

    fn end(mut self) {
        drop(self.asks);
        assert!(self.child.wait().unwrap().success());
    }
}

/// Does nothing unless started by a test.
#[test]
fn the_process_with_an_environment() {
    let (Ok(kind), Some(file)) = (std::env::var(CHILD), std::env::var_os("STRONGROOM_TEST_FILE")) else { return };
    let key_file = PathBuf::from(&file).with_extension("key");
    let settings = PathBuf::from(&file).with_extension("toml");
    let source: Box<dyn KeySource> = match kind.as_str() {
        "settings" => DatabaseConfig::from_file(settings).unwrap().key_source(None).unwrap().unwrap(),
        "alone" => Box::new(EnvKeySource::new(OLD)),
        "remembered" => Box::new(CachedKeySource::new(EnvKeySource::new(OLD), HOUR)),
        "both" => Box::new(CandidateKeySource::new(EnvKeySource::new(NEW)).or(EnvKeySource::new(OLD))),
        "or a file" => Box::new(CandidateKeySource::new(EnvKeySource::new(OLD)).or(FileKeySource::new(key_file))),
        "before a file" => Box::new(ChainKeySource::new(EnvKeySource::new(OLD)).or(FileKeySource::new(key_file))),
        other => panic!("no such kind: {other}"),
    };
    let running = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runtime = running();
    let db = runtime.block_on(AsyncDatabase::builder(file).key(source).retry(NoRetry).open()).unwrap();
    for line in std::io::stdin().lines().map(Result::unwrap) {
        let answer = match line.split_once(' ') {
            Some(("let", _)) => runtime.block_on(db.suspend()).map(|_| String::new()).unwrap(),
            Some(("export", value)) => {
                // With the runtime its threads end, of which one could be at the environment.
                drop(std::mem::replace(&mut runtime, running()));
                // SAFETY: no other thread of this program reads the environment now.
                unsafe { std::env::set_var(OLD, value) };
                String::new()
            }
            _ => format!("{:?}", runtime.block_on(rows(&db))),
        };
        println!("ANSWER {answer}");
    }
}

#[tokio::test]
async fn an_environment_variable_keeps_the_old_key_until_its_own_program_changes_it_or_begins_anew() {
    for kind in ["alone", "remembered"] {
        let home = Home::new().await;
        let mut beside = Beside::start(&home, kind, &[(OLD, "of last year")]);
        home.rekey("of last year", "of this year").await;
        for _ in 0..2 {
            let told = beside.told("count");
            assert!(told.contains("WrongKey") && told.contains("the key of the file was changed"), "{told}");
            assert!(told.contains(&format!("environment variable {OLD}")), "{told}");
            assert!(told.contains("an environment variable changes when the program begins anew"), "{told}");
        }
        beside.told("export of this year");
        assert_eq!(beside.told("count"), "Ok(1)", "{kind}");
        beside.end();
        Beside::start(&home, kind, &[(OLD, "of this year")]).end();
    }
}

#[tokio::test]
async fn a_sops_file_that_the_settings_name_is_read_anew_and_a_variable_is_not() {
    let home = Home::new().await;
    let identity = home.folder.path().join("identity");
    home.identity.write(&identity).unwrap();
    let settings = |place: &str| {
        let text = format!("[db.cipher]\nenabled = true\n{place}\n");
        std::fs::write(home.path().with_extension("toml"), text).unwrap();
    };
    settings(&format!("key_source = \"sops\"\nsops_path = {:?}", home.sops()));
    let mut by_sops = Beside::start(&home, "settings", &[("SOPS_AGE_KEY_FILE", identity.to_str().unwrap())]);
    settings(&format!("key_source = \"env\"\nkey_env = \"{OLD}\""));
    let mut by_variable = Beside::start(&home, "settings", &[(OLD, "of last year")]);
    home.rekey("of last year", "of this year").await;
    home.write_sops("of this year");
    assert_eq!(by_sops.told("count"), "Ok(1)");
    let told = by_variable.told("count");
    assert!(told.contains("WrongKey") && told.contains(&format!("environment variable {OLD}")), "{told}");
    by_sops.end();
    by_variable.end();
}

#[tokio::test]
async fn a_process_that_has_the_new_key_beside_the_old_one_from_its_start_works_on() {
    let home = Home::new().await;
    let mut beside = Beside::start(&home, "both", &[(OLD, "of last year"), (NEW, "of this year")]);
    home.rekey("of last year", "of this year").await;
    assert_eq!(beside.told("count"), "Ok(1)");
    beside.end();

    // A file can change, but a chain asks only the first that has a key.
    for (kind, works) in [("or a file", true), ("before a file", false)] {
        let home = Home::new().await;
        let mut beside = Beside::start(&home, kind, &[(OLD, "of last year")]);
        home.rekey("of last year", "of this year").await;
        let key_file = home.path().with_extension("key");
        std::fs::write(&key_file, "of this year").unwrap();
        std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let told = beside.told("count");
        assert_eq!(told == "Ok(1)", works, "{kind}: {told}");
        assert!(works || told.contains("WrongKey"), "{told}");
        beside.end();
    }
}
