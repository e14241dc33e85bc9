//! The program `strongroom` in pipes: what its commands do, print and answer as their exit code.

#![cfg(feature = "cli")]

#[path = "common/cli.rs"]
mod cli;

use cli::Home;
use strongroom::rusqlite::Connection;

const KEY: [&str; 2] = ["--key-raw-file", "key"];

fn with<'a>(head: &[&'a str], tail: &[&'a str]) -> Vec<&'a str> {
    [head, &KEY, tail].concat()
}

#[test]
fn what_a_form_would_lose_is_refused_by_name() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES (CAST(x'61ff' AS TEXT))");
    for form in ["--csv", "--json"] {
        let ran = home.run(&with(&["sql", "a.db", "SELECT a AS word FROM t"], &[form]));
        ran.fails(1, "column word holds text that is not UTF-8");
        assert!(ran.err.contains("hex("), "{ran:?}");
    }
    assert!(home.run(&with(&["sql", "a.db", "SELECT a FROM t"], &[])).ok().contains('a'));
    let twice = "SELECT 1 AS id, 2 AS id";
    home.run(&with(&["sql", "a.db", twice], &["--json"])).fails(1, "two columns are named id");
    assert_eq!(home.run(&with(&["sql", "a.db", twice], &["--csv"])).ok(), "id,id\n1,2\n");
    // A write is undone with it.
    let write = "UPDATE t SET a = 'b' RETURNING 1 AS id, 2 AS id";
    home.run(&with(&["sql", "a.db", write], &["--json", "--write"])).fails(1, "two columns are named id");
    assert_eq!(home.run(&with(&["sql", "a.db", "SELECT hex(a) AS a FROM t"], &["--csv"])).ok(), "a\n61FF\n");
}

#[test]
fn sql_with_a_nul_byte_is_refused_before_a_part_of_it_runs() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES (1)");
    for flags in [&["--write"][..], &["--write", "--no-transaction"], &[]] {
        let sql = "INSERT INTO t VALUES (2);\0 INSERT INTO t VALUES (3);";
        home.run_with_input(&with(&["sql", "a.db"], flags), sql).fails(1, "NUL byte");
    }
    assert_eq!(home.run(&with(&["sql", "a.db", "SELECT a FROM t"], &["--csv"])).ok(), "a\n1\n");
}

#[test]
fn a_new_key_has_a_name_that_can_be_asked_for() {
    let home = Home::new();
    let age = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    for name in ["a.b", "a:b", "a[0]", ""] {
        let ran = home.run(&["key", "new", "k.yml", "--age", age, "--name", name]);
        ran.fails(1, "cannot be the name of a key");
        assert!(!home.path("k.yml").exists(), "{name}");
    }
    home.run(&["key", "new", "k.yml", "--age", age, "--name", "a_b-c"]).ok();
}

#[test]
fn rows_are_printed_as_a_table_csv_or_json() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES (NULL), (7), (1.0), ('a,\"b'), (''), (x'00ff'), ('two' || char(10) || 'lines')");
    let sql = "SELECT a, typeof(a) AS \"of\" FROM t";
    let table = home.run(&with(&["sql", "a.db", sql], &[])).ok();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines[0], "a           of");
    assert_eq!(lines[2..5], ["NULL        null", "7           integer", "1.0         real"]);
    assert_eq!(lines[8], "two\\nlines  text");
    let csv = home.run_with_input(&with(&["sql", "a.db"], &["--csv"]), sql).ok();
    let expected = "a,of\n,null\n7,integer\n1.0,real\n\"a,\"\"b\",text\n\"\",text\n00ff,blob\n\"two\nlines\",text\n";
    assert_eq!(csv, expected);
    let json = home.run_with_input(&with(&["sql", "a.db"], &["--json"]), sql).ok();
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let values: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["a"].clone()).collect();
    assert_eq!(serde_json::json!(values), serde_json::json!([null, 7, 1.0, "a,\"b", "", "00ff", "two\nlines"]));
    assert_eq!(home.run(&with(&["sql", "a.db", "--json", "SELECT 1 WHERE 0"], &[])).ok(), "[]\n");
}

