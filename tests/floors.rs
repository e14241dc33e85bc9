//! The house as its imports show it: a floor uses only floors below it, and a wing only floors 0 and 1.

#[path = "common/sources.rs"]
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use sources::sources;

/// Rooms by floor. A file or folder of `src/` that stands nowhere here fails the test.
const FLOORS: [(u8, &[&str]); 4] = [
    (
        0,
        &[
            "error", "secret", "value", "row", "params", "config", "clock", "crypto", "errand", "feed", "lock",
            "private", "text", "turn", "veiled",
        ],
    ),
    (1, &["connector", "key", "health", "observer", "retry"]),
    (2, &["pool"]),
    (3, &["database"]),
];
const WINGS: [&str; 5] = ["sqlcipher", "postgres", "keys", "testing", "bb8"];
/// What gathers names for readers of the documentation.
/// The program stands outside of the house, and uses what everybody can.
const DOORS: [&str; 5] = ["lib", "engine", "values", "_docs", "bin"];

/// Uses of a higher floor or another wing, each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 4] = [
    ("sqlcipher/database.rs", "database", "`builder(path)`, `from_config` and `interact` of an encrypted database"),
    ("sqlcipher/template.rs", "database", "whole databases for tests of programs"),
    ("postgres/template.rs", "database", "whole databases for tests of programs"),
    ("database/", "crate root", "`DefaultConnector`, the engine of an `AsyncDatabase` that names none"),
];

/// The room a file stands in.
fn room(file: &str) -> &str {
    let (first, _) = file.split_once('/').unwrap_or((file, ""));
    first.strip_suffix(".rs").unwrap_or(first)
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, rooms)| rooms.contains(&room)).map(|(floor, _)| *floor)
}

/// The rooms that a text names after `crate::`, be it in an import or on the way.
fn named_rooms(text: &str) -> Vec<&str> {
    text.match_indices("crate::")
        // `$crate` in a macro stands for the program that uses it: it takes the public way.
        .filter(|(at, _)| !text[..*at].ends_with('$'))
        .map(|(at, crate_)| {
            let rest = &text[at + crate_.len()..];
            let end = rest.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).unwrap_or(rest.len());
            &rest[..end]
        })
        .collect()
}

fn is_allowed(from: &str, to: &str) -> bool {
    let (here, there) = (room(from), to);
    if here == there {
        return true;
    }
    match (floor(here), floor(there)) {
        (Some(here), Some(there)) => there <= here,
        // A wing stands on the floors 0 and 1.
        (None, Some(there)) => there <= 1 && WINGS.contains(&here),
        (_, None) => false,
    }
}

