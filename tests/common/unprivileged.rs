//! A test that runs once more in a process that is not root.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const CHILD: &str = "STRONGROOM_TEST_UNPRIVILEGED";
const NOBODY: u32 = 65534;

/// Whether this is the process without privileges.
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// The path that the parent has given.
pub(crate) fn here() -> PathBuf {
    std::env::var_os(CHILD).unwrap().into()
}

/// Runs the test `name` again in a process that is not root and is given `path`. False: this is that process.
pub(crate) fn parent(name: &str, path: &Path) -> bool {
    if is_child() {
        return false;
    }
    // A file that grows beyond the limit of its process would end it; ignored, the write fails instead.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(CHILD, path).current_dir("/");
    // Its owner is whoever runs this.
    if path.metadata().unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "the child ran nothing: {said}");
    true
}

pub(crate) fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