#[test]
fn sql_only_reads_unless_told_to_write_and_then_all_of_it_counts_or_nothing() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES (1)");
    let count = || home.run(&with(&["sql", "a.db", "--csv", "SELECT count(*) AS n FROM t"], &[])).ok();
    let refused = home.run(&with(&["sql", "a.db", "INSERT INTO t VALUES (2)"], &[]));
    refused.fails(1, "the database was opened read-only");
    assert!(refused.err.contains("--write"), "{refused:?}");
    home.run(&with(&["sql", "a.db", "--write", "INSERT INTO t VALUES (2); INSERT INTO no VALUES (3)"], &[]));
    assert_eq!(count(), "n\n1\n", "the first statement of a script that failed stayed");
    let alone = home.run(&with(&["sql", "a.db", "--write", "VACUUM"], &[]));
    alone.fails(1, "VACUUM");
    assert!(alone.err.contains("--no-transaction"), "{alone:?}");
    home.run(&with(&["sql", "a.db", "--write", "--no-transaction", "VACUUM"], &[])).ok();
    home.run(&with(&["sql", "a.db", "SELECT $1"], &[])).fails(1, "placeholders");
    assert_eq!(home.run(&with(&["sql", "a.db", "SELEC"], &[])).code, Some(1));
    let written = home.run_with_input(&with(&["sql", "a.db", "--write"], &[]), "INSERT INTO t VALUES (2); -- end\n");
    assert_eq!((written.code, written.err.as_str()), (Some(0), "1 row changed\n"));
    assert_eq!(count(), "n\n2\n");
    assert!(home.names().iter().all(|name| !name.contains("-wal") && !name.contains("-journal")), "{:?}", home.names());
}

#[test]
fn an_error_says_what_helps_and_its_code_says_of_which_kind_it_is() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES (1)");
    home.run(&with(&["sql", "none.db", "SELECT 1"], &[])).fails(3, "there is no such file");
    home.run(&with(&["backup", "none.db", "b.db"], &[])).fails(3, "there is no such file");
    home.run(&with(&["rekey", "none.db"], &["--new-key-env", "ONE"])).fails(3, "there is no such file");
    home.run(&["migrate", "none.db", "steps", "--key-raw-file", "key"]).fails(3, "there is no such file");
    home.run(&["migrate", "new.db", "no-steps", "--create", "--plaintext"])
        .fails(3, "cannot read migrations from no-steps");
    assert!(!home.path("new.db").exists());
    home.run(&["check", "a.db"]).fails(5, "no key was given");
    home.run(&["check", "a.db", "--key-env", "ONE"]).fails(5, "the key does not open it");
    home.run(&["check", "a.db", "--key-env", "NO_SUCH_NAME"]).fails(5, "NO_SUCH_NAME is not set");
    home.run(&["decrypt", "a.db"]).fails(1, "none was given");
    home.run(&with(&["encrypt", "a.db"], &[])).fails(5, "encrypted");
    home.run(&with(&["rekey", "a.db"], &[])).fails(1, "no new passphrase was given");
    home.run(&with(&["backup", "a.db", "key"], &[])).fails(1, "there is a file already");
    let replace = home.run(&with(&["backup", "a.db", "key"], &[]));
    assert!(replace.err.contains("give --replace"), "{replace:?}");
    home.run(&["migrate", "b.db", "steps", "--create"]).fails(1, "no key was given for the new database");
    assert!(!home.path("b.db").exists() && !home.path("none.db").exists(), "{:?}", home.names());

    std::fs::write(home.path("empty.db"), "").unwrap();
    home.run(&with(&["sql", "empty.db", "SELECT 1"], &[])).fails(5, "is empty");
    std::fs::write(home.path("text"), "hello, this is no database\n".repeat(60)).unwrap();
    assert_ne!(home.run(&with(&["sql", "text", "SELECT 1"], &[])).code, Some(0));
    for wrong in [&["sql"][..], &["no-such-command"], &["sql", "a.db", "--csv", "--json", "SELECT 1"], &[]] {
        assert_eq!(home.run(wrong).code, Some(2), "{wrong:?}");
    }
    // Whatever stands behind an option that does not exist could be a key.
    let typed = home.run(&["sql", "a.db", "--key", "SELECT 1"]);
    assert_eq!(typed.code, Some(2));
}

