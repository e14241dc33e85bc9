//! What Windows does otherwise: names of files, files that others hold, read-only files, programs and what they start.
#![cfg(all(windows, feature = "sqlcipher"))]

mod common;
#[path = "common/itself.rs"]
mod itself;
#[path = "common/platform_page.rs"]
mod platform_page;

use std::fs::{self, File, OpenOptions};
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use common::{Home, Kind, eventually, key, kinds, secs};
use strongroom::database::BackupOptions;
use strongroom::pool::{NoRetry, SuspendOptions};
use strongroom::sqlcipher::ReplaceOptions;
use strongroom::{AsyncDatabase, CommandKeySource, ErrorKind, KeySource, PassphraseKeySource, Reason, Secret};

fn other() -> PassphraseKeySource {
    PassphraseKeySource::new(Secret::raw_key([8; 32]))
}

/// Opens it so that nobody else can.
fn hold(path: &Path) -> File {
    OpenOptions::new().read(true).share_mode(0).open(path).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names.into_iter().map(|name| name.into_string().unwrap()).collect()
}

async fn sum(db: &AsyncDatabase) -> Option<i64> {
    db.fetch_value("SELECT sum(a) FROM t", ()).await.unwrap()
}

/// Everything that gives the engine a name: made, written, read by those who only read, copied, restored, decrypted.
async fn works_at(path: &Path) {
    let shown = path.display();
    let builder = || AsyncDatabase::builder(path).key(key()).retry(NoRetry);
    let db = builder().open().await.unwrap_or_else(|error| panic!("{shown}: {error}"));
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    let reader = builder().read_only().open().await.unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert_eq!(sum(&reader).await, Some(1), "{shown}: beside the writer");
    reader.close().await.unwrap();
    let copy = path.with_file_name("copy.db");
    db.backup_to(&copy).await.unwrap_or_else(|error| panic!("{shown}: {error}"));
    db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    db.close().await.unwrap();
    let reader = builder().read_only().open().await.unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert_eq!(sum(&reader).await, Some(3), "{shown}: alone");
    reader.close().await.unwrap();
    builder().restore_from(&copy, ReplaceOptions::new()).await.unwrap_or_else(|error| panic!("{shown}: {error}"));
    builder().decrypt(ReplaceOptions::new()).await.unwrap_or_else(|error| panic!("{shown}: {error}"));
    let db = AsyncDatabase::builder(path).open().await.unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert_eq!(sum(&db).await, Some(1), "{shown}: restored");
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_path_may_have_slashes_of_both_kinds_and_letters_of_all_languages() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("Daten (ä ö ü) 数据 %41 #1 'q'");
    fs::create_dir(&inside).unwrap();
    works_at(&inside.join("база.db")).await;
    let forward = directory.path().join("forward");
    fs::create_dir(&forward).unwrap();
    let slashes = forward.join("app.db").to_str().unwrap().replace('\\', "/");
    assert!(slashes.as_bytes()[1] == b':' && !slashes.contains('\\'), "{slashes}");
    works_at(Path::new(&slashes)).await;
    assert_eq!(names(&forward), ["app.db", "copy.db"]);
}

