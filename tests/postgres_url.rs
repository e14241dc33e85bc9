//! Where a server is: URLs, libpq's environment and files, sockets; and no password in any text.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use common::{PASSWORD, server, server_with, value};
use strongroom::engine::{Access, Resource as _};
use strongroom::postgres::PostgresConnector;
use strongroom::postgres::Readers;
use strongroom::{Connector, ErrorKind};

fn refused(url: &str) -> String {
    let error = PostgresConnector::from_url(url).expect_err(url);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    format!("{error} {error:?}")
}

/// The password, with its spaces encoded.
fn encoded() -> String {
    PASSWORD.replace(' ', "%20")
}

#[tokio::test]
async fn a_url_leads_to_the_server() {
    let Some(server) = server() else { return };
    let password = encoded();
    let url = format!(
        "postgresql://app:{password}@127.0.0.1:{}/postgres?sslmode=disable&application_name=the%20till\
         &connect_timeout=10&options=-c%20work_mem%3D8MB&target_session_attrs=read-write",
        server.port
    );
    let connector = PostgresConnector::from_url(&url).unwrap();
    assert!(!format!("{connector:?}").contains("horse"));
    let mut connection = connector.setting("lock_timeout", "7s").connect(Access::Write).await.unwrap();
    for (setting, expected) in [("application_name", "the till"), ("work_mem", "8MB"), ("lock_timeout", "7s")] {
        assert_eq!(value::<String>(&mut connection, &format!("SHOW {setting}")).await, expected);
    }
    // Hosts that do not answer are passed by.
    let hosts = format!("127.0.0.1:1,[::1]:1,localhost:{}", server.port);
    let url = format!("postgres://app:{password}@{hosts}/postgres?sslmode=disable");
    PostgresConnector::from_url(url).unwrap().connect(Access::Read).await.unwrap();
    // All of it as parameters.
    let url = format!(
        "postgres:///?host=127.0.0.1&port={}&user=app&password={password}&dbname=postgres&sslmode=disable",
        server.port
    );
    PostgresConnector::from_url(url).unwrap().connect(Access::Write).await.unwrap();
}

#[test]
fn a_url_that_is_wrong_is_told_without_its_password() {
    let cases = [
        ("mysql://app:secret@host/db", "postgres://"),
        ("host=db password=secret", "postgres://"),
        ("postgres://app:secret@host/db?colour=red", "colour"),
        ("postgres://app:secret@host/db?sslmode=plenty", "sslmode"),
        ("postgres://app:secret@host/db?sslmode=prefer", "verify-full"),
        ("postgres://app:secret@host/db?connect_timeout=soon", "connect_timeout"),
        ("postgres://app:secret@host/db?target_session_attrs=best", "target_session_attrs"),
        ("postgres://app:secret@host/db?client_encoding=latin1", "client_encoding"),
        ("postgres://app:secret@host/db?channel_binding=require&sslmode=disable", "channel_binding"),
        ("postgres://app:secret@host/db?channel_binding=maybe", "channel_binding"),
        ("postgres://app:secret@host/db?sslcert=a.pem", "sslcert"),
        ("postgres://app:secret@host/db?sslrootcert=/nowhere.pem", "sslrootcert"),
        ("postgres://app:secret@host/db?sslmode", "no value"),
        ("postgres://app:secret@host:99999/db", "port"),
        ("postgres://app:secret@host:port/db", "port"),
        ("postgres://app:secret%zz@host/db", "%25"),
        ("postgres://app:secret%ff@host/db", "UTF-8"),
        ("postgres://app:secret%00@host/db", "%25"),
        ("postgres://app:secret?x=y@host/db", "%3F"),
        ("postgres://app:sec#ret@host/db", "%23"),
        ("postgres://app:secret@[::1/db", "bracket"),
    ];
    for (url, named) in cases {
        let said = refused(url);
        assert!(said.contains(named), "{url}: {said}");
        assert!(!said.contains("secret") && !said.contains("sec#"), "{url}: {said}");
    }
    let said = refused("postgres://app:secret@a,b,c/db?port=1,2");
    assert!(said.contains("3 hosts and 2 ports"), "{said}");
}

#[tokio::test]
async fn a_url_given_as_a_host_is_not_repeated() {
    let urls = ["postgres://app:secret@host/db", "app:secret@host", "host=a password=secret", "//app:secret@host"];
    for url in urls {
        let connector = PostgresConnector::new(url, 5432).host(url, 5433).connect_timeout(Duration::from_secs(1));
        let error = connector.connect(Access::Write).await.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Config, false), "{error}");
        let said = format!("{error} {error:?} {connector:?}");
        assert!(!said.contains("secret") && said.contains("from_url"), "{said}");
    }
}

