//! The files that the real program made, as they are and altered.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use strongroom::keys::sops::{IdentitySources, SopsBackend};
use strongroom::{KeySource, Reason, SopsKeySource};

pub(crate) const KEY: &str = "correct horse battery staple";

pub(crate) fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sops")
}

pub(crate) fn text_of(file: &str) -> String {
    fs::read_to_string(vectors().join(file)).unwrap()
}

pub(crate) async fn resolve(file: &Path, path: &str) -> Result<Vec<u8>, Reason> {
    let source = SopsKeySource::new(file, path)
        .identities(IdentitySources::none().file(vectors().join("keys.txt")))
        .backend(SopsBackend::Native);
    source.resolve().await.map(|secret| secret.expose().to_vec()).map_err(|error| error.reason())
}

pub(crate) async fn value(file: &str, path: &str) -> Result<String, Reason> {
    resolve(&vectors().join(file), path).await.map(|value| String::from_utf8(value).unwrap())
}

/// Resolves `path` in a vector after an alteration.
pub(crate) async fn altered(file: &str, path: &str, alter: impl FnOnce(String) -> String) -> Result<String, Reason> {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join(Path::new(file).file_name().unwrap());
    let text = alter(text_of(file));
    assert_ne!(text, text_of(file), "the alteration altered nothing");
    fs::write(&place, text).unwrap();
    resolve(&place, path).await.map(|value| String::from_utf8(value).unwrap())
}

#[allow(clippy::unnecessary_wraps, reason = "what answers are compared with")]
pub(crate) fn ok(text: &str) -> Result<String, Reason> {
    Ok(text.to_owned())
}
