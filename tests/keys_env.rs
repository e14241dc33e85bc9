//! Secrets from environment variables. A process cannot change its own environment safely, so each test that needs a
//! variable runs itself again in a child that has it.

use std::process::Command;

use strongroom::{EnvKeySource, ErrorKind, KeySource, Reason};

const VARIABLE: &str = "STRONGROOM_TEST_ENV_KEY";

/// Runs the test `name` in a child with the variable set to `value`; true in the child.
fn in_child_with(name: &str, value: impl AsRef<std::ffi::OsStr>) -> bool {
    if std::env::var_os(VARIABLE).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).args(["--exact", name, "--nocapture"]).env(VARIABLE, value).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

#[tokio::test]
async fn the_value_is_the_secret_to_the_last_byte() {
    if in_child_with("the_value_is_the_secret_to_the_last_byte", " p'ä\\\n") {
        let secret = EnvKeySource::new(VARIABLE).resolve().await.unwrap();
        assert_eq!(secret.expose(), " p'ä\\\n".as_bytes());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_value_that_is_not_utf8_is_taken_as_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let value = std::ffi::OsStr::from_bytes(b"\xff\xfe\x80");
    if in_child_with("a_value_that_is_not_utf8_is_taken_as_bytes", value) {
        assert_eq!(EnvKeySource::new(VARIABLE).resolve().await.unwrap().expose(), b"\xff\xfe\x80");
    }
}

#[tokio::test]
async fn unset_and_empty_are_different_reasons() {
    let unset = EnvKeySource::new("STRONGROOM_TEST_NEVER_SET").resolve().await.unwrap_err();
    assert_eq!((unset.kind(), unset.reason()), (ErrorKind::Key, Reason::Missing));
    assert!(unset.to_string().contains("STRONGROOM_TEST_NEVER_SET is not set"), "{unset}");
    if in_child_with("unset_and_empty_are_different_reasons", "") {
        let empty = EnvKeySource::new(VARIABLE).resolve().await.unwrap_err();
        assert_eq!((empty.kind(), empty.reason()), (ErrorKind::Key, Reason::Empty));
        assert!(empty.to_string().contains("STRONGROOM_TEST_ENV_KEY is empty"), "{empty}");
    }
}

#[tokio::test]
async fn names_that_cannot_be_variables_are_missing_not_a_panic() {
    for name in ["", "A=B", "A\0B"] {
        assert_eq!(EnvKeySource::new(name).resolve().await.unwrap_err().reason(), Reason::Missing);
    }
}

#[tokio::test]
async fn the_variable_is_named_and_its_value_never_shown() {
    if in_child_with("the_variable_is_named_and_its_value_never_shown", "hunter2") {
        let source = EnvKeySource::new(VARIABLE);
        let secret = source.resolve().await.unwrap();
        let shown = format!("{source:?} {} {secret:?}", source.describe());
        assert!(shown.contains(VARIABLE) && !shown.contains("hunter2"), "{shown}");
    }
}
