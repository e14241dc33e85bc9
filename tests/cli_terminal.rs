//! The program `strongroom` on a terminal, beside other processes, and stopped in the middle.

#![cfg(all(feature = "cli", unix))]

#[path = "common/cli.rs"]
mod cli;

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cli::{ANOTHER, Home, PASSPHRASE};
use rustix::process::{Pid, Signal, kill_process};
use strongroom::sqlcipher::Tuning;
use strongroom::{AsyncDatabase, FileKeySource};

const KEY: [&str; 2] = ["--key-raw-file", "key"];

/// Waits for the end, for a bounded time.
fn end(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("it did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs it on a terminal of its own, and types each answer when its question is there. `None` without script(1).
fn on_terminal(home: &Home, command: &str, dialogue: &[(&str, &str)]) -> Option<(i32, String)> {
    if Command::new("script").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("STRONGROOM_REQUIRE_PEERS").is_none(), "script(1) is missing");
        return None;
    }
    let command = format!("{} {command}", env!("CARGO_BIN_EXE_strongroom"));
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .current_dir(home.folder())
        .env("SHELL", "/bin/sh")
        .env("ONE", PASSPHRASE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    // Whatever hangs ends here, and the screen with it.
    let pid = Pid::from_child(&child);
    let (done, over) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if over.recv_timeout(Duration::from_secs(60)).is_err() {
            kill_process(pid, Signal::KILL).ok();
        }
    });
    let (mut shown, mut looked_at) = (Vec::new(), 0);
    let mut dialogue = dialogue.iter();
    let mut next = dialogue.next();
    let mut part = [0; 1024];
    while let Ok(count @ 1..) = screen.read(&mut part) {
        shown.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&shown[looked_at..]);
        if let Some((_, answer)) = next.filter(|(question, _)| text.contains(question)) {
            looked_at = shown.len();
            keys.write_all(answer.as_bytes()).unwrap();
            next = dialogue.next();
        }
    }
    let status = end(&mut child);
    done.send(()).ok();
    watch.join().unwrap();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(next.is_none(), "a question did not come: {shown}");
    assert!(!shown.contains(PASSPHRASE) && !shown.contains(ANOTHER), "a passphrase was shown: {shown}");
    Some((status.code().unwrap_or(-1), shown))
}

#[test]
fn a_passphrase_is_asked_for_on_a_terminal_and_not_shown() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES (41 + 1)");
    let said = home.run(&["rekey", "a.db", KEY[0], KEY[1], "--new-key-env", "ONE"]);
    said.ok();
    let typed = format!("{PASSPHRASE}\r");
    let sql = "sql a.db 'SELECT a FROM t'";
    let Some((code, shown)) = on_terminal(&home, sql, &[("passphrase of a.db: ", &typed)]) else { return };
    assert!(code == 0 && shown.contains("42"), "{code}: {shown}");
    // A letter too much, taken back.
    let slip = format!("{PASSPHRASE}\u{e9}\u{7f}\r");
    let (code, shown) = on_terminal(&home, sql, &[("passphrase of a.db: ", &slip)]).unwrap();
    assert!(code == 0 && shown.contains("42"), "{code}: {shown}");
    let wrong = format!("{ANOTHER}\r");
    let (code, shown) = on_terminal(&home, sql, &[("passphrase of a.db: ", &wrong)]).unwrap();
    assert!(code == 5 && shown.contains("the key does not open it"), "{code}: {shown}");
    let (code, shown) = on_terminal(&home, sql, &[("passphrase of a.db: ", "half\u{3}")]).unwrap();
    assert!(code == 130 && !shown.contains("half"), "{code}: {shown}");
    let looks = [("passphrase of a.db (Enter for none): ", typed.as_str())];
    let (code, shown) = on_terminal(&home, "doctor a.db", &looks).unwrap();
    assert!(code == 0 && shown.contains("nothing is wrong"), "{code}: {shown}");
    // A new one is typed twice, and nothing is done when the two differ.
    let rekey = [("passphrase of a.db: ", typed.as_str()), ("new passphrase: ", &wrong), ("once more: ", &typed)];
    let (code, shown) = on_terminal(&home, "rekey a.db", &rekey).unwrap();
    assert!(code == 1 && shown.contains("not the same"), "{code}: {shown}");
    let rekey = [("passphrase of a.db: ", typed.as_str()), ("new passphrase: ", &wrong), ("once more: ", &wrong)];
    let (code, shown) = on_terminal(&home, "rekey a.db", &rekey).unwrap();
    assert!(code == 0 && shown.contains("verified"), "{code}: {shown}");
    home.run(&["check", "a.db", "--key-env", "TWO"]).ok();
}

