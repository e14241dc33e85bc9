//! Secrets printed by programs.
#![cfg(unix)]

#[path = "common/itself.rs"]
mod itself;

use std::time::{Duration, Instant};

use strongroom::{CommandKeySource, ErrorKind, KeySource, Reason, Result, Secret};

fn shell(script: &str) -> CommandKeySource {
    CommandKeySource::new("sh").args(["-c", script])
}

async fn reason_of(source: CommandKeySource) -> Reason {
    let error = source.resolve().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key, "{error}");
    error.reason()
}

async fn bytes_of(source: CommandKeySource) -> Vec<u8> {
    let secret: Result<Secret> = source.resolve().await;
    secret.unwrap().expose().to_vec()
}

/// Waits, in real time, until `is_so`: processes know nothing of Tokio's clock.
async fn eventually(mut is_so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if is_so() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn the_output_is_the_secret_without_one_newline() {
    assert_eq!(bytes_of(CommandKeySource::new("printf").args(["key\\n"])).await, b"key");
    assert_eq!(bytes_of(shell("printf 'a\\r\\n'")).await, b"a");
    assert_eq!(bytes_of(shell("printf ' a\\n\\n'")).await, b" a\n");
    assert_eq!(bytes_of(shell("printf 'slow'; sleep 0.1; printf 'ly'")).await, b"slowly");
}

#[tokio::test]
async fn arguments_are_never_interpreted_by_a_shell() {
    let hostile = "$(id) `id` ; echo x | cat > y & \"'";
    assert_eq!(bytes_of(CommandKeySource::new("printf").args(["%s", hostile])).await, hostile.as_bytes());
}

#[tokio::test]
async fn a_program_that_fails_gives_no_secret_even_if_it_printed_one() {
    let source = shell("printf hunter2; printf hunter3 >&2; exit 3");
    let error = source.resolve().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::ProgramFailed));
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("exit status: 3") && !shown.contains("hunter"), "{shown}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let error = CommandKeySource::new("no-such-password-manager").resolve().await.unwrap_err();
    assert_eq!(error.reason(), Reason::ProgramMissing);
    assert!(error.to_string().contains("no-such-password-manager is not installed"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_program_cannot_be_started() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(reason_of(CommandKeySource::new(directory.path())).await, Reason::ProgramFailed);
}

#[tokio::test]
async fn no_output_is_an_empty_key() {
    assert_eq!(reason_of(CommandKeySource::new("true")).await, Reason::Empty);
    assert_eq!(reason_of(CommandKeySource::new("echo")).await, Reason::Empty);
}

#[tokio::test]
async fn endless_output_is_cut_off() {
    assert_eq!(reason_of(CommandKeySource::new("yes")).await, Reason::TooLarge);
}

/// Runs itself again in a child whose own input never ends, for a test's own input may be empty already.
#[tokio::test]
async fn the_program_has_no_input_to_wait_for() {
    const CHILD: &str = "STRONGROOM_TEST_COMMAND_INPUT";
    if std::env::var_os(CHILD).is_some() {
        assert_eq!(reason_of(CommandKeySource::new("cat").timeout(Duration::from_secs(10))).await, Reason::Empty);
        return;
    }
    let mut child = itself::again(module_path!(), "the_program_has_no_input_to_wait_for");
    child.env(CHILD, "1").stdin(std::process::Stdio::piped());
    let mut child = child.spawn().unwrap();
    let input = child.stdin.take();
    assert!(child.wait().unwrap().success(), "the program waited for input");
    drop(input);
}

#[tokio::test]
async fn a_hanging_program_is_killed_when_the_time_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    let script = format!("echo $$ > '{}'; printf half; exec sleep 600", pid_file.display());
    let error = shell(&script).timeout(Duration::from_millis(500)).resolve().await.unwrap_err();
    assert_eq!(error.reason(), Reason::ProgramFailed);
    assert!(error.to_string().contains("no answer within 500ms"), "{error}");
    let pid = std::fs::read_to_string(pid_file).unwrap();
    assert!(eventually(|| !is_running(&pid)).await, "the program outlived its time");
}

#[tokio::test]
async fn a_dropped_call_kills_its_program() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    let source = shell(&format!("echo $$ > '{}'; exec sleep 600", pid_file.display()));
    let call = tokio::spawn(async move { source.resolve().await });
    let pid = || std::fs::read_to_string(&pid_file).unwrap_or_default();
    assert!(eventually(|| pid().ends_with('\n')).await, "the program never started");
    assert!(is_running(&pid()));
    call.abort();
    assert!(eventually(|| !is_running(&pid())).await, "the program outlived its call");
}

fn is_running(pid: &str) -> bool {
    let status =
        std::process::Command::new("kill").args(["-0", pid.trim()]).stderr(std::process::Stdio::null()).status();
    status.unwrap().success()
}

#[test]
fn arguments_are_not_shown() {
    let source = CommandKeySource::new("vault").args(["-token", "hunter2"]);
    let shown = format!("{source:?} {}", source.describe());
    assert!(shown.contains("vault") && !shown.contains("hunter2"), "{shown}");
}
