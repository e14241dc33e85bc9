//! Reading the settings from a file and from the environment.
//!
//! The `config` crate parses; its messages, and serde's, may quote what they stumble over, so only their places and
//! expectations are passed on.

use std::io::Read;
use std::path::Path;

use config::{ConfigError, Environment, File, FileFormat, Map, Source, Value, ValueKind};
use serde::Deserialize;

use super::DatabaseConfig;
use super::unique::is_unique;
use crate::error::{Error, ErrorKind, Reason, Result};

/// A dozen settings and all their comments fit many times.
const LARGEST: u64 = 16 * 1024;

const PREFIX: &str = "STRONGROOM_DB";

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
    /// [`ErrorKind::Config`] naming the file, the setting and what fits there; never what was found there.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut tree = parse(path)?;
        read(tree.clone(), &|key| format!("{}: {key}", path.display()))?;
        let overrides = environment()?;
        read(overrides.clone(), &variable)?;
        merge(&mut tree, overrides);
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

type Table = Map<String, Value>;

fn variable(key: &str) -> String {
    let name = key.to_uppercase().replace('.', "__");
    format!("environment variable STRONGROOM_{name}")
}

/// The tree in a file.
fn parse(path: &Path) -> Result<Table> {
    let shown = path.display();
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default().to_ascii_lowercase();
    let (format, name) = match suffix.as_str() {
        "yml" | "yaml" => (FileFormat::Yaml, "YAML"),
        "toml" => (FileFormat::Toml, "TOML"),
        "json" => (FileFormat::Json, "JSON"),
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
    let text = crate::text::utf8(&bytes).map_err(|what| {
        let error = wrong(format!("{shown} is {what}")).because(Reason::Malformed);
        error.hint("save it as UTF-8")
    })?;
    if format == FileFormat::Yaml {
        refuse_yaml_traps(text).map_err(|error| error.context(&shown))?;
    }
    let tree = File::from_str(text, format).collect().map_err(|error| {
        let position = position(&error.to_string());
        wrong(format!("{shown} is not valid {name}{position}")).because(Reason::Malformed)
    })?;
    // The parsers of YAML and TOML see to it themselves.
    if format == FileFormat::Json && !is_unique(text) {
        return Err(wrong(format!("{shown} has a setting twice")).because(Reason::Malformed));
    }
    Ok(tree)
}

/// Refuses what could make the YAML parser use up the memory (aliases of aliases) or the stack (`- - - -`). Comments are
/// not spared, for telling them from quoted text would take the parser itself.
fn refuse_yaml_traps(text: &str) -> Result<()> {
    for (number, line) in text.split(['\n', '\r']).enumerate() {
        let code = line.trim_start().trim_start_matches("---").trim_start();
        let nests = code.strip_prefix(['-', '?']).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        let anchors = code.match_indices(['&', '*']).any(|(at, _)| {
            let (before, after) = (&code[..at], &code[at + 1..]);
            (before.is_empty() || before.ends_with([' ', '\t', ',', '[', '{', ':'])) && !after.starts_with([' ', '\t'])
        });
        if nests || anchors {
            let message = format!("line {} has a list, an anchor or an alias", number + 1);
            return Err(wrong(message).hint("the settings need none; no word may begin with & or *"));
        }
    }
    Ok(())
}

/// The position in a parser's message. Nothing else of it can be trusted not to quote the file.
fn position(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.find("line ").map_or_else(String::new, |start| format!(": see {}", &line[start..]))
}

/// The tree in the environment.
fn environment() -> Result<Table> {
    let variables = Environment::with_prefix(PREFIX).separator("__").collect();
    let variables = variables.map_err(|_| wrong(format!("an environment variable {PREFIX}__* is not Unicode")))?;
    let mut settings = Table::new();
    for (key, value) in variables {
        let empty = matches!(&value.kind, ValueKind::String(text) if text.trim().is_empty());
        let value = if empty { Value::new(None, ValueKind::Nil) } else { value };
        let tree = key.rsplit('.').fold(value, |value, name| Table::from([(name.to_owned(), value)]).into());
        if let ValueKind::Table(tree) = tree.kind {
            merge(&mut settings, tree);
        }
    }
    Ok(Table::from([("db".to_owned(), settings.into())]))
}

/// Lays one tree over another; the upper one wins where it says something.
fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key).map(|value| &mut value.kind), value.kind) {
            (Some(ValueKind::Table(below)), ValueKind::Table(above)) => merge(below, above),
            (Some(_), ValueKind::Nil) => {}
            (_, kind) => {
                below.insert(key, Value::new(None, kind));
            }
        }
    }
}

/// Settings from a tree; `place` names a key of it for people.
fn read(tree: Table, place: &dyn Fn(&str) -> String) -> Result<DatabaseConfig> {
    Root::deserialize(Value::new(None, tree)).map(|root| root.db).map_err(|error| explain(error, place))
}

fn explain(error: ConfigError, place: &dyn Fn(&str) -> String) -> Error {
    match error {
        ConfigError::At { error, key, .. } => explain_message(&error.to_string(), key.as_deref(), place),
        ConfigError::Type { expected, key, .. } => {
            wrong(format!("{}: expected {expected}", place(key.as_deref().unwrap_or("db"))))
        }
        ConfigError::NotFound(key) => wrong(format!("{}: there is no such section", place(&key)))
            .hint(format!("`{key}: {{}}` alone gives the defaults")),
        other => explain_message(&other.to_string(), None, place),
    }
}

/// serde's message is `<what was found>, expected <what fits>`; what was found stays here unless it is a name.
fn explain_message(message: &str, section: Option<&str>, place: &dyn Fn(&str) -> String) -> Error {
    let expected = message.rsplit_once(", expected ").map_or("another value", |(_, expected)| expected);
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
    let Some((name, _)) = unknown else {
        return wrong(format!("{}: expected {expected}", place(section.unwrap_or("db"))));
    };
    let key = section.map_or_else(|| name.to_owned(), |section| format!("{section}.{name}"));
    let error = wrong(format!("{}: there is no such setting", place(&key)));
    if is_secret(name) { error.hint(NO_SECRETS) } else { error.hint(format!("expected {expected}")) }
}

/// Whether a setting of this name would hold a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "pass", "secret", "token", "pwd", "credential"].iter().any(|word| name.contains(word))
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}