#[test]
fn damage_is_found_by_check_and_doctor() {
    let home = Home::new();
    home.write("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) INSERT INTO t SELECT randomblob(900) FROM n");
    let found = home.run(&with(&["check", "a.db"], &["--full"])).ok();
    assert!(found.contains("no damage found"), "{found}");
    let mut bytes = std::fs::read(home.path("a.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(home.path("a.db"), bytes).unwrap();
    let check = home.run(&with(&["check", "a.db"], &[]));
    check.fails(4, "1 problem found");
    assert!(check.out.contains("page"), "{check:?}");
    let doctor = home.run(&with(&["doctor", "a.db"], &[]));
    assert_eq!(doctor.code, Some(4), "{doctor:?}");
    assert!(doctor.out.contains("wrong  ") && doctor.out.contains("restore a backup"), "{doctor:?}");
}

#[test]
fn doctor_says_what_each_file_is_and_which_key_opens_it() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES (1)");
    let doctor = |arguments: &[&str]| {
        let ran = home.run(&[&["doctor"], arguments].concat());
        (ran.code.unwrap(), ran.out)
    };
    let (code, text) = doctor(&["a.db", "--key-env", "ONE", "--key-raw-file", "key"]);
    assert_eq!(code, 0, "{text}");
    for words in
        ["SQLCipher 4", "environment variable ONE does not open it", "opens it", "2 tables", "nothing is wrong"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let (code, text) = doctor(&["a.db"]);
    assert!(code == 5 && text.contains("--key-env") && text.contains("or no database"), "{text}");
    let (code, text) = doctor(&["a.db", "--key-env", "NO_SUCH_NAME"]);
    assert!(code == 5 && text.contains("NO_SUCH_NAME gives no key") && text.contains("is not set"), "{text}");
    home.run(&with(&["backup", "a.db", "plain.db"], &["--plaintext"])).ok();
    let (code, text) = doctor(&["plain.db"]);
    assert!(code == 0 && text.contains("SQLite, not encrypted"), "{text}");
    let (code, text) = doctor(&["plain.db", "--key-env", "ONE"]);
    assert!(code == 5 && text.contains("anybody who has it can read it"), "{text}");
    std::fs::write(home.path("text"), "hello, this is no database\n").unwrap();
    let (code, text) = doctor(&["text", "--key-raw-file", "key"]);
    assert!(code != 0 && text.contains("neither SQLite nor SQLCipher"), "{text}");
    std::fs::write(home.path("empty.db"), "").unwrap();
    assert_eq!(doctor(&["empty.db"]).0, 4);
    assert_eq!(doctor(&["none.db"]).0, 3);
    assert_eq!(doctor(&["."]).0, 1);
}

#[test]
fn copies_and_changes_of_key_lead_there_and_back() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES ('here')");
    let reads = |file: &str, key: &[&str]| {
        let ran = home.run(&[&["sql", file, "--csv", "SELECT a FROM t"], key].concat());
        if ran.code == Some(0) { ran.out } else { ran.err }
    };
    let here = "a\nhere\n";
    let said = home.run(&with(&["backup", "a.db", "copy.db", "--full"], &["--new-key-env", "ONE"])).ok();
    assert!(said.contains("encrypted, verified"), "{said}");
    assert_eq!(reads("copy.db", &["--key-env", "ONE"]), here);
    home.write("UPDATE t SET a = 'gone'");
    home.run(&with(&["restore", "a.db", "copy.db"], &["--copy-key-env", "ONE", "--keep", "before.db"])).ok();
    assert_eq!((reads("a.db", &KEY).as_str(), reads("before.db", &KEY).as_str()), (here, "a\ngone\n"));
    home.run(&with(&["rekey", "a.db"], &["--new-key-env", "TWO"])).ok();
    assert!(reads("a.db", &KEY).contains("the key does not open it"));
    // Of two, the one that fits.
    assert_eq!(reads("a.db", &["--key-raw-file", "key", "--key-env", "TWO"]), here);
    home.run(&["decrypt", "a.db", "--key-env", "TWO"]).ok();
    assert_eq!(reads("a.db", &[]), here);
    home.run(&with(&["encrypt", "a.db"], &["--keep", "plain.db"])).ok();
    assert_eq!((reads("a.db", &KEY).as_str(), reads("plain.db", &[]).as_str()), (here, here));
    let both = home.run(&with(&["backup", "a.db", "c.db", "--plaintext"], &["--new-key-env", "ONE"]));
    both.fails(1, "leave one of the two away");
    assert_eq!(home.names(), ["a.db", "before.db", "copy.db", "key", "plain.db", "steps"]);
}

#[test]
fn nothing_is_stored_in_plaintext_unless_that_is_said() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES ('here')");
    home.run(&with(&["backup", "a.db", "copy.db"], &["--new-key-env", "ONE"])).ok();
    home.run(&with(&["backup", "a.db", "plain.db"], &["--plaintext"])).ok();
    let before = std::fs::read(home.path("a.db")).unwrap();
    let copy = ["copy.db", "--copy-key-env", "ONE"];
    let restore = |head: &[&str], tail: &[&str]| home.run(&[&["restore"], head, tail].concat());
    let refuses = |target: &str, copy: &[&str], words: &str| {
        let ran = restore(&[target], copy);
        ran.fails(1, words);
        assert!(ran.err.contains("or give --plaintext"), "{ran:?}");
    };
    refuses("a.db", &copy, "no key was given for a.db");
    refuses("new.db", &copy, "no key was given for the new database");
    refuses("plain.db", &copy, "no key was given for plain.db");
    refuses("a.db", &["plain.db"], "no key was given for a.db");
    refuses("a.db", &["plain.db", "--copy-plaintext"], "no key was given for a.db");
    // The option says that the database is to be encrypted.
    refuses("new.db", &["plain.db", "--copy-plaintext"], "no key was given for the new database");
    refuses("a.db", &["copy.db"], "no key was given for a.db");
    let hint = restore(&["a.db", "copy.db"], &["--plaintext"]);
    assert!(hint.code == Some(5) && hint.err.contains("--copy-key-env"), "{hint:?}");
    for both in [
        &["restore", "a.db", "copy.db", "--copy-key-env", "ONE", "--plaintext"][..],
        &["restore", "a.db", "copy.db", "--copy-key-env", "ONE", "--copy-plaintext"],
        &["migrate", "new.db", "steps", "--create", "--plaintext"],
    ] {
        home.run(&with(both, &[])).fails(1, "leave one of the two away");
    }
    let unsaid = home.run(&with(&["restore", "a.db", "plain.db"], &[]));
    assert!(unsaid.code == Some(5) && unsaid.err.contains("--copy-plaintext"), "{unsaid:?}");
    assert_eq!(std::fs::read(home.path("a.db")).unwrap(), before, "what was refused has written");
    assert_eq!(home.names(), ["a.db", "copy.db", "key", "plain.db", "steps"]);

    let says = |ran: cli::Ran, words: &str| assert!(ran.ok().contains(words), "{words}");
    says(restore(&["new.db", "plain.db"], &[]), ", not encrypted");
    says(restore(&["new.db", "plain.db", "--copy-plaintext"], &KEY), ", encrypted");
    says(restore(&["new.db"], &[&copy[..], &["--plaintext"]].concat()), ", not encrypted");
    says(restore(&["a.db", "plain.db"], &["--plaintext", "--keep", "before.db"]), ", not encrypted");
    for file in ["a.db", "new.db"] {
        assert_eq!(home.run(&["sql", file, "--csv", "SELECT a FROM t"]).ok(), "a\nhere\n");
    }
    home.run(&with(&["check", "before.db"], &[])).ok();
}

