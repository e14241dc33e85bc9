//! Reading the settings from a file and from the environment.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::DatabaseConfig;
use super::tree::{TWICE, Tree, UnfitSetting};
use super::yaml::{self, Trouble};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::text;

/// A dozen settings and all their comments fit many times.
const LARGEST: u64 = 16 * 1024;

/// In lower case, for on some systems names of variables have none.
const PREFIX: &str = "strongroom_db__";

const NO_SECRETS: &str =
    "secrets never stand in the configuration: set `key_source` to env, sops or passphrase, and keep the key there";

/// The whole file: nothing beside `db`, for a misspelt `db` would mean an unencrypted database.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section `db`")]
struct Root {
    #[serde(deserialize_with = "super::visit::section")]
    db: DatabaseConfig,
}

impl DatabaseConfig {
    /// Reads a file, by its suffix: `.yml`, `.yaml`, `.toml` or `.json`. Environment variables then win over it, as
    /// [`from_env`](Self::from_env) reads them. Blocks for as long as reading a small file takes.
    ///
    /// The settings stand under the key `db`, and nothing stands beside it. The key must stand there, for a misspelt or
    /// truncated file would otherwise mean an unencrypted database; `db:` alone gives the defaults. Lists, anchors and
    /// further documents of YAML are refused, for the settings need none; so is a setting that is given twice. The text
    /// is UTF-8; a byte order mark in front of it is skipped.
    ///
    /// ```
    /// use strongroom::DatabaseConfig;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("strongroom.yml");
    /// std::fs::write(&path, "db:\n  pool: { max_size: 20 }\n")?;
    ///
    /// let config = DatabaseConfig::from_file(&path)?;
    /// assert_eq!((config.pool.max_size, config.retry.max_attempts), (20, 3));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the file, the setting and what fits there; never what was found there. A section `cipher`
    /// that names a key, and says neither there nor in the environment whether to encrypt, is one.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut tree = parse(path)?;
        read(tree.clone().into_part(), &|key| format!("{}: {key}", path.display()))?;
        let overrides = environment()?;
        read(overrides.clone().into_part(), &variable)?;
        tree.overlay(overrides);
        read(tree, &|key| format!("{} with environment variables: {key}", path.display()))
    }

    /// Reads environment variables: `STRONGROOM_DB__POOL__MAX_SIZE=20` sets `db.pool.max_size`.
    ///
    /// A variable that is empty, or holds only white space, is as good as not set, as `${VAR:-}` in a compose file
    /// means it: the file's value stays, or the default. Only `STRONGROOM_DB__CIPHER__ENABLED` must not be empty, and
    /// the names of empty variables must fit too.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the variable and what fits there; never its value.
    pub fn from_env() -> Result<Self> {
        read(environment()?, &variable)
    }
}

fn variable(key: &str) -> String {
    let name = key.to_uppercase().replace('.', "__");
    format!("environment variable STRONGROOM_{name}")
}

/// The tree in a file.
fn parse(path: &Path) -> Result<Tree> {
    let shown = path.display();
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default().to_ascii_lowercase();
    let read: fn(&str) -> Result<Tree, String> = match suffix.as_str() {
        "yml" | "yaml" => of_yaml,
        "toml" => of_toml,
        "json" => of_json,
        _ => return Err(wrong(format!("{shown} has an unknown suffix")).hint("use .yml, .yaml, .toml or .json")),
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    file.map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let reason = if missing { Reason::NotFound } else { Reason::Io };
        wrong(format!("cannot read the configuration file {shown}")).because(reason).caused_by(error)
    })?;
    if bytes.len() as u64 > LARGEST {
        return Err(wrong(format!("{shown} is larger than {LARGEST} bytes")).because(Reason::TooLarge));
    }
    let text = text::utf8(&bytes).map_err(|what| {
        let error = wrong(format!("{shown} is {what}")).because(Reason::Malformed);
        error.hint("save it as UTF-8")
    })?;
    read(text).map_err(|what| wrong(format!("{shown} {what}")).because(Reason::Malformed))
}

// The parsers' own messages quote the line that they stumble over, so only its number is passed on.

fn of_yaml(text: &str) -> Result<Tree, String> {
    yaml::parse(text).map_err(|trouble| match trouble {
        Trouble::Invalid(line) => format!("is not valid YAML: see line {line}"),
        Trouble::Needless(line) => {
            format!("line {line} has a list, an anchor or an alias; the settings need none, and * and & begin no word")
        }
    })
}

fn of_toml(text: &str) -> Result<Tree, String> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].split('\n').count());
        format!("is not valid TOML: see line {line}")
    })
}

fn of_json(text: &str) -> Result<Tree, String> {
    serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => format!("has {TWICE}: see line {}", error.line()),
        _ => format!("is not valid JSON: see line {} column {}", error.line(), error.column()),
    })
}

/// The tree in the environment.
fn environment() -> Result<Tree> {
    let mut settings = Tree::Table(BTreeMap::new());
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy().to_lowercase();
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        let value =
            value.into_string().map_err(|_| wrong(format!("{} is not Unicode", variable(&format!("db.{key}")))))?;
        let value = if value.trim().is_empty() { Tree::Null } else { Tree::Text(value) };
        settings.overlay(key.rsplit("__").fold(value, |value, name| Tree::Table([(name.to_owned(), value)].into())));
    }
    Ok(Tree::Table([("db".to_owned(), settings)].into()))
}

/// Settings from a tree; `place` names a key of it for people.
fn read(tree: Tree, place: &dyn Fn(&str) -> String) -> Result<DatabaseConfig> {
    let root: Result<Root, _> = serde_path_to_error::deserialize(tree);
    root.map(|root| root.db).map_err(|error| explain(&error.path().to_string(), error.inner(), place))
}

fn explain(path: &str, unfit: &UnfitSetting, place: &dyn Fn(&str) -> String) -> Error {
    let path = if path == "." { "db" } else { path };
    match unfit {
        UnfitSetting::Missing(name) => {
            wrong(format!("{}: {unfit}", place(name))).hint(format!("`{name}: {{}}` alone gives the defaults"))
        }
        UnfitSetting::Expected(_) => wrong(format!("{}: {unfit}", place(path))),
        UnfitSetting::Unknown(name, known) => {
            let error = wrong(format!("{}: {unfit}", place(path)));
            if is_secret(name) { error.hint(NO_SECRETS) } else { error.hint(one_of(known)) }
        }
    }
}

fn one_of(known: &[&str]) -> String {
    let names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    format!("expected {}{}", if names.len() > 1 { "one of " } else { "" }, names.join(", "))
}

/// Whether a setting of this name would hold a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "pass", "secret", "token", "pwd", "credential"].iter().any(|word| name.contains(word))
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}
