//! Secrets from files.
// Its files are made private on Windows by what makes identities.
#![cfg(any(not(windows), feature = "sops"))]

use std::path::{Path, PathBuf};

use strongroom::keys::SecretForm;
use strongroom::{ErrorKind, FileKeySource, KeySource, Reason};
use tempfile::TempDir;

fn private(directory: &TempDir, content: &[u8]) -> PathBuf {
    let path = directory.path().join("key");
    std::fs::write(&path, content).unwrap();
    set_mode(&path, 0o600);
    path
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(windows)]
#[path = "common/rights.rs"]
mod rights;

#[cfg(windows)]
fn set_mode(path: &Path, _: u32) {
    rights::make_private(path);
}

fn resolve(source: FileKeySource) -> strongroom::Result<strongroom::Secret> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async move { source.resolve().await })
}

fn secret_of(content: &[u8]) -> Vec<u8> {
    let directory = TempDir::new().unwrap();
    resolve(FileKeySource::new(private(&directory, content))).unwrap().expose().to_vec()
}

fn reason_of(source: FileKeySource) -> Reason {
    let error = resolve(source).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key, "{error}");
    error.reason()
}

#[test]
fn one_newline_at_the_end_is_not_part_of_the_secret() {
    assert_eq!(secret_of(b"key"), b"key");
    assert_eq!(secret_of(b"key\n"), b"key");
    assert_eq!(secret_of(b"key\r\n"), b"key");
    assert_eq!(secret_of(b"key\n\n"), b"key\n");
    assert_eq!(secret_of(b"key\r"), b"key\r");
    assert_eq!(secret_of(b" key \n"), b" key ");
    assert_eq!(secret_of(b"two\nlines\n"), b"two\nlines");
    assert_eq!(secret_of(b"\xff\x00\x01"), b"\xff\x00\x01");
}

#[test]
fn a_byte_order_mark_is_not_part_of_the_secret() {
    assert_eq!(secret_of(b"\xef\xbb\xbfkey\r\n"), b"key");
    assert_eq!(secret_of(b"a\xef\xbb\xbf\n"), b"a\xef\xbb\xbf");
    let directory = TempDir::new().unwrap();
    let hex = format!("\u{feff}{}\r\n", "ab".repeat(32));
    let key = resolve(FileKeySource::new(private(&directory, hex.as_bytes())).raw_key()).unwrap();
    assert_eq!(key.form(), SecretForm::RawKey);
    // Exactly 32 bytes are a key as they are.
    let bytes = [b"\xef\xbb\xbf".as_slice(), &[7; 29]].concat();
    let key = resolve(FileKeySource::new(private(&directory, &bytes)).raw_key()).unwrap();
    assert_eq!(key.expose(), bytes);
    assert_eq!(reason_of(FileKeySource::new(private(&directory, b"\xef\xbb\xbf\n"))), Reason::Empty);
}

#[test]
fn utf16_is_said_by_name() {
    let directory = TempDir::new().unwrap();
    for text in ["\u{feff}passphrase\r\n", "passphrase\n"] {
        for unit in [u16::to_le_bytes, u16::to_be_bytes] {
            let bytes: Vec<u8> = text.encode_utf16().flat_map(unit).collect();
            let error = resolve(FileKeySource::new(private(&directory, &bytes))).unwrap_err();
            assert_eq!(error.reason(), Reason::Malformed);
            assert!(error.to_string().contains("holds UTF-16 text; save it as UTF-8"), "{error}");
        }
    }
}

#[test]
fn bytes_that_only_begin_like_utf16_are_a_secret() {
    for bytes in [&b"k\0\0\0\0\x07kk"[..], b"k\0k\0kk", b"\0k\0k\0", b"\0\0\0k\0\0k\0"] {
        assert_eq!(secret_of(bytes), bytes);
    }
}