#[test]
fn what_can_be_read_of_a_damaged_file_goes_into_a_new_one() {
    let home = Home::new();
    home.write("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) INSERT INTO t SELECT randomblob(900) FROM n");
    home.run(&with(&["backup", "a.db", "copy.db"], &[])).ok();
    let whole = home.run(&with(&["salvage", "a.db", "whole.db"], &["--full"])).ok();
    assert!(whole.contains("41 rows") && whole.ends_with("nothing was lost\n"), "{whole}");

    let mut bytes = std::fs::read(home.path("a.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(home.path("a.db"), &bytes).unwrap();
    let some = home.run(&with(&["salvage", "a.db", "some.db"], &["--new-key-env", "ONE"]));
    assert_eq!(some.code, Some(4), "{some:?}");
    assert!(some.out.contains("table t: ") && some.out.contains("lost: 1 page ("), "{some:?}");
    let count = home.run(&["sql", "some.db", "--csv", "SELECT count(*) > 30 AS n FROM t", "--key-env", "ONE"]).ok();
    assert_eq!(count, "n\n1\n");
    assert_eq!(std::fs::read(home.path("a.db")).unwrap(), bytes, "the damaged file was changed");
    home.run(&with(&["salvage", "a.db", "some.db"], &[])).fails(1, "there is a file already");

    // The salt has gone: no key opens it, until a copy lends its own.
    bytes[..16].fill(7);
    std::fs::write(home.path("a.db"), &bytes).unwrap();
    let refused = home.run(&with(&["salvage", "a.db", "more.db"], &[]));
    assert!(refused.code == Some(5) && refused.err.contains("--salt-from"), "{refused:?}");
    let more = home.run(&with(&["salvage", "a.db", "more.db", "--salt-from", "copy.db"], &["--plaintext"]));
    assert_eq!(more.code, Some(4), "{more:?}");
    assert!(home.run(&["sql", "more.db", "--csv", "SELECT count(*) > 0 AS n FROM t"]).code.is_some());
    home.run(&with(&["salvage", "a.db", "b.db"], &["--salt-from", "none.db"])).fails(1, "no salt can be read");
    let both = home.run(&with(&["salvage", "a.db", "b.db", "--plaintext"], &["--new-key-env", "ONE"]));
    both.fails(1, "leave one of the two away");
    home.run(&with(&["salvage", "none.db", "b.db"], &[])).fails(3, "there is no such file");
    assert!(!home.path("b.db").exists());
}

#[test]
fn migrations_are_planned_and_run() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES (1)");
    std::fs::write(home.path("steps/2_more.sql"), "CREATE TABLE more (b)").unwrap();
    let migrate =
        |tail: &[&str]| home.run(&[&["migrate", "a.db", "steps", "--key-raw-file", "key"], tail].concat()).ok();
    assert_eq!(migrate(&["--plan"]), "would run 2 more\n");
    assert_eq!(migrate(&["--up-to", "1"]), "nothing to do: the schema has version 1\n");
    let ran = migrate(&[]);
    assert!(ran.starts_with("ran 2 more in "), "{ran}");
    assert_eq!(migrate(&["--plan"]), "nothing to do: the schema has version 2\n");
    std::fs::write(home.path("steps/1_begin.sql"), "CREATE TABLE other (a)").unwrap();
    let changed = home.run(&["migrate", "a.db", "steps", "--key-raw-file", "key"]);
    assert_eq!(changed.code, Some(1), "{changed:?}");
}

#[test]
fn a_fresh_key_goes_into_a_sops_file_and_nowhere_else() {
    let home = Home::new();
    let identity = strongroom::keys::sops::AgeIdentity::generate();
    let said = home.run(&["key", "new", "secrets.yml", "--age", identity.recipient()]).ok();
    assert!(said.contains("--key-sops secrets.yml:db_key"), "{said}");
    let text = std::fs::read_to_string(home.path("secrets.yml")).unwrap();
    assert!(text.starts_with("db_key: ENC[AES256_GCM,"), "{text}");
    home.run(&["key", "new", "secrets.yml", "--age", identity.recipient()]).fails(1, "cannot be written");
    assert_eq!(std::fs::read_to_string(home.path("secrets.yml")).unwrap(), text, "a key was overwritten");
    home.run(&["key", "new", "other.yml", "--age", "age1nobody"]);
    assert!(!home.path("other.yml").exists());

    std::fs::create_dir(home.path("steps")).unwrap();
    std::fs::write(home.path("steps/1_begin.sql"), "CREATE TABLE t (a)").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        let secret = std::str::from_utf8(identity.secret().expose()).unwrap();
        cli::Ran::of(command.env("SOPS_AGE_KEY", secret).stdin(std::process::Stdio::null()).output().unwrap())
    };
    run(&["migrate", "a.db", "steps", "--create", "--key-sops", "secrets.yml:db_key"]).ok();
    run(&["check", "a.db", "--key-sops", "secrets.yml"]).ok();
    assert_eq!(run(&["check", "a.db", "--key-sops", "secrets.yml:another"]).code, Some(5));
}