#[tokio::test]
async fn a_path_may_be_longer_than_260_characters_and_longer_than_the_engine_has_room_for() {
    for (names_deep, least) in [(3, 260), (12, 1100)] {
        let directory = tempfile::tempdir().unwrap();
        let mut path = fs::canonicalize(directory.path()).unwrap();
        // As a program names it, without the prefix that `canonicalize` adds.
        path = PathBuf::from(path.to_str().unwrap().trim_start_matches(r"\\?\"));
        (0..names_deep).for_each(|_| path.push("d".repeat(100)));
        fs::create_dir_all(&path).unwrap();
        path.push("app.db");
        assert!(path.as_os_str().len() > least, "{}", path.display());
        works_at(&path).await;
        let prefixed = PathBuf::from(format!(r"\\?\{}", path.display()));
        let db = AsyncDatabase::builder(prefixed).open().await.unwrap();
        assert_eq!(sum(&db).await, Some(1), "the same file by its other name");
        db.close().await.unwrap();
    }
}

/// In `STRONGROOM_TEST_SHARE`, as `\\server\share`.
#[tokio::test]
async fn a_path_may_name_a_share() {
    let Some(share) = std::env::var_os("STRONGROOM_TEST_SHARE") else { return };
    let directory = tempfile::tempdir_in(share).unwrap();
    assert!(directory.path().to_str().unwrap().starts_with(r"\\"), "{}", directory.path().display());
    works_at(&directory.path().join("app.db")).await;
}

/// SQLite shares one index of the log among the connections of a process, and may have opened it for reading only.
#[tokio::test]
async fn a_database_that_the_process_only_reads_is_opened_for_writing_and_written() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (0)").await.unwrap();
        db.close().await.unwrap();
        for round in 0..20_i64 {
            let reader = home.builder().read_only().open().await.unwrap();
            assert_eq!(sum(&reader).await, Some(round), "{kind:?}");
            let closes_before = round % 2 == 0;
            if closes_before {
                reader.close().await.unwrap();
            }
            let writer = home.builder().open().await.unwrap_or_else(|error| panic!("{kind:?}, {round}: {error}"));
            let written = writer.execute("INSERT INTO t VALUES (1)", ()).await;
            written.unwrap_or_else(|error| panic!("{kind:?}, {round}: {error}"));
            if !closes_before {
                assert_eq!(sum(&reader).await, Some(round + 1), "{kind:?}: the reader beside it");
                reader.close().await.unwrap();
            }
            writer.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_file_that_another_program_shares_with_nobody_is_busy_and_opens_once_it_lets_go() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    db.close().await.unwrap();
    let held = hold(&home.path());
    for builder in [home.builder(), home.builder().read_only()] {
        let error = builder.retry(NoRetry).open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        platform_page::says(&error, home.directory.path());
    }
    drop(held);
    let db = home.open().await;
    assert_eq!(sum(&db).await, Some(1));
    db.close().await.unwrap();
}

#[tokio::test]
async fn what_somebody_has_open_is_not_replaced_and_nothing_is_left_beside_it() {
    let home = Home::new(Kind::KeyedFile);
    let copy = home.directory.path().join("copy.db");
    let db = home.open().await;
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    db.backup_to(&copy).await.unwrap();
    // Open for reading alone, and shared: SQLite's locks say nothing of it.
    let reading = OpenOptions::new().read(true).open(&copy).unwrap();
    let error = db.backup_with(&copy, BackupOptions::new().replace(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    platform_page::says(&error, home.directory.path());
    drop(reading);
    db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    db.backup_with(&copy, BackupOptions::new().replace(true)).await.unwrap();
    db.close().await.unwrap();
    let reading = File::open(home.path()).unwrap();
    let error = home.builder().restore_from(&copy, ReplaceOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    platform_page::says(&error, home.directory.path());
    let error = home.builder().decrypt(ReplaceOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    platform_page::says(&error, home.directory.path());
    drop(reading);
    assert_eq!(names(home.directory.path()), ["app.db", "copy.db"]);
    for path in [home.path(), copy] {
        let db = AsyncDatabase::builder(path).key(key()).open().await.unwrap();
        assert_eq!(sum(&db).await, Some(3));
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_file_with_the_attribute_read_only_is_read_and_says_so_when_written() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    db.close().await.unwrap();
    let mut permissions = home.path().metadata().unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(home.path(), permissions.clone()).unwrap();
    let reader = home.builder().read_only().open().await.unwrap();
    assert_eq!(sum(&reader).await, Some(1));
    reader.close().await.unwrap();
    // Under wine the attribute is a mode of Unix, which root need not obey.
    if OpenOptions::new().write(true).open(home.path()).is_err() {
        let error = home.builder().retry(NoRetry).open().await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Connection, Reason::NotWritable), "{error}");
        platform_page::says(&error, home.directory.path());
    }
    #[allow(clippy::permissions_set_readonly_false, reason = "there are no other users' rights in this attribute")]
    permissions.set_readonly(false);
    fs::set_permissions(home.path(), permissions).unwrap();
    let db = home.open().await;
    db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    db.close().await.unwrap();
}

/// Nothing forks there, and no dump leaves a page out.
#[tokio::test]
async fn a_derived_key_lies_on_a_locked_page() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    let protection = strongroom::sqlcipher::key_protection();
    assert!(protection.locked && protection.wiped_on_fork && !protection.excluded_from_dumps, "{protection:?}");
    db.close().await.unwrap();
}

#[tokio::test]
async fn keys_are_made_changed_and_settled_in_files() {
    let home = Home::new(Kind::KeyedFile);
    let file = home.directory.path().join("app.key");
    let source = strongroom::FileKeySource::new(&file).raw_key().create_if_missing(true);
    let db = AsyncDatabase::builder(home.path()).key(source.clone()).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    let first = fs::read(&file).unwrap();
    db.rekey_fresh(source.clone()).await.unwrap();
    assert_ne!(fs::read(&file).unwrap(), first);
    db.rekey(other()).await.unwrap();
    db.close().await.unwrap();
    let error = AsyncDatabase::builder(home.path()).key(source).retry(NoRetry).open().await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Encryption, Reason::WrongKey), "{error}");
    let db = AsyncDatabase::builder(home.path()).key(other()).open().await.unwrap();
    assert_eq!(sum(&db).await, Some(1));
    db.close().await.unwrap();
    assert_eq!(names(home.directory.path()), ["app.db", "app.key"]);
}

/// Programs get the environment of Windows, without which few of them start.
#[tokio::test]
async fn a_command_prints_the_key_and_its_line_ending_is_no_part_of_it() {
    let source = CommandKeySource::new("cmd").args(["/d", "/c", "echo hunter2"]);
    assert_eq!(source.resolve().await.unwrap().expose(), b"hunter2");
    let error = CommandKeySource::new("no-such-password-manager").resolve().await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Key, Reason::ProgramMissing), "{error}");
}

