//! What `strongroom sql --write` says of SQL that begins and ends transactions of its own, and what became of it.

#![cfg(feature = "cli")]

#[path = "common/cli.rs"]
mod cli;

use cli::{Home, Ran};

fn write(home: &Home, options: &[&str], sql: &str) -> Ran {
    home.run(&[&["sql", "a.db", "--key-raw-file", "key", "--write"], options, &[sql]].concat())
}

fn rows(home: &Home) -> String {
    home.run(&[
        "sql",
        "a.db",
        "--key-raw-file",
        "key",
        "--csv",
        "SELECT coalesce(group_concat(a, ' '), 'none') AS a FROM t",
    ])
    .ok()
}

#[test]
fn sql_that_would_end_the_transaction_around_it_is_refused_before_it_does_and_nothing_is_written() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES (1)");
    for (word, ending) in [
        ("COMMIT", "COMMIT"),
        ("COMMIT", "commit transaction"),
        ("END", "/* done */ -- really\n ; End"),
        ("ROLLBACK", "ROLLBACK"),
        ("ROLLBACK", "rollback transaction"),
    ] {
        let ran =
            write(&home, &[], &format!("INSERT INTO t VALUES (2); {ending}; DELETE FROM t; SELECT * FROM missing"));
        ran.fails(1, &format!("{word} would end the transaction around all of the SQL: nothing was written"));
        assert!(ran.err.contains("--no-transaction"), "{ran:?}");
        assert_eq!(rows(&home), "a\n1\n", "{ending}");
    }
    // Alone, and as the last word.
    write(&home, &[], "COMMIT").fails(1, "nothing was written");
    write(&home, &[], "INSERT INTO t VALUES (2); COMMIT").fails(1, "nothing was written");
    assert_eq!(rows(&home), "a\n1\n");
}

#[test]
fn savepoints_inside_the_transaction_are_as_they_are_in_sql() {
    let home = Home::new();
    home.write("SELECT 1");
    let script = "SAVEPOINT a; INSERT INTO t VALUES (1); RELEASE a; SAVEPOINT b; INSERT INTO t VALUES (2);
                  ROLLBACK TO b; INSERT INTO t VALUES (3); ROLLBACK TRANSACTION TO SAVEPOINT b; INSERT INTO t VALUES (4);
                  RELEASE b; SELECT 'COMMIT'";
    write(&home, &[], script).ok();
    assert_eq!(rows(&home), "a\n1 4\n");
}

#[test]
fn what_cannot_run_in_the_transaction_says_so_and_nothing_is_written() {
    let home = Home::new();
    home.write("SELECT 1");
    for sql in ["BEGIN", "VACUUM"] {
        let ran = write(&home, &[], &format!("INSERT INTO t VALUES (1); {sql}"));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains("--no-transaction"), "{sql}: {ran:?}");
        assert_eq!(rows(&home), "a\nnone\n", "{sql}");
    }
}

#[test]
fn sql_with_transactions_of_its_own_keeps_what_it_has_committed_and_is_told_of_one_that_it_leaves_open() {
    let home = Home::new();
    home.write("SELECT 1");
    let script = "BEGIN; INSERT INTO t VALUES (1); COMMIT; BEGIN; INSERT INTO t VALUES (2); ROLLBACK";
    write(&home, &["--no-transaction"], script).ok();
    assert_eq!(rows(&home), "a\n1\n");
    let ran = write(&home, &["--no-transaction"], "INSERT INTO t VALUES (3); BEGIN; INSERT INTO t VALUES (4)");
    ran.fails(1, "the SQL has left a transaction open, which is rolled back");
    assert!(ran.err.contains("what was committed before it stands"), "{ran:?}");
    assert_eq!(rows(&home), "a\n1 3\n");
}
