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