#[tokio::test]
async fn what_may_hold_a_password_is_neither_shown_nor_sent_as_a_name() {
    let here = || PostgresConnector::new("127.0.0.1", 1).connect_timeout(Duration::from_secs(1));
    for name in
        ["postgres://app:secret@host/db", "app:secret@host", "host=a PassWord = secret", "dbname=a password=secret"]
    {
        for connector in [here().database(name), here().user(name), here().user(name).database("app")] {
            let error = connector.connect(Access::Write).await.unwrap_err();
            assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Config, false), "{error}");
            let said = format!("{error} {error:?} {connector:?} {:?}", connector.capabilities());
            assert!(!said.contains("secret") && said.contains("from_url"), "{said}");
        }
    }
    // Names that only look a little like it.
    for name in ["passwords", "app@server", "a:b", "no=password"] {
        let error = here().user(name).connect(Access::Write).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
        assert!(format!("{:?}", here().user(name)).contains(name));
    }
}

#[tokio::test]
async fn a_socket_leads_to_the_server() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    common::give_to_server(directory.path());
    let path = directory.path().to_str().unwrap();
    let Some(server) = server_with(&format!("unix_socket_directories = '{path}'")) else { return };
    let (password, encoded_path) = (encoded(), path.replace('/', "%2F"));
    let urls = [
        format!("postgres://app:{password}@{encoded_path}:{}/postgres", server.port),
        format!("postgres://app:{password}@/postgres?host={path}&port={}", server.port),
    ];
    for url in urls {
        let mut connection = PostgresConnector::from_url(url).unwrap().connect(Access::Write).await.unwrap();
        assert!(value::<bool>(&mut connection, "SELECT inet_server_addr() IS NULL").await);
        // A request to stop goes the same way.
        let call = common::run_sql(&mut connection, "SELECT pg_sleep(30)", ());
        tokio::time::timeout(Duration::from_millis(100), call).await.unwrap_err();
        assert_eq!(value::<i64>(&mut connection, "SELECT cast(7 AS bigint)").await, 7);
    }
}

/// Runs with the environment that its parent has made.
#[tokio::test]
#[ignore = "a part of the tests below"]
async fn child() {
    let connector = PostgresConnector::from_env().unwrap_or_else(|error| panic!("said: {error}"));
    println!("{connector:?}");
    let mut connection = connector.connect(Access::Write).await.unwrap_or_else(|error| panic!("said: {error}"));
    println!("named {}", value::<String>(&mut connection, "SHOW application_name").await);
}

fn run_child(variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]).env_clear().envs(variables.iter().copied());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("battery"), "{said}");
    (output.status.success(), said)
}

