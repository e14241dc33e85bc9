//! Where the key is: what the command line says, as sources of the library. The key itself is never an argument.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use strongroom::keys::CandidateKeySource;
use strongroom::sqlcipher::Tuning;
use strongroom::{
    AsyncDatabase, CommandKeySource, DatabaseBuilder, EnvKeySource, FileKeySource, KeySource, PassphraseKeySource,
    SopsKeySource, SqlCipherConnector,
};

use crate::failure::ExitCause;
use crate::keyring;
use crate::probe::{Probe, is_encrypted, probe};
use crate::prompt;

/// The same options under two names: of the key that the file has, and of another one.
macro_rules! sources {
    ($name:ident, $prefix:literal, $heading:literal) => {
        #[derive(Args, Clone, Debug, Default)]
        pub(crate) struct $name {
            /// The environment variable that holds the passphrase
            #[arg(id = concat!($prefix, "key-env"), long = concat!($prefix, "key-env"), value_name = "NAME", help_heading = $heading)]
            env: Vec<String>,
            /// The SOPS file that holds it, and where: `secrets.yml:path.to.key`; without a path, at `db_key`
            #[arg(id = concat!($prefix, "key-sops"), long = concat!($prefix, "key-sops"), value_name = "FILE[:PATH]", help_heading = $heading)]
            sops: Vec<String>,
            /// The file with the passphrase, which only its owner may read
            #[arg(id = concat!($prefix, "key-file"), long = concat!($prefix, "key-file"), value_name = "FILE", help_heading = $heading)]
            file: Vec<PathBuf>,
            /// The file with a raw key: 32 bytes, or 64 hex digits
            #[arg(id = concat!($prefix, "key-raw-file"), long = concat!($prefix, "key-raw-file"), value_name = "FILE", help_heading = $heading)]
            raw_file: Vec<PathBuf>,
            /// The entry of the system's keyring that holds the passphrase (a build with the feature `keyring`)
            #[arg(id = concat!($prefix, "key-keyring"), long = concat!($prefix, "key-keyring"), value_name = "SERVICE/USER", help_heading = $heading)]
            keyring: Vec<String>,
            /// The entry that holds a raw key, as 64 hex digits
            #[arg(id = concat!($prefix, "key-raw-keyring"), long = concat!($prefix, "key-raw-keyring"), value_name = "SERVICE/USER", help_heading = $heading)]
            raw_keyring: Vec<String>,
            /// The program that prints the passphrase, with its arguments, split at spaces
            #[arg(id = concat!($prefix, "key-program"), long = concat!($prefix, "key-program"), value_name = "COMMAND", help_heading = $heading)]
            program: Vec<String>,
        }

        impl $name {
            /// All that were named.
            pub(crate) fn named(&self) -> Vec<Box<dyn KeySource>> {
                let mut sources = all(&self.env, &self.sops, &self.file, &self.raw_file, &self.program);
                sources.extend(self.keyring.iter().map(|place| keyring::source(place, false)));
                sources.extend(self.raw_keyring.iter().map(|place| keyring::source(place, true)));
                sources
            }
        }
    };
}

sources!(Keys, "", "Key of the database (several may be named; the one that fits is taken)");
sources!(NewKeys, "new-", "New key");
sources!(CopyKeys, "copy-", "Key of the copy, if it is another one");

fn all(
    env: &[String],
    sops: &[String],
    file: &[PathBuf],
    raw_file: &[PathBuf],
    program: &[String],
) -> Vec<Box<dyn KeySource>> {
    let mut sources: Vec<Box<dyn KeySource>> = Vec::new();
    sources.extend(env.iter().map(|name| Box::new(EnvKeySource::new(name)) as Box<dyn KeySource>));
    sources.extend(sops.iter().map(|place| Box::new(sops_source(place)) as Box<dyn KeySource>));
    sources.extend(file.iter().map(|path| Box::new(FileKeySource::new(path)) as Box<dyn KeySource>));
    sources.extend(raw_file.iter().map(|path| Box::new(FileKeySource::new(path).raw_key()) as Box<dyn KeySource>));
    sources.extend(program.iter().map(|command| Box::new(program_source(command)) as Box<dyn KeySource>));
    sources
}

fn sops_source(place: &str) -> SopsKeySource {
    match place.rsplit_once(':') {
        Some((file, key)) if !Path::new(place).exists() && !file.is_empty() => SopsKeySource::new(file, key),
        _ => SopsKeySource::at(place),
    }
}

fn program_source(command: &str) -> CommandKeySource {
    let mut words = command.split_whitespace();
    CommandKeySource::new(words.next().unwrap_or_default()).args(words)
}