#[test]
fn every_import_goes_to_the_same_floor_or_down() {
    let (mut wrong, mut used) = (Vec::new(), [false; EXCEPTIONS.len()]);
    for (file, text) in sources() {
        let here = room(&file);
        if DOORS.contains(&here) {
            continue;
        }
        assert!(
            floor(here).is_some() || WINGS.contains(&here),
            "src/{file} stands on no floor; say in this test on which"
        );
        for there in named_rooms(&text) {
            let name = if there.starts_with(char::is_uppercase) || there.is_empty() { "crate root" } else { there };
            let is_macro = ["params", "named", "__include_files"].contains(&there);
            if is_allowed(&file, there) || is_macro {
                continue;
            }
            match EXCEPTIONS.iter().position(|(from, to, _)| file.starts_with(from) && *to == name) {
                Some(exception) => used[exception] = true,
                None => wrong.push(format!("src/{file} uses crate::{there}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(used, [true; EXCEPTIONS.len()], "an exception that nothing uses");
}

#[test]
fn the_root_has_few_names() {
    const MOST: usize = 45;
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    // A macro that is exported stands at the root, wherever it is written.
    let sources = sources();
    let exported = sources.values().flat_map(|text| text.split("#[macro_export]").skip(1));
    let macros = exported.filter_map(|rest| rest.split_once("macro_rules! ")?.1.split(' ').next());
    let mut names: BTreeSet<&str> = macros.filter(|name| !name.starts_with("__")).collect();
    assert!(names.contains("params"), "misread: {names:?}");
    for statement in text.split(';') {
        if let Some((_, list)) = statement.split_once("\npub use ") {
            let inner = list.rsplit_once('{').map_or(list.rsplit("::").next().unwrap(), |(_, inner)| inner);
            names.extend(inner.trim_end_matches('}').split(',').map(str::trim).filter(|name| !name.is_empty()));
        } else if let Some((_, module)) = statement.split_once("\npub mod ") {
            names.insert(module);
        }
    }
    names.remove("_docs");
    assert!(names.len() > 30 && names.contains("AsyncDatabase") && names.contains("keys"), "misread: {names:?}");
    assert!(names.len() <= MOST, "{} names at the root: {names:?}", names.len());
}

/// The rooms whose files must not import each other in a circle, directly or through what a `mod.rs` passes on. With `/*`, only the
/// files that stand in the room itself, and not in a room of it.
const WITHOUT_CYCLES: [&str; 19] = [
    "pool",
    "database",
    "config",
    "crypto",
    "keys",
    "sqlcipher/*",
    "sqlcipher/copies",
    "sqlcipher/log",
    "sqlcipher/opening",
    "sqlcipher/running",
    "sqlcipher/changes",
    "sqlcipher/cipher",
    "sqlcipher/statement",
    "postgres/*",
    "postgres/changes",
    "postgres/reaching",
    "postgres/statements",
    "postgres/values",
    "postgres/wire",
];

/// The paths that the `use` lines of a file name; `passed_on` asks for those of `pub use` only.
fn used_paths(text: &str, passed_on: bool) -> Vec<String> {
    let mut paths = Vec::new();
    for statement in text.split(';') {
        let Some(at) =
            statement.find("use ").filter(|at| *at == 0 || !statement[..*at].ends_with(char::is_alphanumeric))
        else {
            continue;
        };
        let is_passed_on = statement[..at].trim_end().lines().last().is_some_and(|line| line.contains("pub"));
        if passed_on && !is_passed_on {
            continue;
        }
        let path = statement[at + 4..].trim();
        let (stem, list) = path.split_once('{').map_or((path, ""), |(stem, list)| (stem, list));
        let names = list.trim_end_matches('}').split(',').map(str::trim).filter(|name| !name.is_empty());
        paths.extend(names.map(|name| format!("{stem}{name}")));
        if list.is_empty() {
            paths.push(stem.to_owned());
        }
    }
    paths
}

/// The file in which a path begins: the longest part of it that is one.
fn file_of(path: &str, from: &str, files: &BTreeMap<String, String>) -> Option<String> {
    let mut folder: Vec<&str> = from.split('/').collect();
    // The module itself, or the one that it stands in.
    if folder.pop() != Some("mod.rs") {
        folder.push("");
    }
    let mut steps = path.split("::").peekable();
    let mut at: Vec<&str> = match steps.next()? {
        "crate" => Vec::new(),
        "super" => folder[..folder.len() - 1].to_vec(),
        "self" => folder,
        own => folder.into_iter().filter(|part| !part.is_empty()).chain([own]).collect(),
    };
    while steps.next_if_eq(&"super").is_some() {
        at.pop();
    }
    let mut found = None;
    loop {
        let here = at.join("/");
        found = [format!("{here}.rs"), format!("{here}/mod.rs")]
            .into_iter()
            .find(|name| files.contains_key(name))
            .or(found);
        match steps.next() {
            Some(step) => at.push(step),
            None => return found,
        }
    }
}

#[test]
fn no_files_of_a_room_import_each_other_in_a_circle() {
    let (files, mut read) = (sources(), 0);
    for room in WITHOUT_CYCLES {
        let (folder, is_alone) = room.strip_suffix("/*").map_or((room, false), |folder| (folder, true));
        let stands_there = |name: &str| {
            let rest = name.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
            rest.is_some_and(|rest| !(is_alone && rest.contains('/')))
        };
        let inside: BTreeMap<&String, &String> = files.iter().filter(|(name, _)| stands_there(name)).collect();
        let mut edges: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (name, text) in &inside {
            // A `mod.rs` lists its files; it depends on those alone whose names it passes on.
            let (text, _tests) = text.split_once("#[cfg(test)]\nmod tests {").unwrap_or((text, ""));
            let paths = used_paths(text, name.ends_with("/mod.rs"));
            let to = paths.iter().filter_map(|path| file_of(path, name, &files)).filter(|to| to != *name);
            edges.insert(name, to.filter(|to| inside.contains_key(to)).collect());
        }
        read += edges.values().map(BTreeSet::len).sum::<usize>();
        // What imports nothing that is left goes, until nothing more does.
        loop {
            let before = edges.len();
            let left: BTreeSet<String> = edges.keys().map(|name| (*name).to_owned()).collect();
            edges.retain(|_, to| to.iter().any(|to| left.contains(to)));
            if edges.len() == before {
                break;
            }
        }
        assert!(edges.is_empty(), "in a circle, or above one: {edges:#?}");
    }
    assert!(read > 200, "misread: {read} imports");
}

/// A module that needs a feature is declared or re-exported in a `mod.rs`, in `lib.rs` or in one of its doors; within a file
/// nothing depends on features. One file is written once for two versions of a crate.
#[test]
fn features_are_asked_for_where_modules_are_declared() {
    let is_declaring =
        |file: &str| file.ends_with("/mod.rs") || DOORS.contains(&room(file)) || file == "value/foreign/jiff.rs";
    let asking = sources().into_iter().filter(|(_, text)| text.contains("cfg(") && text.contains("feature = \""));
    let (right, wrong): (Vec<_>, Vec<_>) = asking.map(|(file, _)| file).partition(|file| is_declaring(file));
    assert!(right.len() > 4, "misread: {right:?}");
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The compiler refuses `unsafe` everywhere else.
#[test]
fn what_the_compiler_cannot_check_stands_in_three_rooms() {
    let allowing = sources().into_iter().filter(|(_, text)| text.contains("allow(unsafe_code"));
    let rooms: Vec<_> = allowing.map(|(file, _)| file).collect();
    assert_eq!(rooms, ["crypto/mod.rs", "private/lists.rs", "sqlcipher/ffi/mod.rs"]);
}

/// The words table of ARCHITECTURE.md is short, and types carry no word that the table replaced.
#[test]
fn types_carry_the_words_of_the_field() {
    const MOST: usize = 25;
    const REPLACED: [&str; 10] =
        ["Slot", "Shelf", "Warm", "Parked", "Spent", "Bell", "Hoard", "Breathe", "Judge", "Riddle"];
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let table = page.split("| word | meaning |").nth(1).unwrap().split("\n\n").next().unwrap();
    let words: BTreeSet<_> = table.lines().skip(2).map(|row| row.split('|').nth(1).unwrap().trim()).collect();
    assert!(words.len() > 15 && words.len() <= MOST, "{} words: {words:?}", words.len());
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        for kind in ["struct ", "enum ", "trait ", "type "] {
            for (at, _) in text.match_indices(kind) {
                let name = text[at + kind.len()..].split(|letter: char| !letter.is_alphanumeric()).next().unwrap();
                if REPLACED.iter().any(|word| name.contains(word)) {
                    wrong.push(format!("src/{file}: {name}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Names that are declared twice, each with its reason.
const DECLARED_TWICE: [(&str, &str); 2] = [
    ("Call", "`testing::Call` is public, and is what a test calls it"),
    ("KeySpec", "one for the build with a cipher, one for the build without"),
];

/// The types that a text declares, without those of its tests.
fn declared_types(text: &str) -> Vec<&str> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let name = |line: &'_ str| -> Option<usize> {
        let kinds = ["struct ", "enum ", "trait ", "union ", "type "];
        let (at, kind) = kinds.iter().find_map(|kind| Some((line.find(kind)?, kind)))?;
        // Associated types stand further in.
        let is_declared = line[..at].is_empty() || line[..at].starts_with("pub") || line[..at].starts_with("unsafe");
        is_declared.then_some(at + kind.len())
    };
    let names = code.lines().filter_map(|line| Some(&line[name(line)?..]));
    names.filter_map(|rest| rest.split(|letter: char| !letter.is_alphanumeric()).next()).collect()
}

#[test]
fn a_type_has_a_name_of_its_own() {
    let mut declared: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, text) in sources() {
        // The primitives of a model bear the names of what they stand for, and tests stand for themselves.
        if file.ends_with("/model.rs") || file.ends_with("/tests.rs") {
            continue;
        }
        for name in declared_types(&text) {
            declared.entry(name.to_owned()).or_default().push(file.clone());
        }
    }
    assert!(declared.len() > 200 && declared.contains_key("AsyncDatabase"), "misread: {declared:?}");
    // A wing sees no other, so two of them may each have their own.
    let is_seen = |files: &Vec<String>| {
        let rooms: BTreeSet<_> = files.iter().map(|file| room(file)).collect();
        rooms.len() < files.len() || !rooms.iter().all(|room| WINGS.contains(room))
    };
    let twice: Vec<_> = declared.iter().filter(|(_, files)| files.len() > 1 && is_seen(files)).collect();
    let wrong: Vec<_> =
        twice.iter().filter(|(name, _)| !DECLARED_TWICE.iter().any(|(known, _)| known == name)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let told_apart: Vec<_> =
        DECLARED_TWICE.iter().filter(|(name, _)| !twice.iter().any(|(other, _)| other == name)).collect();
    assert!(told_apart.is_empty(), "no longer declared twice: {told_apart:?}");
}
