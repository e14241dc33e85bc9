//! A PostgreSQL server for one test, on a free port of the loopback interface.
//!
//! Needs the server's programs (Debian: `postgresql-15`). Without them the tests say that they skipped; with
//! `STRONGROOM_REQUIRE_PEERS=1` they fail instead. PostgreSQL refuses to run as root, so as root it is started as the
//! user `postgres`.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use strongroom::engine::{Access, Statement};
use strongroom::postgres::PostgresConnector;
use strongroom::postgres::Tls;
use strongroom::{Connection, Connector, PassphraseKeySource, Rows};

pub const PASSWORD: &str = "correct horse battery";

/// A running server; it is stopped when this is dropped.
pub struct Server {
    pub port: u16,
    pub data: PathBuf,
    child: Child,
    _directory: tempfile::TempDir,
}

/// Starts a server with these further lines of configuration, or says why the test is skipped.
pub fn server_with(settings: &str) -> Option<Server> {
    let programs = programs();
    if programs.is_none() {
        skip("PostgreSQL is not installed; apt-get install postgresql-15");
    }
    Some(Server::start(&programs?, settings))
}

/// Says why a test is skipped; fails instead where nothing may be missing.
pub fn skip(why: &str) {
    let required = std::env::var_os("STRONGROOM_REQUIRE_PEERS").is_some_and(|value| value == "1");
    assert!(!required, "STRONGROOM_REQUIRE_PEERS=1, but {why}");
    eprintln!("skipped: {why}");
}

pub fn server() -> Option<Server> {
    server_with("")
}

/// The directory of the server's programs, the newest version first.
pub fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").exists())
        .collect();
    found.sort();
    found.pop()
}

/// A command that runs as a user PostgreSQL accepts, and ends with us.
pub fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg("--").arg(program.as_ref());
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}");
}

/// `initdb` takes a second, so it is done once and copied.
fn template(programs: &Path) -> PathBuf {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = File::create(base.join("postgres.lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let template = base.join("postgres-template");
    if !template.join("ready").exists() {
        let _ = fs::remove_dir_all(&template);
        fs::create_dir(&template).expect("a directory");
        give_to_server(&template);
        let mut password = tempfile::NamedTempFile::new_in(base).expect("a file");
        writeln!(password, "{PASSWORD}").expect("written");
        give_to_server(password.path());
        run(command(programs.join("initdb"))
            .arg("-D")
            .arg(template.join("data"))
            .arg(format!("--pwfile={}", password.path().display()))
            .args(["-U", "app", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "-N"]));
        File::create(template.join("ready")).expect("a mark");
    }
    template.join("data")
}

/// Lets the user the server runs as own `path`.
pub fn give_to_server(path: &Path) {
    if is_root() {
        run(Command::new("chown").arg("-R").arg("postgres:postgres").arg(path));
    }
}

/// To a server on this machine, or to what stands before it, without TLS.
pub fn connector_at(port: u16) -> PostgresConnector {
    PostgresConnector::new("127.0.0.1", port)
        .database("postgres")
        .user("app")
        .key(PassphraseKeySource::new(PASSWORD))
        .tls(Tls::off())
}

impl Server {
    fn start(programs: &Path, settings: &str) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let data = directory.path().join("data");
        run(Command::new("cp").arg("-r").arg(template(programs)).arg(&data));
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").port();
        let mut configuration = fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).expect("opened");
        write!(
            configuration,
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\nfsync = off\n\
             shared_buffers = 16MB\nmax_connections = 40\nlog_min_messages = warning\n{settings}\n",
        )
        .expect("written");
        give_to_server(directory.path());
        let log = File::create(directory.path().join("log")).expect("a log");
        let mut postgres = command(programs.join("postgres"));
        let child = postgres.arg("-D").arg(&data).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let server = Self { port, data, child: child.expect("the server starts"), _directory: directory };
        server.wait();
        server
    }

    /// Until the server says that it is ready.
    fn wait(&self) {
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let status = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
            if status.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return;
            }
            assert!(Instant::now() < patience, "the server does not start: see its log");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the server as a power failure would: with its sessions, which would go on for a moment.
    pub fn kill(&mut self) {
        let sessions = Command::new("pkill").args(["-KILL", "-P", &self.id().to_string()]).status();
        assert!(sessions.expect("pkill of procps").success(), "it has no processes");
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Of its first process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// To this server, without TLS.
    pub fn connector(&self) -> PostgresConnector {
        connector_at(self.port)
    }

    pub async fn connect(&self) -> strongroom::postgres::PostgresConnection {
        self.connector().connect(Access::Write).await.expect("a connection")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one statement.
pub async fn run_sql<C: Connection>(
    connection: &mut C,
    sql: &str,
    params: impl strongroom::values::IntoParams,
) -> strongroom::Result<Rows> {
    connection.run(Statement::new(sql, params)?).await
}

/// Runs a script.
pub async fn script<C: Connection>(connection: &mut C, sql: &str) {
    connection.run_script(Arc::from(sql)).await.expect("the script runs");
}

/// The first column of the first row.
pub async fn value<T: strongroom::values::FromValue>(connection: &mut impl Connection, sql: &str) -> T {
    let rows = run_sql(connection, sql, ()).await.expect("the query runs");
    rows.first().expect("a row").get(0).expect("a value")
}
