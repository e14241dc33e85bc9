//! SOPS files on Windows: what their program is given, that it ends with what it has started, and which file a name means.
#![cfg(all(windows, feature = "sops"))]

mod common;
#[path = "common/itself.rs"]
mod itself;

use std::fs::{self, File, OpenOptions};
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use common::{eventually, kinds, secs};
use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsBackend, SopsFormat, encrypt};
use strongroom::{ErrorKind, KeySource, Reason, Secret, SopsKeySource};

const FOLDER: &str = "STRONGROOM_TEST_FOLDER";

/// A script in place of the `sops` program.
fn stub(folder: &Path, lines: &[String]) -> PathBuf {
    let path = folder.join("stub sops.cmd");
    fs::write(&path, format!("@echo off\r\n{}\r\n", lines.join("\r\n"))).unwrap();
    path
}

fn asked(program: &Path) -> SopsKeySource {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sops");
    SopsKeySource::at(vectors.join("good/base.enc.yaml"))
        .identities(IdentitySources::none())
        .backend(SopsBackend::Binary)
        .program(program)
}

#[tokio::test]
async fn the_program_gets_the_environment_of_windows_the_identities_in_it_and_nothing_else() {
    const NAME: &str = "the_program_gets_the_environment_of_windows_the_identities_in_it_and_nothing_else";
    let directory = tempfile::tempdir().unwrap();
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        let mut again = itself::again(module_path!(), NAME);
        again
            .env(FOLDER, directory.path())
            .env("sops_age_key", "AGE-SECRET-KEY-1STUB")
            .env("STRONGROOM_TEST_OTHER", "1");
        assert!(again.status().unwrap().success());
        return;
    };
    let program = stub(&folder, &[format!("set >\"{}\"", folder.join("env").display()), "echo found".into()]);
    let given = async |source: SopsKeySource| {
        assert_eq!(source.resolve().await.unwrap().expose(), b"found\r\n");
        fs::read_to_string(folder.join("env")).unwrap().to_uppercase()
    };
    assert!(!given(asked(&program)).await.contains("SOPS_AGE_KEY"), "it was told to use none");
    let given = given(asked(&program).identities(IdentitySources::none().env_key(true))).await;
    for wanted in ["SYSTEMROOT=C:", "PATH=C:", "TEMP=", "SOPS_AGE_KEY=AGE-SECRET-KEY-1STUB\r\n", "SOPS_CONFIG=NUL\r\n"]
    {
        assert!(given.lines().any(|line| format!("{line}\r\n").starts_with(wanted)), "{wanted}: {given}");
    }
    assert!(!given.contains("STRONGROOM"), "{given}");
}

#[tokio::test]
async fn a_program_that_gives_no_answer_is_ended_with_what_it_has_started() {
    const NAME: &str = "a_program_that_gives_no_answer_is_ended_with_what_it_has_started";
    if let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) {
        // Holds a file for as long as it lives.
        let _held = OpenOptions::new().write(true).create(true).share_mode(0).open(folder.join("held")).unwrap();
        fs::write(folder.join("runs"), "").unwrap();
        std::thread::sleep(secs(600));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    let itself = std::env::current_exe().unwrap();
    let lines = [
        format!("set {FOLDER}={}", folder.display()),
        format!("\"{}\" --exact {}", itself.display(), itself::name(module_path!(), NAME)),
    ];
    let source = asked(&stub(folder, &lines)).program_timeout(secs(8));
    let call = tokio::spawn(async move { source.resolve().await });
    eventually("it runs", || folder.join("runs").exists()).await;
    assert!(File::open(folder.join("held")).is_err(), "it holds its file");
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Key, Reason::ProgramFailed), "{error}");
    assert!(error.to_string().contains("gave no answer within 8s and was killed"), "{error}");
    eventually("it has ended", || File::open(folder.join("held")).is_ok()).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let error = asked(Path::new("no-such-sops")).resolve().await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Key, Reason::ProgramMissing), "{error}");
    assert!(error.to_string().contains("`no-such-sops` is not installed"), "{error}");
}

/// Editors and `sops` itself write another file and give it the name; a copy keeps the time of its original.
#[tokio::test]
async fn a_file_that_takes_the_name_of_another_is_read_anew_whatever_its_length_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other, keys) = (folder.path().join("s.yaml"), folder.path().join("new"), folder.path().join("keys.txt"));
    let identity = AgeIdentity::generate();
    identity.write(&keys).unwrap();
    for (file, value) in [(&path, "one"), (&other, "two")] {
        let text = encrypt(SopsFormat::Yaml, &[("db_key", &Secret::new(value))], &[identity.recipient()]).unwrap();
        fs::write(file, text).unwrap();
    }
    let source = SopsKeySource::at(&path).identities(IdentitySources::none().file(&keys));
    assert_eq!(source.resolve().await.unwrap().expose(), b"one");
    let (before, found) = (fs::metadata(&path).unwrap(), OpenOptions::new().write(true).open(&other).unwrap());
    found.set_modified(before.modified().unwrap()).unwrap();
    drop(found);
    assert_eq!(fs::metadata(&other).unwrap().len(), before.len());
    fs::rename(&other, &path).unwrap();
    assert_eq!(source.resolve().await.unwrap().expose(), b"two");
}