#[test]
fn a_raw_key_of_another_form_is_malformed() {
    let directory = TempDir::new().unwrap();
    let digits = "0123456789abcdef".repeat(4);
    assert!(resolve(FileKeySource::new(private(&directory, format!("{digits}\r\n").as_bytes())).raw_key()).is_ok());
    for bad in ["", "short", &digits[1..], &format!("{digits}0"), &format!("x{}", &digits[1..]), &"é".repeat(32)] {
        let source = FileKeySource::new(private(&directory, bad.as_bytes())).raw_key();
        assert_eq!(reason_of(source), Reason::Malformed, "{} bytes", bad.len());
    }
}

#[test]
fn a_missing_file_and_an_empty_one_are_different_reasons() {
    let directory = TempDir::new().unwrap();
    assert_eq!(reason_of(FileKeySource::new(directory.path().join("absent"))), Reason::Missing);
    for nothing in [&b""[..], b"\n", b"\r\n"] {
        assert_eq!(reason_of(FileKeySource::new(private(&directory, nothing))), Reason::Empty);
    }
}

#[test]
fn a_directory_is_not_a_key_file() {
    let directory = TempDir::new().unwrap();
    assert_eq!(reason_of(FileKeySource::new(directory.path())), Reason::NotAFile);
}

/// A regular file by its looks whose first page cannot be read.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_fails_while_it_is_read_is_told_apart_and_named() {
    let source = FileKeySource::new("/proc/self/mem");
    assert_eq!(source.describe(), "key file /proc/self/mem");
    let error = resolve(source).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Io));
    assert!(error.to_string().starts_with("key file /proc/self/mem cannot be read"), "{error}");
}

#[test]
fn a_file_larger_than_any_key_is_refused() {
    let directory = TempDir::new().unwrap();
    assert_eq!(secret_of(&vec![b'k'; 64 * 1024]).len(), 64 * 1024);
    assert_eq!(reason_of(FileKeySource::new(private(&directory, &vec![b'k'; 64 * 1024 + 1]))), Reason::TooLarge);
}

#[cfg(unix)]
#[test]
fn a_file_that_others_may_read_is_refused_with_the_way_out() {
    let directory = TempDir::new().unwrap();
    let path = private(&directory, b"hunter2");
    for mode in [0o640, 0o604, 0o660, 0o644, 0o620, 0o601] {
        set_mode(&path, mode);
        let error = resolve(FileKeySource::new(&path)).unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Exposed), "{mode:o}");
        let text = error.to_string();
        assert!(text.contains(&format!("chmod 600 '{}'", path.display())) && !text.contains("hunter2"), "{text}");
    }
    for mode in [0o600, 0o400] {
        set_mode(&path, mode);
        assert!(resolve(FileKeySource::new(&path)).is_ok(), "{mode:o}");
    }
}

/// Opening a pipe without a writer would wait for ever.
#[cfg(unix)]
#[test]
fn a_pipe_is_refused_instead_of_waited_for() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&path).status().unwrap().success());
    assert_eq!(reason_of(FileKeySource::new(path)), Reason::NotAFile);
}

#[cfg(unix)]
#[test]
fn the_mode_that_counts_is_that_of_the_file_behind_a_link() {
    let directory = TempDir::new().unwrap();
    let path = private(&directory, b"key");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(resolve(FileKeySource::new(&link)).unwrap().expose(), b"key");
    set_mode(&path, 0o644);
    assert_eq!(reason_of(FileKeySource::new(&link)), Reason::Exposed);
}

#[test]
fn a_changed_file_is_seen_by_the_next_call_and_no_error_shows_it() {
    let directory = TempDir::new().unwrap();
    let source = FileKeySource::new(private(&directory, b"before"));
    assert_eq!(resolve(source.clone()).unwrap().expose(), b"before");
    private(&directory, b"hunter2 and no hex");
    assert_eq!(resolve(source.clone()).unwrap().expose(), b"hunter2 and no hex");
    let error = resolve(source.clone().raw_key()).unwrap_err();
    assert!(!format!("{error} {error:?} {source:?} {}", source.describe()).contains("hunter2"));
}