#[test]
fn what_a_copy_is_restored_under_is_asked_for_by_its_own_name_and_twice() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES (41 + 1)");
    home.run(&["backup", "a.db", "copy.db", KEY[0], KEY[1], "--new-key-env", "ONE"]).ok();
    let (copy, new) = (format!("{PASSPHRASE}\r"), format!("{ANOTHER}\r"));
    let restore = "restore new.db copy.db --copy-key-env ONE";
    let differ = [("passphrase of the new database: ", new.as_str()), ("once more: ", &copy)];
    let Some((code, shown)) = on_terminal(&home, restore, &differ) else { return };
    assert!(code == 1 && shown.contains("not the same") && !home.path("new.db").exists(), "{code}: {shown}");
    let same = [("passphrase of the new database: ", new.as_str()), ("once more: ", &new)];
    let (code, shown) = on_terminal(&home, restore, &same).unwrap();
    assert!(code == 0 && !shown.contains("of copy.db"), "{code}: {shown}");
    home.run(&["check", "new.db", "--key-env", "TWO"]).ok();
    // Nothing tells whether it is the right one where the copy has another.
    let same = [("passphrase of a.db: ", new.as_str()), ("once more: ", &new)];
    let (code, shown) = on_terminal(&home, "restore a.db copy.db --copy-key-env ONE", &same).unwrap();
    assert_eq!(code, 0, "{shown}");
    home.run(&["check", "a.db", "--key-env", "TWO"]).ok();
    // The copy tells it where the two are the same.
    std::fs::remove_file(home.path("new.db")).unwrap();
    let (code, shown) = on_terminal(&home, "restore new.db copy.db", &[("passphrase of copy.db: ", &copy)]).unwrap();
    assert_eq!(code, 0, "{shown}");
    home.run(&["check", "new.db", "--key-env", "ONE"]).ok();
    let plain = "restore new.db copy.db --plaintext";
    let (code, shown) = on_terminal(&home, plain, &[("passphrase of copy.db: ", &copy)]).unwrap();
    assert_eq!(code, 0, "{shown}");
    home.run(&["check", "new.db"]).ok();
}

#[tokio::test]
async fn doctor_says_who_has_a_file_open_and_others_are_told_who_is_in_the_way() {
    let home = Home::new();
    home.write("INSERT INTO t VALUES (1)");
    let key = || FileKeySource::new(home.path("key")).raw_key();
    let db = AsyncDatabase::builder(home.path("a.db")).key(key()).open().await.unwrap();
    let me = format!("process {} (", std::process::id());
    let doctor = |words: &str| {
        let text = home.run(&["doctor", "a.db", "--wait", "0", KEY[0], KEY[1]]).out;
        if cfg!(target_os = "linux") {
            let line = text.lines().find(|line| line.contains(&me)).unwrap_or_else(|| panic!("{text}"));
            assert!(line.contains(words), "{text}");
        }
        text
    };
    assert!(doctor("has it open").contains("nothing is wrong"));
    let mut tx = db.begin().await.unwrap();
    tx.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    doctor("is writing");
    tx.rollback().await.unwrap();
    home.run(&["rekey", "a.db", "--wait", "0", KEY[0], KEY[1], "--new-key-env", "ONE"]).fails(6, "another");
    home.run(&["backup", "a.db", "copy.db", KEY[0], KEY[1]]).ok();
    home.run(&["restore", "a.db", "copy.db", KEY[0], KEY[1]]).fails(6, "somebody has the file open");
    db.close().await.unwrap();

    let quick = Tuning::default().busy_timeout(Duration::from_millis(50));
    let alone = AsyncDatabase::builder(home.path("a.db")).key(key()).tuning(quick).exclusive().open().await.unwrap();
    alone.execute("INSERT INTO t VALUES (3)", ()).await.unwrap();
    assert!(doctor("for itself").contains("wrong  "));
    alone.close().await.unwrap();
}

