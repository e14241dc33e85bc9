//! What the command line may say.

use std::pin::Pin;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::check::Check;
use crate::copies::{Decrypt, Encrypt, MakeBackup, Rekey, Restore};
use crate::doctor::Doctor;
use crate::failure::ExitCause;
use crate::migrate::Migrate;
use crate::new_key::NewKey;
use crate::salvage::Salvage;
use crate::sql::Sql;

const EXAMPLES: &str = "\
Keys never stand on the command line. Without a source, the passphrase of an encrypted file is asked for on the terminal.

Examples:
  strongroom doctor app.db --key-env APP_KEY
  strongroom sql app.db --key-sops secrets.yml:db_key 'SELECT * FROM users'
  strongroom backup app.db copies/today.db --key-file app.key
  strongroom rekey app.db --key-env OLD_KEY --new-key-env NEW_KEY

Exit codes: 0 done, 1 fault, 2 wrong usage, 3 no such file, 4 damage found, 5 the key is missing or does not fit,
6 another process is in the way, 130 stopped by Ctrl-C";

/// Looks at, reads, copies and re-encrypts SQLCipher and SQLite databases
#[derive(Parser, Debug)]
#[command(name = "strongroom", version, max_term_width = 100, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Says what a file is, what opens it, who uses it, what is wrong and what helps
    #[command(after_help = "Example:\n  strongroom doctor app.db --key-env APP_KEY --key-env APP_KEY_OF_LAST_YEAR")]
    Doctor(Doctor),
    /// Looks for damage; others may work meanwhile
    #[command(after_help = "Example:\n  strongroom check app.db --full --key-env APP_KEY")]
    Check(Check),
    /// Runs SQL and prints what it answers; only reads unless --write is given
    #[command(after_help = "\
Examples:
  strongroom sql app.db --key-env APP_KEY 'SELECT count(*) FROM users'
  strongroom sql app.db --key-env APP_KEY --csv < report.sql > report.csv
  strongroom sql app.db --key-env APP_KEY --write \"DELETE FROM users WHERE name = 'test'\"")]
    Sql(Sql),
    /// Makes a copy of one moment, under the same key, another or none, and verifies it; others may work meanwhile
    #[command(after_help = "\
Examples:
  strongroom backup app.db copy.db --key-env APP_KEY
  strongroom backup app.db copy.db --key-env APP_KEY --new-key-sops safe.yml:db_key --full")]
    Backup(MakeBackup),
    /// Puts a copy in the place of a database that nobody has open; what was there stays until the copy was verified
    #[command(after_help = "Example:\n  strongroom restore app.db copy.db --key-env APP_KEY --keep app.db.before")]
    Restore(Restore),
    /// Changes the key of a database that no other process has open
    #[command(after_help = "\
Examples:
  strongroom rekey app.db --key-env OLD_KEY --new-key-env NEW_KEY
  strongroom rekey app.db --key-raw-file app.key --fresh

Stopped or killed at any moment, the file opens with the old key or the new one: keep both until the end.")]
    Rekey(Rekey),
    /// Encrypts a file that is not, by a verified copy that takes its place
    #[command(after_help = "Example:\n  strongroom encrypt app.db --key-env APP_KEY --keep app.db.plain")]
    Encrypt(Encrypt),
    /// Stores an encrypted file in plaintext, by a verified copy that takes its place
    #[command(after_help = "Example:\n  strongroom decrypt app.db --key-env APP_KEY")]
    Decrypt(Decrypt),
    /// Copies what can be read of a damaged file into a new one, and says what was lost; the old one stays as it is
    #[command(after_help = "\
Examples:
  strongroom salvage app.db saved.db --key-env APP_KEY
  strongroom salvage app.db saved.db --key-env APP_KEY --salt-from copies/last.db")]
    Salvage(Salvage),
    /// Brings the schema to the newest version, from a folder of numbered .sql files
    #[command(after_help = "\
Examples:
  strongroom migrate app.db migrations --key-env APP_KEY --plan
  strongroom migrate app.db migrations --key-env APP_KEY")]
    Migrate(Migrate),
    /// Keys
    #[command(subcommand, arg_required_else_help = true)]
    Key(Key),
    /// Prints the completions of a shell
    #[command(after_help = "Example:\n  strongroom completions bash > /etc/bash_completion.d/strongroom")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Key {
    /// Writes a fresh key into a new SOPS file, and shows it to nobody
    #[command(after_help = "Example:\n  strongroom key new secrets.yml --age age1x3... --age age1k9...")]
    New(NewKey),
}

/// What a command does once everything was asked.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<(), ExitCause>>>>;

impl Command {
    /// Asks for what a person has to type.
    pub(crate) fn prepare(self) -> Result<Work, ExitCause> {
        Ok(match self {
            Self::Doctor(command) => Box::pin(command.prepare()?),
            Self::Check(command) => Box::pin(command.prepare()?),
            Self::Sql(command) => Box::pin(command.prepare()?),
            Self::Backup(command) => Box::pin(command.prepare()?),
            Self::Restore(command) => Box::pin(command.prepare()?),
            Self::Rekey(command) => Box::pin(command.prepare()?),
            Self::Encrypt(command) => Box::pin(command.prepare()?),
            Self::Decrypt(command) => Box::pin(command.prepare()?),
            Self::Salvage(command) => Box::pin(command.prepare()?),
            Self::Migrate(command) => Box::pin(command.prepare()?),
            Self::Key(Key::New(command)) => Box::pin(std::future::ready(command.run())),
            // Told before.
            Self::Completions { .. } => Box::pin(std::future::ready(Ok(()))),
        })
    }
}
