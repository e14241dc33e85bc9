//! Stores for one test: a Secret Service on a bus of its own, and a session keyring of the kernel that nobody else has.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::env;
use std::fs::{DirBuilder, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::peers::peer;

const CHILD: &str = "STRONGROOM_TEST_KEYRING";

/// The service of all entries here.
pub(crate) const SERVICE: &str = "test.strongroom";

/// Whether this is the process that has a store for itself.
pub(crate) fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Kills a daemon at the end of its test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Runs the test `name` again in a process that has a Secret Service with an unlocked keyring.
pub(crate) fn with_secret_service(name: &str) {
    let (Some(bus), Some(keyring), Some(_)) = (peer("dbus-daemon"), peer("gnome-keyring-daemon"), peer("secret-tool"))
    else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    DirBuilder::new().mode(0o700).create(at("run")).unwrap();
    let places = [("HOME", at("home")), ("XDG_DATA_HOME", at("data")), ("XDG_RUNTIME_DIR", at("run"))];
    let quiet = || File::create(at("log")).map(Stdio::from).unwrap();

    let mut command = Command::new(bus);
    command
        .args(["--session", "--nofork", "--print-address=1"])
        .arg(format!("--address=unix:path={}", at("bus").display()));
    let mut bus = Daemon(command.envs(places.clone()).stdout(Stdio::piped()).stderr(quiet()).spawn().unwrap());
    let mut address = String::new();
    BufReader::new(bus.0.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let address = address.trim();

    let mut command = Command::new(keyring);
    command.args(["--foreground", "--components=secrets", "--unlock"]).envs(places.clone());
    command.env("DBUS_SESSION_BUS_ADDRESS", address).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    let mut daemon = Daemon(command.stdin(Stdio::piped()).stdout(quiet()).stderr(quiet()).spawn().unwrap());
    // The password of the keyring; it begins with the end of its input.
    daemon.0.stdin.take().unwrap().write_all(b"of the keyring").unwrap();

    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", name, "--nocapture"]).envs(places).env("DBUS_SESSION_BUS_ADDRESS", address);
    let given = |address: &str| secret_tool(&["lookup", "service", "none"], "", Some(address)).is_ok();
    let began = Instant::now();
    while !given(address) {
        assert!(began.elapsed() < Duration::from_secs(20), "the Secret Service does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
    succeed(child.env(CHILD, home.path()));
}

/// Runs the test `name` again in a process whose session keyring is new.
pub(crate) fn with_kernel_keyring(name: &str) {
    let Some(keyctl) = peer("keyctl") else { return };
    let allowed = Command::new(&keyctl).args(["session", "-", "true"]).output().unwrap().status.success();
    if !allowed {
        let required = env::var_os("STRONGROOM_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "the kernel must let tests have keyrings here");
        println!("skipped: the kernel gives no keyrings here");
        return;
    }
    let mut child = Command::new(keyctl);
    child.args(["session", "-"]).arg(env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
    succeed(child.env(CHILD, "kernel"));
}

fn succeed(child: &mut Command) {
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "the child ran nothing: {said}");
}

/// Another program over the same Secret Service. An error where it does not answer.
fn secret_tool(args: &[&str], input: &str, address: Option<&str>) -> Result<String, String> {
    let mut command = Command::new("secret-tool");
    if let Some(address) = address {
        command.env("DBUS_SESSION_BUS_ADDRESS", address);
    }
    let mut child =
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.is_empty() { Ok(String::from_utf8(output.stdout).unwrap()) } else { Err(said) }
}

/// What another program finds.
pub(crate) fn lookup(user: &str) -> Option<String> {
    let found = secret_tool(&["lookup", "service", SERVICE, "username", user], "", None).unwrap();
    Some(found).filter(|found| !found.is_empty())
}

/// Another program stores `text`, with an attribute more for each of `more`.
pub(crate) fn store(user: &str, text: &str, more: &[&str]) {
    let names = ["store", "--label=of a test", "service", SERVICE, "username", user];
    secret_tool(&[&names, more].concat(), text, None).unwrap();
}

/// Another program removes what it finds.
pub(crate) fn clear(user: &str) {
    secret_tool(&["clear", "service", SERVICE, "username", user], "", None).unwrap();
}

/// Locks the keyring as the screen saver of a desktop may.
pub(crate) fn lock() {
    let service = "org.freedesktop.Secret.Service.Lock";
    let what = "array:objpath:/org/freedesktop/secrets/collection/login";
    let arguments = ["--session", "--print-reply", "--dest=org.freedesktop.secrets", "/org/freedesktop/secrets"];
    assert!(Command::new("dbus-send").args(arguments).args([service, what]).output().unwrap().status.success());
}

/// Runs the kernel's own program and gives what it prints.
pub(crate) fn keyctl(args: &[&str]) -> String {
    let output = Command::new("keyctl").args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Where a test of the child keeps its database.
pub(crate) fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}
