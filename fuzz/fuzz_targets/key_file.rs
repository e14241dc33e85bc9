//! Any bytes as a key file. As a passphrase they come back without one line break at the end and a byte order mark in
//! front, unless they are text of two or four bytes a character, which is refused; as a raw key all spellings of 32 bytes
//! give these bytes and everything else is refused, unseen.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use strongroom::keys::SecretForm;
use strongroom::{ErrorKind, FileKeySource, KeySource, Reason, Result, Secret};
use tokio::runtime::{Builder, Runtime};

#[path = "../scratch.rs"]
mod scratch;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().unwrap());

fuzz_target!(|bytes: &[u8]| {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let line = text.strip_suffix(b"\n").map_or(text, |line| line.strip_suffix(b"\r").unwrap_or(line));
    match read(bytes, false) {
        Ok(secret) => {
            assert!(!is_wide(bytes), "{}", bytes.escape_ascii());
            assert_eq!((secret.expose(), secret.form()), (line, SecretForm::Passphrase));
        }
        Err(Reason::Malformed) => assert!(is_wide(bytes), "{}", bytes.escape_ascii()),
        Err(Reason::Empty) => assert!(line.is_empty()),
        Err(reason) => assert!(bytes.len() > 64 << 10 && reason == Reason::TooLarge, "{reason:?}"),
    }
    let hex = line.len() == 64 && line.iter().all(u8::is_ascii_hexdigit);
    match read(bytes, true) {
        Ok(secret) => {
            assert!(bytes.len() == 32 || hex, "{}", bytes.escape_ascii());
            assert_eq!((secret.expose().len(), secret.form()), (32, SecretForm::RawKey));
            spellings(secret.expose());
        }
        Err(_) => assert!(bytes.len() != 32 && !hex, "{}", bytes.escape_ascii()),
    }
});

/// Whether it is text of two or four bytes a character: by its mark, or because all of it has its zeros where Latin letters
/// have them.
fn is_wide(bytes: &[u8]) -> bool {
    let latin = |zeros: &[bool]| {
        let has_zeros = |unit: &[u8]| unit.iter().map(|byte| *byte == 0).eq(zeros.iter().copied());
        bytes.len() >= 4 && bytes.chunks(zeros.len()).all(has_zeros)
    };
    let marked = matches!(bytes, [0xff, 0xfe, _, 0, ..] | [0xfe, 0xff, 0, ..] | [0, 0, 0xfe, 0xff, ..]);
    marked
        || latin(&[true, false])
        || latin(&[false, true])
        || latin(&[true, true, true, false])
        || latin(&[false, true, true, true])
}

fn read(bytes: &[u8], raw: bool) -> Result<Secret, Reason> {
    let source = FileKeySource::new(scratch::file("key", bytes));
    let source = if raw { source.raw_key() } else { source };
    RUNTIME.block_on(source.resolve()).map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Key, "{error}");
        error.reason()
    })
}

/// All the ways to write one key.
fn spellings(key: &[u8]) {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    for text in [key.to_vec(), hex.to_uppercase().into(), format!("{hex}\n").into(), format!("{hex}\r\n").into(), hex.into()] {
        assert_eq!(read(&text, true).unwrap().expose(), key, "{}", text.escape_ascii());
    }
}
