//! Age identities: the private keys that open data keys, and the places they come from.
//!
//! Every place is a switch, all that are on are read, and all identities found are tried. Nothing prompts.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::{Error, Reason, Result};
use crate::keys::{place, place::Place};
use crate::secret::Secret;
use crate::text;
use crate::veiled::holds_a_key;

use super::age::{self, BoxedIdentity, X25519};
use super::passphrase::usable;
use super::{fault::fault, file, ssh};

/// The variables whose commands are run if [`IdentitySources::env_commands`] is on.
const COMMANDS: [&str; 2] = ["SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_CMD"];

/// Which age identities are tried. All places that are switched on are read.
///
/// | place | default |
/// |---|---|
/// | [`secret`](Self::secret): given by the caller | as given |
/// | [`file`](Self::file): an identity file | as given |
/// | [`env_key`](Self::env_key): text in `SOPS_AGE_KEY` | on |
/// | [`env_key_file`](Self::env_key_file): the file that `SOPS_AGE_KEY_FILE` names | on |
/// | [`config_dir`](Self::config_dir): `sops/age/keys.txt` in the user's configuration directory | on |
/// | [`env_ssh_file`](Self::env_ssh_file): the SSH key that `SOPS_AGE_SSH_PRIVATE_KEY_FILE` names | on |
/// | [`env_commands`](Self::env_commands): `SOPS_AGE_KEY_CMD` and `SOPS_AGE_SSH_PRIVATE_KEY_CMD` | off |
/// | [`home_ssh`](Self::home_ssh): `~/.ssh/id_ed25519` and `~/.ssh/id_rsa` | off |
///
/// An identity file has one identity a line; empty lines and lines that start with `#` are skipped. One bad line
/// spoils its whole place, never the others. What goes wrong in one place is told only if no place helps; so is a
/// variable that is set, but empty, which counts as not set. SSH keys need the feature `sops-ssh`. Nothing ever prompts.
///
/// Relative paths, those in variables too, start at the working directory in which the `IdentitySources` were made or
/// [`file`](Self::file) was called.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "they are independent switches")]
pub struct IdentitySources {
    secrets: Vec<Secret>,
    files: Vec<Place>,
    /// Where relative paths in variables start.
    directory: PathBuf,
    passphrase: Option<Secret>,
    env_key: bool,
    env_key_file: bool,
    env_ssh_file: bool,
    env_commands: bool,
    config_dir: bool,
    home_ssh: bool,
}

impl Default for IdentitySources {
    fn default() -> Self {
        Self { env_key: true, env_key_file: true, env_ssh_file: true, config_dir: true, ..Self::none() }
    }
}

impl IdentitySources {
    /// No place at all; add what should be tried.
    pub fn none() -> Self {
        Self {
            secrets: Vec::new(),
            files: Vec::new(),
            directory: place::directory(),
            passphrase: None,
            env_key: false,
            env_key_file: false,
            env_ssh_file: false,
            env_commands: false,
            config_dir: false,
            home_ssh: false,
        }
    }

    /// The same, if these had been made where `directory` was the working directory.
    pub(super) fn within(self, directory: &Path) -> Self {
        Self { directory: directory.to_owned(), ..self }
    }

    /// Adds identities as text: one `AGE-SECRET-KEY-1...`, a whole identity file, or an SSH private key.
    pub fn secret(mut self, identity: impl Into<Secret>) -> Self {
        self.secrets.push(identity.into());
        self
    }