const ROLE: &str = "STRONGROOM_TEST_ROLE";
const FOLDER: &str = "STRONGROOM_TEST_FOLDER";

/// Once it runs, holds a file of its name for as long as it lives.
fn live(role: &str) -> ! {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let path = folder.join(role);
    fs::write(&path, "").unwrap();
    let _held = hold(&path);
    fs::write(folder.join(format!("{role} runs")), "").unwrap();
    loop {
        std::thread::sleep(secs(60));
    }
}

#[cfg(feature = "sops")]
#[tokio::test]
async fn what_a_command_has_started_ends_with_it() {
    const NAME: &str = "what_a_command_has_started_ends_with_it";
    match std::env::var(ROLE).as_deref() {
        Ok("child") => {
            let _started = itself::again(module_path!(), NAME).env(ROLE, "grandchild").spawn().unwrap();
            live("child");
        }
        Ok(_) => live("grandchild"),
        Err(_) => {}
    }
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    // The program gets the environment of this process, in which this must not stand.
    let program = std::env::current_exe().unwrap();
    let lines = [
        "@echo off".to_owned(),
        format!("set {ROLE}=child"),
        format!("set {FOLDER}={}", folder.display()),
        format!("\"{}\" --exact {}", program.display(), itself::name(module_path!(), NAME)),
    ];
    let file = folder.join("start.cmd");
    fs::write(&file, lines.join("\r\n")).unwrap();
    let source = CommandKeySource::new("cmd").args(["/d", "/c"]).args([file]);
    let call = tokio::spawn(async move { source.resolve().await });
    eventually("both run", || ["child runs", "grandchild runs"].iter().all(|mark| folder.join(mark).exists())).await;
    assert!(File::open(folder.join("grandchild")).is_err(), "it holds its file");
    call.abort();
    for role in ["child", "grandchild"] {
        eventually(role, || File::open(folder.join(role)).is_ok()).await;
    }
}

#[tokio::test]
async fn a_database_that_sleeps_has_nothing_open() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().pool_max(3).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(sum(&db).await, Some(1));
    let alone = || OpenOptions::new().read(true).share_mode(0).open(home.path());
    assert!(alone().is_err(), "open, and not noticed");
    db.suspend_with(SuspendOptions::new().until_resumed()).await.unwrap();
    drop(alone().expect("let go of"));
    assert_eq!(names(home.directory.path()), ["app.db"]);
    db.resume();
    assert_eq!(sum(&db).await, Some(1));
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_only_read_makes_nothing_and_refuses_to_write() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    db.close().await.unwrap();
    let before = fs::read(home.path()).unwrap();
    let reader = home.builder().read_only().open().await.unwrap();
    assert_eq!(sum(&reader).await, Some(1));
    assert_eq!(names(home.directory.path()), ["app.db"]);
    let error = reader.execute("INSERT INTO t VALUES (2)", ()).await.unwrap_err();
    assert_eq!(kinds(&error).1, Reason::NotWritable, "{error}");
    // Another one writes, and is seen.
    let db = home.open().await;
    db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    assert_eq!(sum(&reader).await, Some(3));
    db.close().await.unwrap();
    reader.close().await.unwrap();
    assert_ne!(fs::read(home.path()).unwrap(), before);
}
