//! A value that its source makes deep inside a file that the real `sops` has encrypted: all else stays as it is, line by
//! line, and `sops` reads the result.
#![cfg(all(feature = "sops", unix))]

#[path = "common/peers.rs"]
mod peers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsBackend};
use strongroom::{Error, ErrorKind, KeySource, Reason, SopsKeySource};

struct Folder {
    home: tempfile::TempDir,
    identity: AgeIdentity,
    sops: PathBuf,
}

impl Folder {
    fn new(sops: &Path) -> Self {
        let folder = Self { home: tempfile::tempdir().unwrap(), identity: AgeIdentity::generate(), sops: sops.into() };
        fs::write(folder.at("keys.txt"), folder.identity.secret().expose()).unwrap();
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.sops);
        command.args(arguments).current_dir(self.home.path());
        command.env("SOPS_AGE_KEY_FILE", self.at("keys.txt")).env("SOPS_CONFIG", "/dev/null");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The file `name` as `sops` encrypts it.
    fn encrypted(&self, name: &str, plain: &str) -> String {
        fs::write(self.at(name), plain).unwrap();
        self.run(&["encrypt", "-i", "--age", self.identity.recipient(), name]);
        fs::read_to_string(self.at(name)).unwrap()
    }

    /// All that is in it, as `sops` reads it.
    fn decrypted(&self, name: &str) -> Value {
        serde_json::from_str(&self.run(&["decrypt", "--output-type", "json", name])).unwrap()
    }

    /// Makes a value at `path`, and gives it.
    async fn make(&self, name: &str, path: &str) -> Result<String, Error> {
        let identities = IdentitySources::none().secret(self.identity.secret().clone());
        let source = SopsKeySource::new(self.at(name), path).backend(SopsBackend::Native).identities(identities);
        let source = source.create_if_missing(true);
        let made = source.create().await?.unwrap();
        source.settle(&made).await?;
        Ok(String::from_utf8(made.expose().to_vec()).unwrap())
    }
}

/// Puts `made` into `value`, where `path` leads.
fn put(value: &mut Value, path: &[&str], made: &str) {
    match path {
        [] => *value = made.into(),
        [first, rest @ ..] => {
            let inner = value.as_object_mut().unwrap().entry(*first).or_insert_with(|| Map::new().into());
            put(inner, rest, made);
        }
    }
}

/// Each line of `before` that is neither MAC nor time stands in `after`, in this order, and `more` others do.
#[track_caller]
fn nothing_else_changed(before: &str, after: &str, more: usize) {
    let is_other = |line: &&str| {
        let name = line.trim_start_matches([' ', '\t', '"']);
        !name.starts_with("mac") && !name.starts_with("lastmodified")
    };
    // In JSON, what was the last gets a comma.
    let lines = |text| -> Vec<String> {
        let lines = str::lines(text).filter(is_other);
        lines.map(|line| line.trim_end_matches(',').to_owned()).collect()
    };
    let (before, after) = (lines(before), lines(after));
    assert_eq!(after.len(), before.len() + more);
    let mut rest = after.iter();
    for line in &before {
        assert!(rest.any(|one| one == line), "{line} is gone or has moved:\n{after:#?}");
    }
}

const YAML: &str = "\
# at the top
app:
    # about the host
    host: example # beside it
    db:
        name: shop
        port: 5432
        # at the end of the database
    # at the end of the application
tight:
    text_unencrypted: |
        of one line
list:
    - one
    - two: 2
\"quoted: key\":
    inner: true
last:
    deep:
        block_unencrypted: |
            a block
            of text

# at the bottom
empty: {}
";