    /// Adds an identity file, or the file of an SSH private key.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(Place::new(path));
        self
    }

    /// Opens identity files that are themselves encrypted with a passphrase (`age -p`), and SSH keys with one.
    ///
    /// A file may ask for scrypt with up to N = 2^22, 4 GiB of memory, as for the `age` program; `age -p` takes 2^18.
    pub fn passphrase(mut self, passphrase: impl Into<Secret>) -> Self {
        self.passphrase = Some(passphrase.into());
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

    /// Whether to read the SSH private key that `SOPS_AGE_SSH_PRIVATE_KEY_FILE` names.
    pub fn env_ssh_file(mut self, on: bool) -> Self {
        self.env_ssh_file = on;
        self
    }

    /// Whether to run the commands in `SOPS_AGE_KEY_CMD` and `SOPS_AGE_SSH_PRIVATE_KEY_CMD`, without a shell, and
    /// take identities from their output. They run only for files that no other identity opens, and find the
    /// recipient in `SOPS_AGE_RECIPIENT`.
    pub fn env_commands(mut self, on: bool) -> Self {
        self.env_commands = on;
        self
    }

    /// Whether to read `sops/age/keys.txt` in the user's configuration directory, if it is there.
    pub fn config_dir(mut self, on: bool) -> Self {
        self.config_dir = on;
        self
    }

    /// Whether to read `~/.ssh/id_ed25519` and `~/.ssh/id_rsa`, if they are there.
    pub fn home_ssh(mut self, on: bool) -> Self {
        self.home_ssh = on;
        self
    }

    /// The variables of commands that may be run and are set.
    pub(super) fn commands(&self) -> impl Iterator<Item = &'static str> {
        let on = self.env_commands;
        COMMANDS.into_iter().filter(move |name| on && set(name).is_some())
    }

    /// The variables that may be read and have or name identities of age.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn variables(&self) -> impl Iterator<Item = &'static str> {
        let names = [(self.env_key, "SOPS_AGE_KEY"), (self.env_key_file, "SOPS_AGE_KEY_FILE")];
        names.into_iter().filter(|(on, _)| *on).map(|(_, name)| name)
    }

    /// The directory at which relative paths in variables start.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether the file of `SOPS_AGE_SSH_PRIVATE_KEY_FILE` may be read.
    pub(super) fn ssh_file(&self) -> bool {
        self.env_ssh_file
    }

    /// Whether SSH keys may be read from anywhere.
    pub(super) fn any_ssh(&self) -> bool {
        self.home_ssh || (self.env_ssh_file && set("SOPS_AGE_SSH_PRIVATE_KEY_FILE").is_some())
    }

    /// Reads all places but the commands. Blocks on files.
    pub(super) fn load(&self) -> Loaded {
        let mut loaded = Loaded { passphrase: self.passphrase.clone(), ..Loaded::default() };
        for secret in &self.secrets {
            loaded.add("an identity given by the caller", Zeroizing::new(secret.expose().to_vec()));
        }
        for place in &self.files {
            loaded.add_file(&place.to_string(), place.path());
        }
        if let Some(text) = loaded.variable(self.env_key, "SOPS_AGE_KEY") {
            loaded.add("SOPS_AGE_KEY", Zeroizing::new(text.into_encoded_bytes()));
        }
        let named = [(self.env_key_file, "SOPS_AGE_KEY_FILE"), (self.env_ssh_file, "SOPS_AGE_SSH_PRIVATE_KEY_FILE")];
        for (on, name) in named {
            if let Some(path) = loaded.variable(on, name) {
                if holds_a_key(&path.to_string_lossy()) {
                    loaded.trouble(name, "it holds a private key, and not the name of a file");
                    continue;
                }
                let place = format!("{name} names {}", Path::new(&path).display());
                loaded.add_file(&place, &self.directory.join(path));
            }
        }
        let keys_txt = keys_txt().filter(|_| self.config_dir);
        let ssh = home().filter(|_| self.home_ssh).map(|home| home.join(".ssh"));
        let ssh = ssh.into_iter().flat_map(|ssh| [ssh.join("id_ed25519"), ssh.join("id_rsa")]);
        for path in keys_txt.into_iter().chain(ssh).filter(|path| path.exists()) {
            loaded.add_file(&path.display().to_string(), &path);
        }
        for name in COMMANDS {
            if loaded.variable(self.env_commands, name).is_none() && set(name).is_some() {
                loaded.trouble(name, "it is set, but a command runs only if IdentitySources::env_commands is on");
            }
        }
        loaded.way_out = match set("SOPS_AGE_KEY_FILE") {
            _ if !self.env_key_file => "give an age identity that it was encrypted for",
            Some(_) => "give an age identity that it was encrypted for, or correct SOPS_AGE_KEY_FILE",
            None => "give an age identity, or set SOPS_AGE_KEY_FILE",
        };
        loaded
    }
}

/// What the places gave.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) identities: Vec<BoxedIdentity>,
    /// The texts of all identities that are not SSH keys, for the `sops` program.
    pub(super) texts: Vec<Zeroizing<Vec<u8>>>,
    /// Why it was no help, by place, should nothing fit; no content.
    pub(super) troubles: Vec<String>,
    /// Whether there is an identity that only the `sops` program understands.
    pub(super) foreign: bool,
    passphrase: Option<Secret>,
    /// What to do when nothing fits.
    way_out: &'static str,
}

impl Loaded {
    /// The value of a variable that may be read and is set to something.
    fn variable(&mut self, on: bool, name: &str) -> Option<OsString> {
        let value = env::var_os(name).filter(|_| on)?;
        if is_blank(&value) {
            self.trouble(name, "it is set, but empty");
            return None;
        }
        Some(value)
    }