/// One source of all that were named; `None` if none was.
pub(crate) fn one_of(sources: Vec<Box<dyn KeySource>>) -> Option<Box<dyn KeySource>> {
    let mut sources = sources.into_iter();
    let first = sources.next()?;
    match sources.next() {
        None => Some(first),
        Some(second) => {
            let both = CandidateKeySource::new(first).or(second);
            Some(Box::new(sources.fold(both, CandidateKeySource::or)))
        }
    }
}

/// A passphrase that the person at the terminal types; twice if nothing tells whether it is the right one.
pub(crate) fn typed(question: &str, twice: bool) -> Result<Box<dyn KeySource>, ExitCause> {
    let first = prompt::ask(question)?;
    if twice && prompt::ask("the same once more: ")?.expose() != first.expose() {
        return Err(ExitCause::Said("the two passphrases are not the same".into(), "type it again"));
    }
    Ok(Box::new(PassphraseKeySource::new(first)))
}

/// The file that a command is about.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// The database file
    pub(crate) database: PathBuf,
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// The version of SQLCipher's format, 1 to 4, for files of older programs
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u8).range(1..=4))]
    pub(crate) cipher_compatibility: Option<u8>,
    /// How many rounds made the key from the passphrase, for files of programs that set `kdf_iter`
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) kdf_iterations: Option<u32>,
    /// The size of a page, for files of programs that set `cipher_page_size`: a power of two from 1024 to 65536
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1024..=65_536))]
    pub(crate) page_size: Option<u32>,
    /// How long to wait for another process that is in the way
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) wait: u32,
}

impl Target {
    /// A passphrase for a look at the file, where somebody can type one; nothing typed is none.
    pub(crate) fn passphrase(&self) -> Result<Option<Box<dyn KeySource>>, ExitCause> {
        let asks = self.keys.named().is_empty() && is_encrypted(&self.database) && std::io::stdin().is_terminal();
        if !asks {
            return Ok(None);
        }
        let question = format!("passphrase of {} (Enter for none): ", self.database.display());
        let typed = prompt::ask(&question)?;
        Ok((!typed.is_empty()).then(|| Box::new(PassphraseKeySource::new(typed)) as Box<dyn KeySource>))
    }

    /// The key: from the sources that were named, or typed where somebody can, and the file needs one.
    pub(crate) fn key(&self) -> Result<Option<Box<dyn KeySource>>, ExitCause> {
        if let Some(named) = one_of(self.keys.named()) {
            return Ok(Some(named));
        }
        if is_encrypted(&self.database) && std::io::stdin().is_terminal() {
            return typed(&format!("passphrase of {}: ", self.database.display()), false).map(Some);
        }
        Ok(None)
    }

    /// The key of what is to stand at the path, which nothing there can confirm: named, or typed twice. `None` only if that
    /// was said.
    pub(crate) fn new_key(&self, plaintext: bool) -> Result<Option<Box<dyn KeySource>>, ExitCause> {
        let what = match probe(&self.database) {
            Probe::Missing => "the new database".to_owned(),
            _ => self.database.display().to_string(),
        };
        match (one_of(self.keys.named()), plaintext) {
            (Some(_), true) => {
                let message = format!("{what} cannot have a key and be plaintext");
                Err(ExitCause::Said(message, "leave one of the two away"))
            }
            (Some(named), false) => Ok(Some(named)),
            (None, true) => Ok(None),
            (None, false) if std::io::stdin().is_terminal() => {
                typed(&format!("passphrase of {what}: "), true).map(Some)
            }
            (None, false) => {
                let message = format!("no key was given for {what}");
                Err(ExitCause::Said(message, "name its source, as in --key-env, or give --plaintext"))
            }
        }
    }

    /// The builder of an existing database, of which a few connections are enough.
    pub(crate) fn builder(&self, key: Option<Box<dyn KeySource>>) -> DatabaseBuilder<SqlCipherConnector> {
        let tuning = Tuning::default().busy_timeout(Duration::from_secs(self.wait.into()));
        let mut builder = AsyncDatabase::builder(&self.database).pool_max(2).max_retries(1).tuning(tuning);
        if let Some(key) = key {
            builder = builder.key(key);
        }
        if let Some(version) = self.cipher_compatibility {
            builder = builder.cipher_compatibility(version);
        }
        if let Some(rounds) = self.kdf_iterations {
            builder = builder.cipher_kdf_iter(rounds);
        }
        match self.page_size {
            Some(bytes) => builder.cipher_page_size(bytes),
            None => builder,
        }
    }
}