#[test]
fn the_environment_and_its_files_lead_to_the_server() {
    let Some(server) = server() else { return };
    let directory = tempfile::tempdir().unwrap();
    let port = server.port.to_string();
    let home = directory.path().to_str().unwrap();
    let common = [("PGHOST", "127.0.0.1"), ("PGPORT", &port), ("PGDATABASE", "postgres"), ("PGSSLMODE", "disable")];
    let with = |more: &[(&'static str, &str)]| {
        let all: Vec<_> = common.iter().map(|(name, value)| (*name, *value)).chain(more.iter().copied()).collect();
        run_child(&all)
    };
    let (good, said) = with(&[("PGUSER", "app"), ("PGPASSWORD", PASSWORD), ("PGAPPNAME", "till"), ("PGOPTIONS", "")]);
    assert!(good && said.contains("named till"), "{said}");

    let file = directory.path().join(".pgpass");
    let escaped = PASSWORD.replace(' ', "\\ ");
    fs::write(&file, format!("# a comment\n*:1:*:*:wrong\n127.0.0.1:{port}:*:app:{escaped}\n*:*:*:*:wrong\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (good, said) = with(&[("PGUSER", "app"), ("HOME", home)]);
    assert!(!good && said.contains("chmod 600"), "{said}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let (good, said) = with(&[("PGUSER", "app"), ("HOME", home)]);
    assert!(good, "{said}");
    let (good, said) = with(&[("PGUSER", "app"), ("PGPASSFILE", "/nowhere/pgpass")]);
    assert!(!good && said.contains("/nowhere/pgpass"), "{said}");

    let services = directory.path().join("services");
    let text =
        format!("[other]\nhost=nowhere\n[shop]\n# here\nhost=127.0.0.1\nport={port}\nuser = app\ndbname=postgres\n");
    fs::write(&services, text + "application_name=served\n[third]\nuser=nobody\n").unwrap();
    let service = ("PGSERVICEFILE", services.to_str().unwrap());
    let secret = ("PGPASSWORD", PASSWORD);
    let (good, said) = run_child(&[("PGSERVICE", "shop"), service, secret, ("PGSSLMODE", "disable"), ("PGUSER", "x")]);
    assert!(good && said.contains("named served"), "{said}");
    // As for libpq, an empty variable is as good as none: one by one, and all that are not needed.
    let empty = ["PGSERVICE", "PGSERVICEFILE", "PGHOSTADDR", "PGPASSFILE", "PGOPTIONS", "PGAPPNAME", "PGSSLROOTCERT"];
    let more = ["PGCONNECT_TIMEOUT", "PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS", "PGCHANNELBINDING", "PGGSSENCMODE"];
    let empty: Vec<_> = empty.into_iter().chain(more).map(|name| (name, "")).collect();
    let user = [("PGUSER", "app"), secret];
    let (good, said) = with(&[&user[..], &empty].concat());
    assert!(good, "{said}");
    let (good, said) = run_child(&[("PGHOST", ""), ("PGUSER", "app"), ("PGPORT", ""), ("PGDATABASE", "")]);
    assert!(!good && said.contains("5432"), "the defaults: {said}");
    let (good, said) = run_child(&[("PGSERVICE", "shoe"), service]);
    assert!(!good && said.contains("shoe"), "{said}");
}

/// The kind of timer that Linux shows while a connection is silent.
const KEEPALIVE: u8 = 2;

/// The timer of a connection to `port`, as Linux tells it: its kind, and in how many hundredths of a second it ends.
fn timer(port: u16) -> (u8, u64) {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut ours = rows.filter(|row| row[2].ends_with(&format!(":{port:04X}")) && row[3] == "01");
    let row = ours.next().expect("an open connection");
    let (kind, ends) = row[5].split_once(':').unwrap();
    (u8::from_str_radix(kind, 16).unwrap(), u64::from_str_radix(ends, 16).unwrap())
}

#[tokio::test]
async fn keepalives_are_what_the_url_says() {
    let Some(server) = server() else { return };
    let url = |more: &str| {
        let (password, port) = (encoded(), server.port);
        PostgresConnector::from_url(format!(
            "postgres://app:{password}@127.0.0.1:{port}/postgres?sslmode=disable{more}"
        ))
    };
    for (more, from, to) in
        [("", 10, 31), ("&keepalives_idle=4321", 4300, 4322), ("&keepalives=1&keepalives_idle=0", 7100, 7201)]
    {
        let connection = url(more).unwrap().connect(Access::Write).await.unwrap();
        // What was sent last may not have been acknowledged yet.
        let (kind, ends) = loop {
            match timer(server.port) {
                (KEEPALIVE, ends) => break (KEEPALIVE, ends / 100),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        assert!((from..to).contains(&ends), "{more}: {kind} {ends}");
        connection.close().await.unwrap();
    }
    let connection = url("&keepalives=0").unwrap().connect(Access::Write).await.unwrap();
    assert_ne!(timer(server.port).0, KEEPALIVE);
    connection.close().await.unwrap();
    for wrong in ["keepalives=yes", "keepalives_idle=-1", "keepalives_interval=1s", "keepalives_count=70000"] {
        let error = url(&format!("&{wrong}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(wrong.split_once('=').unwrap().0), "{error}");
    }
}

#[tokio::test]
async fn readers_are_spread_over_the_hosts() {
    let (Some(one), Some(two)) = (server(), server()) else { return };
    let ports = BTreeSet::from([i64::from(one.port), i64::from(two.port)]);
    for readers in [Readers::Any, Readers::PreferStandby, Readers::Primary] {
        // Between them, somewhere nobody listens.
        let connector = one.connector().host("127.0.0.1", 1).host("127.0.0.1", two.port).readers(readers);
        let mut seen = BTreeSet::new();
        for access in [Access::Write, Access::Read, Access::Read, Access::Read] {
            let mut connection = connector.connect(access).await.unwrap();
            let port: i64 = value(&mut connection, "SELECT cast(inet_server_port() AS bigint)").await;
            if access == Access::Read {
                seen.insert(port);
            }
        }
        assert_eq!(seen, ports, "{readers:?}");
    }
}
