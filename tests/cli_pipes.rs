//! The program `strongroom` when whoever reads its output goes away.

#![cfg(feature = "cli")]

#[path = "common/cli.rs"]
mod cli;

use std::io::Read as _;
use std::process::Stdio;

use cli::{Home, Ran};

const KEY: [&str; 2] = ["--key-raw-file", "key"];

/// More rows than a pipe and the buffers before it hold.
const MANY: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) INSERT INTO t SELECT i FROM n";

fn keyed<'a>(head: &[&'a str], tail: &[&'a str]) -> Vec<&'a str> {
    [head, &KEY, tail].concat()
}

/// Runs it into a pipe whose reader takes the first bytes, and then no more.
fn read_in_part(home: &Home, arguments: &[&str], taken: &str) -> Ran {
    let mut command = home.command(arguments);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut some = vec![0; taken.len()];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    assert_eq!(String::from_utf8_lossy(&some), taken);
    Ran::of(child.wait_with_output().unwrap())
}

/// Runs it into a pipe that nobody reads: its output, or both that and what it says of errors.
fn unread(home: &Home, arguments: &[&str], errors_too: bool) -> Ran {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = home.command(arguments);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    if errors_too {
        command.stderr(writer.try_clone().unwrap());
    }
    Ran::of(command.stdout(writer).spawn().unwrap().wait_with_output().unwrap())
}

fn rows(home: &Home) -> String {
    home.run(&keyed(&["sql", "a.db"], &["--csv", "SELECT count(*) AS n FROM t"])).ok()
}

#[test]
fn rows_that_are_only_read_may_be_left() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES (1)");
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let ran = read_in_part(&home, &keyed(&["sql", "a.db", "--csv", endless], &[]), "i\n1\n2\n");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[test]
fn a_write_whose_output_is_not_taken_fails_and_says_that_nothing_was_written() {
    let home = Home::new();
    home.write(MANY);
    let write = keyed(&["sql", "a.db"], &["--csv", "--write", "DELETE FROM t WHERE a > 10 RETURNING a"]);
    let ran = read_in_part(&home, &write, "a\n11\n");
    ran.fails(1, "the output was not taken");
    assert!(ran.err.contains("nothing was written"), "{ran:?}");
    assert_eq!(rows(&home), "n\n60000\n");
    // So little that it stays in a buffer until the end.
    for form in ["--csv", "--json"] {
        let write = keyed(&["sql", "a.db"], &[form, "--write", "DELETE FROM t WHERE a = 10 RETURNING a"]);
        unread(&home, &write, false).fails(1, "nothing was written");
    }
    assert_eq!(rows(&home), "n\n60000\n");
}

#[test]
fn statements_that_commit_by_themselves_stand_though_the_output_is_not_taken() {
    let home = Home::new();
    home.write(MANY);
    let script = "DELETE FROM t WHERE a = 1; DELETE FROM t WHERE a > 10 RETURNING a; DELETE FROM t";
    let ran =
        read_in_part(&home, &keyed(&["sql", "a.db"], &["--csv", "--write", "--no-transaction", script]), "a\n11\n");
    ran.fails(1, "the output was not taken");
    assert!(
        ran.err.contains("what was committed before stands") && !ran.err.contains("nothing was written"),
        "{ran:?}"
    );
    assert_eq!(rows(&home), "n\n9\n");
}

#[test]
fn damage_keeps_its_code_though_nobody_reads_of_it() {
    let home = Home::new();
    home.write("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) INSERT INTO t SELECT randomblob(900) FROM n");
    for whole in [&["check"][..], &["doctor"]] {
        assert_eq!(unread(&home, &[whole, &["a.db"], &KEY].concat(), false).code, Some(0), "{whole:?}");
    }
    let mut bytes = std::fs::read(home.path("a.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(home.path("a.db"), bytes).unwrap();
    for (round, errors_too) in [false, true].into_iter().enumerate() {
        let saved = format!("saved{round}.db");
        let json = format!("saved{round}.json.db");
        for work in [
            &["check", "a.db"][..],
            &["check", "a.db", "--json"],
            &["doctor", "a.db"],
            &["salvage", "a.db", &saved],
            &["salvage", "a.db", &json, "--json"],
        ] {
            let ran = unread(&home, &keyed(work, &[]), errors_too);
            assert_eq!(ran.code, Some(4), "{work:?}: {ran:?}");
        }
        home.run(&keyed(&["check", &saved], &[])).ok();
    }
    let missing = unread(&home, &["doctor", "none.db"], false);
    assert_eq!(missing.code, Some(3), "{missing:?}");
}

#[test]
fn an_error_keeps_its_code_though_nobody_reads_of_it() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES (1)");
    for (code, work) in [(5, &["check", "a.db"][..]), (3, &["check", "none.db"]), (1, &["decrypt", "a.db"])] {
        assert_eq!(unread(&home, work, true).code, Some(code), "{work:?}");
    }
    let written = unread(&home, &keyed(&["sql", "a.db"], &["--write", "INSERT INTO t VALUES (2)"]), true);
    assert_eq!((written.code, rows(&home).as_str()), (Some(0), "n\n2\n"));
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_for_which_there_is_no_room_is_an_error_and_hides_no_damage() {
    let home = Home::new();
    home.write("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) INSERT INTO t SELECT randomblob(900) FROM n");
    let full = |arguments: &[&str]| {
        let device = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = home.command(arguments);
        Ran::of(
            command
                .stdin(Stdio::null())
                .stdout(device)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
                .wait_with_output()
                .unwrap(),
        )
    };
    let whole = full(&keyed(&["check", "a.db"], &[]));
    assert!(whole.code == Some(1) && whole.err.contains("the output cannot be written"), "{whole:?}");
    full(&keyed(&["sql", "a.db"], &["--write", "DELETE FROM t RETURNING a"])).fails(1, "nothing was written");
    assert_eq!(rows(&home), "n\n40\n");
    let mut bytes = std::fs::read(home.path("a.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(home.path("a.db"), bytes).unwrap();
    for command in ["check", "doctor"] {
        let damaged = full(&keyed(&[command, "a.db"], &[]));
        assert!(damaged.code == Some(4) && damaged.err.contains("the output cannot be written"), "{damaged:?}");
    }
}