#[test]
fn help_has_examples_and_shells_get_their_completions() {
    let home = Home::new();
    for command in ["doctor", "check", "sql", "backup", "restore", "rekey", "encrypt", "decrypt", "migrate"] {
        let help = home.run(&[command, "--help"]).ok();
        assert!(help.contains("Example"), "{command}: {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.run(&["completions", shell]).ok().contains("strongroom"), "{shell}");
    }
}

#[test]
fn a_fresh_key_takes_the_place_of_the_old_one_in_its_source() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES ('here')");
    let old = std::fs::read_to_string(home.path("key")).unwrap();
    let said = home.run(&with(&["rekey", "a.db", "--fresh"], &[])).ok();
    assert!(said.contains("the key is now from key file key"), "{said}");
    let new = std::fs::read_to_string(home.path("key")).unwrap();
    assert!(new.trim() != old.trim() && new.trim().len() == 64 && !said.contains(new.trim()), "{said}");
    assert_eq!(home.run(&with(&["sql", "a.db", "--csv", "SELECT a FROM t"], &[])).ok(), "a\nhere\n");
    assert_eq!(home.names(), ["a.db", "key", "steps"]);
    home.run(&with(&["rekey", "a.db", "--fresh"], &["--new-key-env", "ONE"])).fails(1, "leave one of the two away");
    home.run(&["rekey", "a.db", "--fresh"]).fails(1, "no source of the key was named");
    home.run(&["rekey", "a.db", "--new-key-env", "ONE", "--key-raw-file", "key"]).ok();
    home.run(&["rekey", "a.db", "--fresh", "--key-env", "ONE"]).fails(1, "cannot make another secret");
    assert_eq!(std::fs::read_to_string(home.path("key")).unwrap(), new);
}

