//! Age identities: the private keys that open data keys, and the places they come from.
//!
//! Every place is a switch, all that are on are read, and all identities found are tried. Nothing prompts.

use std::env;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::{Error, Reason, Result, Secret};

use super::{fault, file};

/// An identity of any kind, ready to open stanzas.
pub(super) type BoxedIdentity = Box<dyn age::Identity + Send>;

/// Which age identities are tried. All places that are switched on are read.
///
/// | place | default |
/// |---|---|
/// | [`secret`](Self::secret): given by the caller | as given |
/// | [`file`](Self::file): an identity file | as given |
/// | [`env_key`](Self::env_key): text in `SOPS_AGE_KEY` | on |
/// | [`env_key_file`](Self::env_key_file): the file that `SOPS_AGE_KEY_FILE` names | on |
/// | [`config_dir`](Self::config_dir): `sops/age/keys.txt` in the user's configuration directory | on |
///
/// An identity file has one identity a line; empty lines and lines that start with `#` are skipped. One bad line
/// spoils its whole place, never the others. What goes wrong in one place is told only if no place helps.
#[derive(Clone, Debug)]
pub struct IdentitySources {
    secrets: Vec<Secret>,
    files: Vec<PathBuf>,
    env_key: bool,
    env_key_file: bool,
    config_dir: bool,
}

impl Default for IdentitySources {
    fn default() -> Self {
        Self { env_key: true, env_key_file: true, config_dir: true, ..Self::none() }
    }
}

impl IdentitySources {
    /// No place at all; add what should be tried.
    pub fn none() -> Self {
        Self { secrets: Vec::new(), files: Vec::new(), env_key: false, env_key_file: false, config_dir: false }
    }

    /// Adds identities as text: one `AGE-SECRET-KEY-1...` or a whole identity file.
    pub fn secret(mut self, identity: impl Into<Secret>) -> Self {
        self.secrets.push(identity.into());
        self
    }

    /// Adds an identity file.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Whether to read `SOPS_AGE_KEY`.
    pub fn env_key(mut self, on: bool) -> Self {
        self.env_key = on;
        self
    }

    /// Whether to read the file that `SOPS_AGE_KEY_FILE` names.
    pub fn env_key_file(mut self, on: bool) -> Self {
        self.env_key_file = on;
        self
    }

    /// Whether to read `sops/age/keys.txt` in the user's configuration directory, if it is there.
    pub fn config_dir(mut self, on: bool) -> Self {
        self.config_dir = on;
        self
    }

    /// Reads all places. Blocks on files.
    pub(super) fn load(&self) -> Loaded {
        let mut loaded = Loaded::default();
        for secret in &self.secrets {
            loaded.add("an identity given by the caller", Ok(Zeroizing::new(secret.expose().to_vec())));
        }
        for path in &self.files {
            loaded.add_file(path);
        }
        if self.env_key
            && let Some(text) = env::var_os("SOPS_AGE_KEY")
        {
            loaded.add("SOPS_AGE_KEY", Ok(Zeroizing::new(text.into_encoded_bytes())));
        }
        if self.env_key_file
            && let Some(path) = env::var_os("SOPS_AGE_KEY_FILE")
        {
            loaded.add_file(Path::new(&path));
        }
        if self.config_dir
            && let Some(path) = keys_txt().filter(|path| path.exists())
        {
            loaded.add_file(&path);
        }
        loaded
    }
}

/// What the places gave.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) identities: Vec<BoxedIdentity>,
    /// What went wrong, by place; no content.
    pub(super) troubles: Vec<String>,
    /// Whether there was an identity that only the `sops` program understands.
    pub(super) foreign: bool,
}

impl Loaded {
    fn add_file(&mut self, path: &Path) {
        let text = file::read(path).map_err(|error| error.to_string());
        self.add(&path.display().to_string(), text);
    }

    fn add(&mut self, place: &str, text: Result<Zeroizing<Vec<u8>>, String>) {
        let added = text.and_then(|text| self.parse(&text));
        if let Err(trouble) = added {
            self.troubles.push(format!("{place}: {trouble}"));
        }
    }

    /// Takes all identities of one place, or none.
    fn parse(&mut self, text: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not text")?;
        let mut found: Vec<BoxedIdentity> = Vec::new();
        let mut foreign = false;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            for word in line.split_ascii_whitespace() {
                if word.starts_with("AGE-SECRET-KEY-PQ-1") || word.starts_with("AGE-PLUGIN-") {
                    foreign = true;
                } else {
                    let identity = word.parse::<age::x25519::Identity>();
                    found.push(Box::new(identity.map_err(|_| format!("line {} is not an age identity", number + 1))?));
                }
            }
        }
        if found.is_empty() && !foreign {
            return Err("it holds no identity".into());
        }
        self.identities.append(&mut found);
        self.foreign |= foreign;
        Ok(())
    }

    /// The error for "nothing opened it".
    pub(super) fn locked(&self) -> Error {
        let mut message = String::from("no identity at hand opens it");
        for trouble in &self.troubles {
            message.push_str("; ");
            message.push_str(trouble);
        }
        fault(Reason::Locked, message).hint("give an age identity, or set SOPS_AGE_KEY_FILE")
    }
}

/// `sops/age/keys.txt` below the configuration directory, as Go finds that directory.
fn keys_txt() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = if cfg!(windows) {
        set("AppData")
    } else if cfg!(target_os = "macos") {
        set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join("Library/Application Support")))
    } else {
        // A relative path there is an error in Go, so the place does not exist.
        match set("XDG_CONFIG_HOME") {
            Some(config) => Some(config).filter(|config| config.is_absolute()),
            None => Some(set("HOME")?.join(".config")),
        }
    };
    Some(config?.join("sops/age/keys.txt"))
}