    /// Reads the file at `path`; `place` is what people call it.
    fn add_file(&mut self, place: &str, path: &Path) {
        match file::read(path) {
            Ok(text) => self.add(place, text),
            Err(error) => self.trouble(place, error),
        }
    }

    /// Takes all identities of one place, or none.
    pub(super) fn add(&mut self, place: &str, text: Zeroizing<Vec<u8>>) {
        let opened = if is_protected(&text) { self.unprotect(&text) } else { Ok(text) };
        let parsed = opened.and_then(|text| Ok((parse(&text, self.passphrase.as_ref())?, text)));
        match parsed {
            Ok((Parsed::Ssh(identity), _)) => {
                self.trouble(place, "the SSH key does not fit");
                self.identities.push(identity);
            }
            Ok((Parsed::Age { mut identities, foreign }, text)) => {
                if !identities.is_empty() {
                    self.trouble(place, "no identity there fits");
                }
                self.identities.append(&mut identities);
                self.foreign |= foreign;
                self.texts.push(text);
            }
            Err(trouble) => self.trouble(place, trouble),
        }
    }

    pub(super) fn trouble(&mut self, place: &str, what: impl std::fmt::Display) {
        self.troubles.push(format!("{place}: {what}"));
    }

    fn unprotect(&self, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let passphrase = usable(self.passphrase.as_ref())?;
        age::unprotect(text::without_mark(file), passphrase)
    }

    /// The error for "nothing opened it"; `missing` says what else could.
    pub(super) fn locked(&self, missing: &[String]) -> Error {
        let mut message = String::from("no key at hand opens it");
        for trouble in missing.iter().chain(&self.troubles) {
            message.push_str(", ");
            message.push_str(trouble);
        }
        fault(Reason::Locked, message).hint(self.way_out)
    }
}

enum Parsed {
    Age { identities: Vec<BoxedIdentity>, foreign: bool },
    Ssh(BoxedIdentity),
}

fn is_protected(text: &[u8]) -> bool {
    let text = text::without_mark(text);
    text.starts_with(b"age-encryption") || text.trim_ascii_start().starts_with(b"-----BEGIN AGE")
}

fn parse(text: &[u8], passphrase: Option<&Secret>) -> Result<Parsed, String> {
    let text = text::utf8(text).map_err(|what| format!("it is {what}, and not UTF-8 text"))?.trim_start();
    if text.starts_with("-----BEGIN") {
        return ssh::parse(text, passphrase).map(Parsed::Ssh);
    }
    let mut identities: Vec<BoxedIdentity> = Vec::new();
    let mut foreign = false;
    // Old systems end lines in a lone carriage return.
    let lines = text.split(if text.contains('\n') { '\n' } else { '\r' }).map(str::trim).enumerate();
    for (number, line) in lines.filter(|(_, line)| !line.starts_with('#')) {
        for word in line.split_ascii_whitespace() {
            // Post-quantum identities are not read here; where they stand must not spoil the others.
            if word.starts_with("AGE-SECRET-KEY-PQ-1") || word.starts_with("AGE-PLUGIN-") {
                foreign = true;
            } else {
                let identity = X25519::parse(word).ok_or_else(|| format!("line {} is no age identity", number + 1))?;
                identities.push(Box::new(identity));
            }
        }
    }
    if identities.is_empty() && !foreign {
        Err("it holds no identity".into())
    } else {
        Ok(Parsed::Age { identities, foreign })
    }
}

fn set(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !is_blank(value)).map(PathBuf::from)
}

/// An empty variable counts as not set; so does one that holds only white space.
fn is_blank(value: &OsStr) -> bool {
    value.as_encoded_bytes().trim_ascii().is_empty()
}

fn home() -> Option<PathBuf> {
    set(if cfg!(windows) { "USERPROFILE" } else { "HOME" })
}

/// `sops/age/keys.txt` below the configuration directory, as Go finds that directory.
fn keys_txt() -> Option<PathBuf> {
    let config = if cfg!(windows) {
        set("AppData")
    } else if cfg!(target_os = "macos") {
        set("XDG_CONFIG_HOME").or_else(|| Some(home()?.join("Library/Application Support")))
    } else {
        // A relative path there is an error in Go, so the place does not exist.
        match set("XDG_CONFIG_HOME") {
            Some(config) => Some(config).filter(|config| config.is_absolute()),
            None => Some(home()?.join(".config")),
        }
    };
    Some(config?.join("sops/age/keys.txt"))
}
