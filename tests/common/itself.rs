//! This test program, started once more for one of its tests.
#![allow(unreachable_pub, reason = "shared by tests")]

use std::process::Command;

/// Runs `test` of the file whose `module_path!()` is `module`; on other platforms several files are one program.
pub fn again(module: &str, test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &name(module, test), "--nocapture"]);
    command
}

/// What `--exact` calls it.
pub fn name(module: &str, test: &str) -> String {
    module.split_once("::").map_or_else(|| test.to_owned(), |(_, inside)| format!("{inside}::{test}"))
}
