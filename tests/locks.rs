//! Locks, as the text of `src/` shows them: no foreign code runs under one.

#[path = "common/sources.rs"]
mod sources;

use sources::sources;

/// Locks that `lock.rs` does not know, each with its reason.
const OTHERS: [(&str, &str); 2] = [
    ("lock.rs", "makes the others"),
    (
        "sqlcipher/running/job.rs",
        "the engine itself, for as long as SQLite works: nobody waits for it on a runtime's thread",
    ),
];

/// What may run foreign code: a runtime that is ending drops a task on the spot.
const STARTS: [&str; 5] = ["spawn(", "spawn_blocking(", "spawn_local(", "block_in_place(", "spawn_on("];

/// The files of the library without their own tests, line by line.
fn files() -> Vec<(String, Vec<String>)> {
    let own = |text: &str| {
        let lines =
            text.lines().take_while(|line| !line.starts_with("#[cfg(test)]") && !line.starts_with("#![cfg(test)]"));
        lines.map(str::to_owned).collect()
    };
    let library = sources()
        .into_iter()
        .filter(|(file, _)| !file.starts_with("bin/") && !file.ends_with("model.rs") && !file.ends_with("/tests.rs"));
    library.map(|(file, text)| (file, own(&text))).collect()
}

#[test]
fn a_lock_is_one_that_knows_what_runs_under_it() {
    let mut used = [false; OTHERS.len()];
    for (file, lines) in files() {
        let imports = lines.iter().filter(|line| line.contains("std::sync"));
        if imports.clone().any(|line| line.contains("Mutex") || line.contains("RwLock")) {
            let known = OTHERS.iter().position(|(other, _)| *other == file);
            let known = known.unwrap_or_else(|| panic!("src/{file} has a lock of its own; use crate::lock::Lock"));
            used[known] = true;
        }
    }
    assert_eq!(used, [true; OTHERS.len()], "an exception that nothing uses");
}

#[test]
fn whatever_starts_work_says_so_before() {
    let mut seen = 0;
    for (file, lines) in files() {
        for (number, line) in lines.iter().enumerate() {
            let starts = STARTS.iter().any(|start| line.contains(start)) && !line.contains("fn ");
            // A program is no task: nothing of ours is dropped.
            if !starts || line.contains("command.spawn()") || line.contains("self.spawn()") {
                continue;
            }
            seen += 1;
            let function = lines[..number].iter().rev().take_while(|line| !line.contains("fn "));
            assert!(
                function.clone().any(|line| line.trim() == "foreign();"),
                "src/{file}: `{}` without `foreign()` before it in its function",
                line.trim()
            );
        }
    }
    assert!(seen > 10, "misread: {seen}");
}