#[test]
fn what_is_stopped_leaves_nothing_half_done() {
    let home = Home::new();
    let rows =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT randomblob(900) FROM n";
    home.write(&format!("INSERT INTO t {rows}"));
    let count = || home.run(&["sql", "a.db", KEY[0], KEY[1], "--csv", "SELECT count(*) AS n FROM t"]).ok();
    let (before, names) = (count(), home.names());
    // Does not end by itself.
    let endless = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 1 FROM n WHERE i % 1000 = 0";
    let backup: &[&str] = &["backup", "a.db", "copy.db", KEY[0], KEY[1], "--full"];
    let write: &[&str] = &["sql", "a.db", KEY[0], KEY[1], "--write", endless];
    for (round, work) in [backup, write, backup, write, backup].into_iter().enumerate() {
        let mut child =
            home.command(work).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(60 * round as u64));
        let signal = if round == 3 { Signal::TERM } else { Signal::INT };
        kill_process(Pid::from_child(&child), signal).ok();
        let status = end(&mut child);
        // The signal may come before it is caught, or when a copy is there already.
        let is_done = status.success() && work == backup;
        assert!(is_done || matches!(status.code(), None | Some(130 | 143)), "{status:?}");
        if home.path("copy.db").exists() {
            home.run(&["check", "copy.db", KEY[0], KEY[1], "--full"]).ok();
            std::fs::remove_file(home.path("copy.db")).unwrap();
        }
        // Reading it back also folds what a process that was killed outright has left.
        home.run(&["sql", "a.db", KEY[0], KEY[1], "--write", "SELECT 1"]).ok();
        assert_eq!(count(), before, "after round {round}");
        let drafts: Vec<_> = home.names().into_iter().filter(|name| !names.contains(name)).collect();
        assert!(drafts.is_empty() || status.code().is_none(), "{drafts:?} after round {round}");
        for draft in drafts {
            std::fs::remove_file(home.path(&draft)).unwrap();
        }
    }
}

/// `STRONGROOM_STOPS` (10 by default) is the number of random moments, `STRONGROOM_KILL_SEED` replays them.
#[test]
fn what_replaces_a_file_or_its_key_can_be_stopped_at_any_moment() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (rounds, seed) =
        (number("STRONGROOM_STOPS").unwrap_or(10), number("STRONGROOM_KILL_SEED").unwrap_or_else(|| fastrand::u64(..)));
    let mut random = fastrand::Rng::with_seed(seed);
    let home = Home::new();
    let rows =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT randomblob(900) FROM n";
    home.write(&format!("INSERT INTO t {rows}"));
    home.run(&["backup", "a.db", "copy.db", KEY[0], KEY[1]]).ok();
    let names = home.names();
    let plain = || std::fs::read(home.path("a.db")).unwrap().starts_with(b"SQLite format 3");
    let mut ends = Vec::new();
    for round in 0..rounds {
        let work: &[&str] = match random.u8(..4) {
            0 => &["rekey", "a.db", "--fresh"],
            1 => &["restore", "a.db", "copy.db", "--copy-key-raw-file", "copy.key"],
            2 => &["salvage", "a.db", "saved.db", "--plaintext"],
            _ if plain() => &["encrypt", "a.db"],
            _ => &["decrypt", "a.db"],
        };
        if round == 0 {
            std::fs::copy(home.path("key"), home.path("copy.key")).unwrap();
        }
        let mut child = home.command(&[work, &KEY[..]].concat());
        let mut child = child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let after = Duration::from_millis(random.u64(..400));
        std::thread::sleep(after);
        kill_process(Pid::from_child(&child), Signal::INT).ok();
        let status = end(&mut child);
        let what = format!("seed {seed}, round {round}: {work:?} stopped after {after:?}: {status:?}");
        // The signal may come before it is caught, or when all is done.
        let is_right = status.success() || matches!(status.code(), None | Some(130));
        // A database that was decrypted has no key that could be changed.
        assert!(is_right || plain() && matches!(work[0], "rekey" | "salvage" | "restore"), "{what}");
        let key: &[&str] = if plain() { &[] } else { &KEY };
        let count = home.run(&[&["sql", "a.db", "--csv", "SELECT count(*) AS n FROM t"], key].concat());
        assert_eq!((count.code, count.out.as_str()), (Some(0), "n\n3000\n"), "{what}: {count:?}");
        home.run(&[&["check", "a.db", "--full"], key].concat()).ok();
        std::fs::remove_file(home.path("saved.db")).ok();
        let left: Vec<_> = home.names().into_iter().filter(|name| !names.contains(name)).collect();
        let known = ["copy.key", "key.next"];
        assert!(status.code().is_none() || left.iter().all(|name| known.contains(&name.as_str())), "{what}: {left:?}");
        for name in left.iter().filter(|name| !known.contains(&name.as_str())) {
            std::fs::remove_file(home.path(name)).unwrap();
        }
        ends.push((work[0], status.code()));
    }
    println!("{ends:?}");
}
