//! Files go both ways between this crate and independent programs: Python's sqlcipher3 (SQLCipher 4) and Debian's
//! sqlcipher (3.4.1).

#![cfg(feature = "sqlcipher")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use strongroom::pool::NoRetry;
use strongroom::{AsyncDatabase, DatabaseBuilder, PassphraseKeySource, Secret, SqlCipherConnector};
use tempfile::TempDir;

#[path = "common/peers.rs"]
mod peers;

const PASSPHRASE: &str = "it's a \"пароль\"";
const KEY: [u8; 32] = *b"\x00\x01\xfe\xff thirty-two bytes of key....";

/// What each side writes, and the other reads: a row whose text could be mangled.
const TEXT: &str = "naïve 'quoted' \u{1F511}";

fn database(path: &Path, secret: Secret, level: u8) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path).key(PassphraseKeySource::new(secret)).cipher_compatibility(level).retry(NoRetry)
}

async fn write(path: &Path, secret: Secret, level: u8) {
    let db = database(path, secret, level).open().await.unwrap();
    db.execute_script("CREATE TABLE t (text, number, bytes)").await.unwrap();
    db.execute("INSERT INTO t VALUES ($1, $2, $3)", (TEXT, -42, b"\0\xff".as_slice())).await.unwrap();
    db.close().await.unwrap();
}

/// Reads the row that a peer wrote, and adds one for it to find.
async fn read_and_answer(path: &Path, secret: Secret, level: u8) {
    let db = database(path, secret, level).open().await.unwrap();
    let row = db.fetch_one("SELECT text, number, hex(bytes) FROM t", ()).await.unwrap().unwrap();
    assert_eq!(row.get::<String>(0).unwrap(), TEXT);
    assert_eq!((row.get::<i64>(1).unwrap(), row.get::<String>(2).unwrap()), (-42, "00FF".to_owned()));
    let ok: Option<String> = db.fetch_value("PRAGMA integrity_check", ()).await.unwrap();
    assert_eq!(ok.as_deref(), Some("ok"));
    db.execute("INSERT INTO t VALUES ('answered', 1, x'01')", ()).await.unwrap();
    db.close().await.unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from_digit(digit.into(), 16).unwrap())
        .collect()
}

/// The key as a statement of a SQLCipher program takes it.
fn pragma(secret: &str) -> String {
    format!("PRAGMA key = '{}';\n", secret.replace('\'', "''"))
}

fn raw_pragma() -> String {
    format!("PRAGMA key = \"x'{}'\";\n", hex(&KEY))
}

/// Runs SQL in a peer and gives back what it prints, one value a line.
type Run = dyn Fn(&Path, &str) -> String;

fn python() -> Option<Box<Run>> {
    let program = peers::peer("python3")?;
    let script = "import sys\nfrom sqlcipher3 import dbapi2\nc = dbapi2.connect(sys.argv[1], isolation_level=None)\n\
                  for s in sys.stdin.read().split(';\\n'):\n    for row in c.execute(s): print(*row, sep='|')\nc.close()";
    let present = Command::new(&program).args(["-c", "import sqlcipher3"]).stderr(Stdio::null()).status().unwrap();
    if !present.success() {
        let required = std::env::var_os("STRONGROOM_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "Python's sqlcipher3 is required here (pip install sqlcipher3-binary)");
        println!("skipped: Python has no sqlcipher3 (pip install sqlcipher3-binary)");
        return None;
    }
    Some(Box::new(move |path, sql| {
        let mut command = Command::new(&program);
        command.args(["-c", script]).arg(path).env("PYTHONIOENCODING", "utf-8");
        feed(command, sql)
    }))
}

fn debian() -> Option<Box<Run>> {
    let program: PathBuf = peers::peer("sqlcipher")?;
    Some(Box::new(move |path, sql| {
        let mut command = Command::new(&program);
        command.args(["-batch", "-bail"]).arg(path);
        feed(command, sql)
    }))
}

fn feed(mut command: Command, sql: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn peer_writes() -> String {
    let text = TEXT.replace('\'', "''");
    format!("CREATE TABLE t (text, number, bytes);\nINSERT INTO t VALUES ('{text}', -42, x'00ff');\n")
}

const PEER_READS: &str = "SELECT text, number, hex(bytes) FROM t;\nPRAGMA integrity_check;\n";

/// All four ways: we write and they read, they write and we read and answer, with both kinds of key.
async fn both_ways(run: &Run, level: u8) {
    let keys = [(Secret::new(PASSPHRASE), pragma(PASSPHRASE)), (Secret::raw_key(KEY), raw_pragma())];
    for (secret, key) in keys {
        let directory = TempDir::new().unwrap();
        let (ours, theirs) = (directory.path().join("ours.db"), directory.path().join("theirs.db"));
        write(&ours, secret.clone(), level).await;
        let read = run(&ours, &format!("{key}{PEER_READS}"));
        assert!(read.contains(&format!("{TEXT}|-42|00FF\n")) && read.trim_end().ends_with("ok"), "{read}");
        run(&ours, &format!("{key}INSERT INTO t VALUES ('theirs', 2, x'02');\n"));
        let db = database(&ours, secret.clone(), level).open().await.unwrap();
        assert_eq!(db.fetch_value::<i64>("SELECT sum(number) FROM t", ()).await.unwrap(), Some(-40));
        db.close().await.unwrap();

        run(&theirs, &format!("{key}{}", peer_writes()));
        read_and_answer(&theirs, secret, level).await;
        let read = run(&theirs, &format!("{key}{PEER_READS}"));
        assert!(read.contains("answered|1|01\n") && read.trim_end().ends_with("ok"), "{read}");
    }
}

#[tokio::test]
async fn files_go_both_ways_between_us_and_python() {
    let Some(run) = python() else { return };
    both_ways(&*run, 4).await;
    // At an older level too.
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    write(&path, Secret::new(PASSPHRASE), 3).await;
    let read = run(&path, &format!("{}PRAGMA cipher_compatibility = 3;\n{PEER_READS}", pragma(PASSPHRASE)));
    assert!(read.contains(&format!("{TEXT}|-42|00FF\n")), "{read}");
}

#[tokio::test]
async fn files_go_both_ways_between_us_and_debians_sqlcipher_at_its_level() {
    let Some(run) = debian() else { return };
    both_ways(&*run, 3).await;
    // Without the setting the error says which one is missing.
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("theirs.db");
    run(&path, &format!("{}{}", pragma(PASSPHRASE), peer_writes()));
    let error = database(&path, Secret::new(PASSPHRASE), 4).open().await.unwrap_err();
    assert!(error.to_string().contains("call .cipher_compatibility(3) on the builder"), "{error}");
}