#[test]
fn programs_get_their_answers_in_json() {
    let home = Home::new();
    home.write("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) INSERT INTO t SELECT randomblob(900) FROM n");
    std::fs::write(home.path("steps/2_more.sql"), "CREATE TABLE more (b)").unwrap();
    let json = |code: i32, arguments: &[&str]| -> serde_json::Value {
        let ran = home.run(&with(arguments, &["--json"]));
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert_eq!(ran.out.lines().count(), 1, "{ran:?}");
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    };
    let plan = json(0, &["migrate", "a.db", "steps", "--plan"]);
    assert_eq!(plan["pending"], serde_json::json!([{ "version": 2, "name": "more", "in_transaction": true }]));
    let ran = json(0, &["migrate", "a.db", "steps"]);
    assert_eq!((&ran["version"], &ran["ran"][0]["name"]), (&2.into(), &"more".into()));
    assert!(ran["ran"][0]["seconds"].is_f64(), "{ran}");
    let none = json(0, &["migrate", "a.db", "steps"]);
    assert_eq!(none["ran"], serde_json::json!([]));

    let copy = json(0, &["backup", "a.db", "copy.db"]);
    assert_eq!((&copy["file"], &copy["encrypted"]), (&"copy.db".into(), &true.into()), "{copy}");
    assert_eq!(copy["bytes"], std::fs::metadata(home.path("copy.db")).unwrap().len());
    let restored = json(0, &["restore", "a.db", "copy.db"]);
    assert_eq!(restored["bytes"], copy["bytes"]);
    let changed = json(0, &["rekey", "a.db", "--fresh"]);
    assert_eq!((&changed["pages"], &changed["key_source"]), (&copy["pages"], &"key file key".into()));
    assert_eq!(json(0, &["decrypt", "a.db"])["encrypted"], false);
    assert_eq!(json(0, &["encrypt", "a.db"])["encrypted"], true);

    let whole = json(0, &["check", "a.db", "--full"]);
    assert_eq!(whole, serde_json::json!({ "ok": true, "full": true, "problems": [], "truncated": false }));
    assert_eq!(json(0, &["salvage", "a.db", "whole.db"])["complete"], true);
    let mut bytes = std::fs::read(home.path("a.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(home.path("a.db"), bytes).unwrap();
    let damaged = json(4, &["check", "a.db"]);
    assert_eq!((&damaged["ok"], damaged["problems"].as_array().unwrap().len()), (&false.into(), 1));
    assert!(damaged["problems"][0]["message"].as_str().unwrap().contains("page"), "{damaged}");
    let saved = json(4, &["salvage", "a.db", "saved.db"]);
    assert_eq!((&saved["complete"], saved["lost_pages"].as_array().unwrap().len()), (&false.into(), 1), "{saved}");
    let tables = saved["tables"].as_array().unwrap();
    assert!(tables.iter().any(|table| table["name"] == "t" && table["copied"].as_u64() > Some(30)), "{saved}");
}

#[test]
fn files_of_programs_with_other_settings_are_opened() {
    let home = Home::new();
    let other = Connection::open(home.path("other.db")).unwrap();
    let settings =
        format!("PRAGMA key = '{}'; PRAGMA kdf_iter = 4000; PRAGMA cipher_page_size = 8192", cli::PASSPHRASE);
    other.execute_batch(&settings).unwrap();
    other.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES ('theirs')").unwrap();
    drop(other);
    let key = ["--key-env", "ONE", "--kdf-iterations", "4000", "--page-size", "8192"];
    let read = |file: &str| home.run(&[&["sql", file, "--csv", "SELECT a FROM t"], &key[..]].concat()).ok();
    assert_eq!(read("other.db"), "a\ntheirs\n");
    home.run(&[&["check", "other.db", "--full"], &key[..]].concat()).ok();
    home.run(&[&["backup", "other.db", "copy.db"], &key[..]].concat()).ok();
    assert_eq!(read("copy.db"), "a\ntheirs\n");
    assert!(home.run(&[&["doctor", "other.db"], &key[..]].concat()).ok().contains("nothing is wrong"));
    let without = home.run(&["sql", "other.db", "SELECT a FROM t", "--key-env", "ONE"]);
    without.fails(5, "the key does not open it");
    assert!(without.err.contains("--kdf-iterations or --page-size"), "{without:?}");
    for wrong in [["--kdf-iterations", "0"], ["--page-size", "100"], ["--page-size", "many"]] {
        assert_eq!(home.run(&[&["sql", "other.db", "SELECT 1"], &wrong[..]].concat()).code, Some(2), "{wrong:?}");
    }
}
