//! A password file that was named by a relative path stays the same one, wherever the process goes afterwards.
#![cfg(all(feature = "postgres", unix))]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use strongroom::Connector as _;
use strongroom::engine::Access;
use strongroom::postgres::PostgresConnector;

const HERE: &str = "POSTGRES_RELATIVE_HERE";

/// In a process of its own, for all threads share the working directory.
#[tokio::test]
async fn a_password_file_stays_where_it_was_named() {
    if let Some(here) = std::env::var_os(HERE) {
        let by_url = PostgresConnector::from_url("postgres://app@127.0.0.1:1/shop?passfile=pass&sslmode=disable");
        let by_variable = PostgresConnector::from_env();
        std::env::set_current_dir(here).unwrap();
        for connector in [by_url, by_variable] {
            // The file is looked at before the server is.
            let error = connector.unwrap().connect(Access::Write).await.unwrap_err().to_string();
            assert!(error.contains("one/pass may be read by others"), "{error}");
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("one");
    fs::create_dir(&one).unwrap();
    fs::write(one.join("pass"), "*:*:*:*:word\n").unwrap();
    fs::set_permissions(one.join("pass"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "a_password_file_stays_where_it_was_named", "--nocapture"]);
    again.env(HERE, folder.path()).env("PGPASSFILE", "pass").env("PGHOST", "127.0.0.1").env("PGPORT", "1");
    again.env("PGSSLMODE", "disable").env("PGUSER", "app").env("PGDATABASE", "shop").env_remove("PGPASSWORD");
    assert!(again.current_dir(&one).status().unwrap().success());
}

/// What a URL or the environment names is read when the connector is made.
#[tokio::test]
async fn services_and_certificates_are_those_of_the_directory_in_which_they_were_named() {
    const NAME: &str = "services_and_certificates_are_those_of_the_directory_in_which_they_were_named";
    if let Some(here) = std::env::var_os(HERE) {
        let by_service = PostgresConnector::from_url("postgres:///?service=shop");
        let certified = "postgres://app@127.0.0.1:1/shop?sslrootcert=root.pem&sslmode=verify-full";
        let by_certificate = PostgresConnector::from_url(certified);
        std::env::set_current_dir(here).unwrap();
        assert!(PostgresConnector::from_url("postgres:///?service=shop").is_err());
        for connector in [by_service, by_certificate] {
            let error = connector.unwrap().connect(Access::Write).await.unwrap_err();
            assert_eq!(error.kind(), strongroom::ErrorKind::Connection, "{error}");
            assert!(error.to_string().contains("127.0.0.1"), "{error}");
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("one");
    fs::create_dir(&one).unwrap();
    fs::write(one.join("services"), "[shop]\nhost=127.0.0.1\nport=1\nuser=app\ndbname=shop\nsslmode=disable\n")
        .unwrap();
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(one.join("root.pem"), certificate.cert.pem()).unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", NAME, "--nocapture"]).env(HERE, folder.path()).env("PGSERVICEFILE", "services");
    for name in ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSSLMODE"] {
        again.env_remove(name);
    }
    assert!(again.current_dir(&one).status().unwrap().success());
}
