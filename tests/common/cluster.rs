//! A cluster of PostgreSQL: a primary and two standbys, of which one must confirm every commit.
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use strongroom::PassphraseKeySource;
use strongroom::postgres::{PostgresConnector, Tls};

use super::common;

pub struct Cluster {
    pub directory: tempfile::TempDir,
    pub port: u16,
    apart: bool,
}

impl Cluster {
    pub fn start() -> Option<Self> {
        Self::start_as(&[])
    }

    /// Each node in a network namespace of its own, which can be cut off. Needs root.
    pub fn start_apart() -> Option<Self> {
        is_root("cut nodes off").then(|| Self::start_as(&[("APART", "1")]))?
    }

    /// The disk of the primary is a file system of this size. Needs root.
    pub fn start_small(size: &str) -> Option<Self> {
        is_root("mount a small disk").then(|| Self::start_as(&[("SMALL", size)]))?
    }

    fn start_as(how: &[(&str, &str)]) -> Option<Self> {
        if common::programs().is_none() {
            common::skip("PostgreSQL is not installed; apt-get install postgresql-15");
            return None;
        }
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let apart = how.iter().any(|(name, _)| *name == "APART");
        let cluster = Self { directory, port: three_free_ports(), apart };
        cluster.script_with("start", &cluster.port.to_string(), how);
        Some(cluster)
    }

    pub fn script(&self, action: &str, argument: &str) -> String {
        self.script_with(action, argument, &[])
    }

    fn script_with(&self, action: &str, argument: &str, how: &[(&str, &str)]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/postgres-cluster");
        let mut command = Command::new(script);
        command.arg(action).arg(self.directory.path()).arg(argument).envs(how.iter().copied());
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "postgres-cluster {action} {argument}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub fn connector(&self) -> PostgresConnector {
        let [first, second] = self.port.to_be_bytes();
        let host = |node: u16| {
            if self.apart { format!("10.{first}.{second}.1{node}") } else { "127.0.0.1".to_owned() }
        };
        PostgresConnector::new(host(0), self.port)
            .host(host(1), self.port + 1)
            .host(host(2), self.port + 2)
            .database("postgres")
            .user("app")
            .key(PassphraseKeySource::new("cluster"))
            .tls(Tls::off())
            .connect_timeout(Duration::from_secs(2))
    }

    pub fn primary(&self) -> String {
        let status = self.script("status", "");
        let line = status.lines().find(|line| line.contains("primary")).expect("a primary");
        line.split_once(' ').expect("a name").0.to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.script("stop", "");
    }
}

fn three_free_ports() -> u16 {
    let bind = |port| TcpListener::bind(("127.0.0.1", port));
    (0..100)
        .find_map(|_| {
            let first = bind(0).ok()?.local_addr().ok()?.port();
            (1..3).all(|step| first.checked_add(step).is_some_and(|port| bind(port).is_ok())).then_some(first)
        })
        .expect("three ports in a row")
}

/// Root of a container may have neither right.
fn is_root(to: &str) -> bool {
    let tried = Command::new("unshare").args(["--net", "--mount", "true"]).output();
    let root = tried.is_ok_and(|tried| tried.status.success());
    if !root {
        eprintln!("skipped: only root with all rights may {to}");
    }
    root
}