#[tokio::test]
async fn in_yaml_a_value_goes_to_the_end_of_its_mapping_and_every_other_line_stays() {
    let Some(sops) = peers::peer("sops") else { return };
    let paths = [
        ("app.db.key", vec!["app", "db", "key"], 1),
        ("app.key", vec!["app", "key"], 1),
        ("key", vec!["key"], 1),
        ("more.key", vec!["more", "key"], 2),
        ("app.db.more.and.key", vec!["app", "db", "more", "and", "key"], 3),
        ("last.deep.key", vec!["last", "deep", "key"], 1),
        ("tight.key", vec!["tight", "key"], 1),
        ("last.key", vec!["last", "key"], 1),
        (r#"["quoted: key"]["a: key"]"#, vec!["quoted: key", "a: key"], 1),
        (r#"["app"]["12"]"#, vec!["app", "12"], 1),
    ];
    for ending in ["\n", "\r\n"] {
        for (path, keys, more) in &paths {
            let folder = Folder::new(&sops);
            let before = folder.encrypted("a.yaml", YAML).replace('\n', ending);
            fs::write(folder.at("a.yaml"), &before).unwrap();
            let mut expected = folder.decrypted("a.yaml");
            let made = folder.make("a.yaml", path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
            let after = fs::read_to_string(folder.at("a.yaml")).unwrap();
            nothing_else_changed(&before, &after, *more);
            put(&mut expected, keys, &made);
            assert_eq!(folder.decrypted("a.yaml"), expected, "{path}");
            // And once more beside it.
            let beside = [&keys[..keys.len() - 1], &["beside"]].concat();
            let second = beside.iter().map(|key| format!("[\"{key}\"]")).collect::<String>();
            let made = folder.make("a.yaml", &second).await.unwrap_or_else(|error| panic!("{second}: {error}"));
            put(&mut expected, &beside, &made);
            assert_eq!(folder.decrypted("a.yaml"), expected, "{second}");
        }
    }
}

#[tokio::test]
async fn in_json_too_also_in_an_object_that_is_empty() {
    let Some(sops) = peers::peer("sops") else { return };
    let plain = json!({
        "app": { "host": "a \"quoted\" {brace", "db": { "name": "shop", "list": [{ "db": 1 }, []] } },
        "db": { "key with \" and ü": { "inner": 1 } },
        "empty": {},
    });
    let paths = [
        ("app.db.key", vec!["app", "db", "key"], 1),
        ("app.key", vec!["app", "key"], 1),
        ("key", vec!["key"], 1),
        ("db.more.and.key", vec!["db", "more", "and", "key"], 1),
        ("empty.key", vec!["empty", "key"], 0),
        (r#"["db"]['key with " and ü']["key"]"#, vec!["db", "key with \" and ü", "key"], 1),
    ];
    for (path, keys, more) in paths {
        let folder = Folder::new(&sops);
        let before = folder.encrypted("a.json", &serde_json::to_string_pretty(&plain).unwrap());
        let made = folder.make("a.json", path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let after = fs::read_to_string(folder.at("a.json")).unwrap();
        if more > 0 {
            nothing_else_changed(&before, &after, more);
        }
        let mut expected = plain.clone();
        put(&mut expected, &keys, &made);
        assert_eq!(folder.decrypted("a.json"), expected, "{path}");
    }
}

#[tokio::test]
async fn where_a_value_or_a_list_is_in_the_way_nothing_is_written_and_it_is_named() {
    let Some(sops) = peers::peer("sops") else { return };
    let folder = Folder::new(&sops);
    let before = folder.encrypted("a.yaml", YAML);
    for (path, kind, words) in [
        ("app.host.key", ErrorKind::Key, "found a value"),
        ("list.0.key", ErrorKind::Key, "found a list"),
        ("list.7", ErrorKind::Key, "found a list"),
        ("app.key_unencrypted", ErrorKind::Key, "key_unencrypted"),
        ("last_unencrypted.key", ErrorKind::Key, "last_unencrypted"),
        ("empty.key", ErrorKind::Unsupported, "sops set"),
        ("app", ErrorKind::Key, "found a mapping"),
    ] {
        let error = folder.make("a.yaml", path).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{path}: {error}");
        assert!(error.to_string().contains(words), "{path}: {error}");
        assert_ne!(error.reason(), Reason::Tampered, "{path}: {error}");
        assert_eq!(fs::read_to_string(folder.at("a.yaml")).unwrap(), before, "{path}");
        assert!(!folder.at("a.yaml.next").exists(), "{path}");
    }
}

/// Mappings inside each other; what `sops` writes of them has no `{}`.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        "[ -~]{1,12}".prop_map(Value::from),
        "\\PC{1,8}".prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        prop::collection::vec("[a-z]{1,4}".prop_map(Value::from), 1..3).prop_map(Value::from),
    ];
    let node = leaf.prop_recursive(4, 24, 4, |inner| {
        prop::collection::hash_map("[a-zA-Z][a-z: #-]{0,6}[a-z]", inner, 1..4)
            .prop_map(|entries| Value::from(entries.into_iter().collect::<Map<_, _>>()))
    });
    prop::collection::hash_map("[a-z]{1,6}", node, 1..4).prop_map(|entries| {
        let entries = entries.into_iter().filter(|(key, _)| key != "sops");
        Value::from(entries.collect::<Map<_, _>>())
    })
}

/// The ways to all mappings.
fn mappings<'v>(value: &'v Value, here: &[&'v str], found: &mut Vec<Vec<&'v str>>) {
    if let Value::Object(entries) = value {
        found.push(here.to_vec());
        for (key, value) in entries {
            mappings(value, &[here, &[key.as_str()]].concat(), found);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("STRONGROOM_DOCUMENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
    ))]

    #[test]
    fn in_arbitrary_files_every_mapping_takes_a_value(
        plain in tree(),
        which in any::<prop::sample::Index>(),
        deeper in 0..3_usize,
        is_json in any::<bool>(),
    ) {
        let Some(sops) = peers::peer("sops") else { return Ok(()) };
        prop_assume!(plain.as_object().is_some_and(|entries| !entries.is_empty()));
        let folder = Folder::new(&sops);
        let name = if is_json { "a.json" } else { "a.yaml" };
        let before = folder.encrypted(name, &serde_json::to_string_pretty(&plain).unwrap());
        let mut expected = folder.decrypted(name);
        let mut ways = Vec::new();
        mappings(&plain, &[], &mut ways);
        let new = [&["new a", "new b"][2 - deeper..], &["zz_key"]].concat();
        let path = [&which.get(&ways)[..], &new].concat();
        let text = path.iter().map(|key| format!("[\"{key}\"]")).collect::<String>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let made = runtime.block_on(folder.make(name, &text)).unwrap_or_else(|error| panic!("{text}: {error}\n{before}"));
        put(&mut expected, &path, &made);
        prop_assert_eq!(folder.decrypted(name), expected);
        let after = fs::read_to_string(folder.at(name)).unwrap();
        nothing_else_changed(&before, &after, if is_json { 1 } else { new.len() });
    }
}
