//! `strongroom backup`, `restore`, `rekey`, `encrypt`, `decrypt`

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use strongroom::database::{BackupOptions, BackupProgress, BackupReport, BackupStage, CheckDepth, RekeyOptions};
use strongroom::sqlcipher::ReplaceOptions;
use strongroom::{KeySource, Reason};

use crate::failure::ExitCause;
use crate::keys::{CopyKeys, NewKeys, Target, one_of, typed};
use crate::probe::{Probe, is_encrypted, probe};
use crate::progress::ProgressLine;
use crate::words::{AnswerForm, bytes, count, say};

#[derive(Args, Debug)]
pub(crate) struct MakeBackup {
    #[command(flatten)]
    target: Target,
    /// Where the copy is to stand
    copy: PathBuf,
    #[command(flatten)]
    form: NewForm,
    /// The copy may take the place of a file
    #[arg(long)]
    replace: bool,
    /// Also looks at every row of the copy
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    answer: AnswerForm,
}

// What a new file is encrypted with; by default the same key. No doc comment: clap would take it for the command.
#[derive(Args, Debug)]
pub(crate) struct NewForm {
    #[command(flatten)]
    new: NewKeys,
    /// The new file is not encrypted
    #[arg(long)]
    plaintext: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Restore {
    #[command(flatten)]
    target: Target,
    /// The copy
    copy: PathBuf,
    #[command(flatten)]
    copy_keys: CopyKeys,
    /// The copy is not encrypted, though the database is to be
    #[arg(long)]
    copy_plaintext: bool,
    /// The database is not encrypted afterwards, though the copy is, or what is replaced
    #[arg(long)]
    plaintext: bool,
    #[command(flatten)]
    kept: KeptOptions,
}

#[derive(Args, Debug)]
pub(crate) struct Rekey {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    new: NewKeys,
    /// The source of the present key makes a fresh one, and keeps that in its place: a key file or a SOPS file
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    answer: AnswerForm,
}

#[derive(Args, Debug)]
pub(crate) struct Encrypt {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    kept: KeptOptions,
}

#[derive(Args, Debug)]
pub(crate) struct Decrypt {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    kept: KeptOptions,
}

#[derive(Args, Debug)]
struct KeptOptions {
    /// Keeps what was there under this name
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// Also looks at every row of the new file
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    answer: AnswerForm,
}

impl KeptOptions {
    fn options(self) -> ReplaceOptions {
        let options = ReplaceOptions::new().check(depth(self.full)).on_progress(shown());
        match self.keep {
            Some(name) => options.keep(name),
            None => options,
        }
    }
}

pub(crate) fn depth(full: bool) -> CheckDepth {
    if full { CheckDepth::Full } else { CheckDepth::Quick }
}

pub(crate) fn shown() -> impl FnMut(BackupProgress) + Send + 'static {
    shown_as("copying")
}

fn shown_as(work: &'static str) -> impl FnMut(BackupProgress) + Send + 'static {
    let mut progress = ProgressLine::new();
    move |now| {
        let what = if now.stage == BackupStage::Check { "verifying" } else { work };
        progress.show(what, now.done, now.total);
    }
}

impl NewForm {
    /// The options of a call that makes a file, with the key of that file, or none.
    pub(crate) fn given<O>(
        &self,
        options: O,
        key: impl FnOnce(O, Box<dyn KeySource>) -> O,
        plaintext: impl FnOnce(O) -> O,
    ) -> Result<O, ExitCause> {
        match (one_of(self.new.named()), self.plaintext) {
            (Some(_), true) => {
                let message = "the new file cannot have a key and be plaintext".into();
                Err(ExitCause::Said(message, "leave one of the two away"))
            }
            (Some(new), false) => Ok(key(options, new)),
            (None, true) => Ok(plaintext(options)),
            (None, false) => Ok(options),
        }
    }
}

fn told(file: &Path, report: &BackupReport, answer: AnswerForm) -> Result<(), ExitCause> {
    let encrypted = if report.encrypted { "encrypted" } else { "not encrypted" };
    let for_programs = json!({
        "file": file, "tables": report.tables, "pages": report.pages, "bytes": report.bytes,
        "encrypted": report.encrypted, "seconds": report.duration.as_secs_f64(),
    });
    Ok(answer.say(&for_programs, || {
        let (tables, size) = (count(report.tables, "table"), bytes(report.bytes));
        say(format_args!("{}: {tables}, {size}, {encrypted}, verified", file.display()))
    })?)
}

/// A key for what is made: named, or typed twice.
fn fresh_key(
    named: Vec<Box<dyn KeySource>>,
    what: &str,
    option: &'static str,
) -> Result<Box<dyn KeySource>, ExitCause> {
    match one_of(named) {
        Some(named) => Ok(named),
        None if std::io::stdin().is_terminal() => typed(&format!("{what}: "), true),
        None => Err(ExitCause::Said(format!("no {what} was given"), option)),
    }
}

impl MakeBackup {
    pub(crate) fn prepare(self) -> Result<impl Future<Output = Result<(), ExitCause>>, ExitCause> {
        let key = self.target.key()?;
        let options = BackupOptions::new().replace(self.replace).check(depth(self.full)).on_progress(shown());
        let options = self.form.given(options, BackupOptions::key, BackupOptions::plaintext)?;
        Ok(async move {
            let db = self.target.builder(key).read_only().open().await?;
            let report = db.backup_with(&self.copy, options).await;
            db.close().await?;
            told(&self.copy, &report?, self.answer)
        })
    }
}

impl Restore {
    pub(crate) fn prepare(self) -> Result<impl Future<Output = Result<(), ExitCause>>, ExitCause> {
        let mut copy_key = one_of(self.copy_keys.named());
        if copy_key.is_some() && self.copy_plaintext {
            let message = "the copy cannot have a key and be plaintext".into();
            return Err(ExitCause::Said(message, "leave one of the two away"));
        }
        let is_alike = copy_key.is_none() && !self.copy_plaintext && is_encrypted(&self.copy);
        let asks = std::io::stdin().is_terminal();
        let key = if is_alike && asks && !self.plaintext {
            // Typed once: opening the copy tells whether it is the right one.
            match self.target.key()? {
                None => Some(self.typed_for_copy()?),
                key => key,
            }
        } else if self.plaintext || self.loses_encryption() {
            self.target.new_key(self.plaintext)?
        } else {
            self.target.key()?
        };
        if is_alike && asks && self.plaintext {
            copy_key = Some(self.typed_for_copy()?);
        }
        let answer = self.kept.answer;
        let mut options = self.kept.options();
        if let Some(copy_key) = copy_key {
            options = options.copy_key(copy_key);
        } else if self.copy_plaintext {
            options = options.copy_plaintext();
        }
        Ok(async move {
            let report = self.target.builder(key).restore_from(&self.copy, options).await.map_err(|error| {
                let hint = match error.reason() {
                    Reason::KeyMissing if self.plaintext => {
                        Some("say where the key of the copy is, as in --copy-key-env")
                    }
                    Reason::NotEncrypted => Some("--copy-plaintext takes a copy that is not encrypted"),
                    _ => None,
                };
                ExitCause::Engine(error, hint)
            })?;
            told(&self.target.database, &report, answer)
        })
    }

    /// Whether something is encrypted now, or was to be, that would not be so in a database without a key.
    fn loses_encryption(&self) -> bool {
        let replaces = matches!(probe(&self.target.database), Probe::PlainHeader | Probe::Opaque { .. });
        replaces || self.copy_plaintext || is_encrypted(&self.copy)
    }

    fn typed_for_copy(&self) -> Result<Box<dyn KeySource>, ExitCause> {
        typed(&format!("passphrase of {}: ", self.copy.display()), false)
    }
}

impl Rekey {
    pub(crate) fn prepare(self) -> Result<impl Future<Output = Result<(), ExitCause>>, ExitCause> {
        let mut options = RekeyOptions::new().on_progress(shown_as("encrypting"));
        let (key, new) = if self.fresh {
            if !self.new.named().is_empty() {
                let message = "a fresh key cannot come from another source".into();
                return Err(ExitCause::Said(message, "leave one of the two away"));
            }
            options = options.fresh();
            let no_source = || ExitCause::Said("no source of the key was named".into(), "name it, as in --key-file");
            (self.target.key()?, one_of(self.target.keys.named()).ok_or_else(no_source)?)
        } else {
            let key = self.target.key()?;
            (
                key,
                fresh_key(self.new.named(), "new passphrase", "name its source, as in --new-key-env, or give --fresh")?,
            )
        };
        let name = new.describe();
        Ok(async move {
            let db = self.target.builder(key).create_if_missing(false).open().await?;
            let report = db.rekey_with(new, options).await;
            db.close().await?;
            let (file, report) = (&self.target.database, report?);
            let seconds = report.duration.as_secs_f64();
            let answer = json!({ "file": file, "pages": report.pages, "key_source": name, "seconds": seconds });
            Ok(self.answer.say(&answer, || {
                let (file, pages) = (file.display(), count(report.pages, "page"));
                say(format_args!("{file}: {pages} written anew, verified; the key is now from {name}"))
            })?)
        })
    }
}

impl Encrypt {
    pub(crate) fn prepare(self) -> Result<impl Future<Output = Result<(), ExitCause>>, ExitCause> {
        let key = fresh_key(self.target.keys.named(), "passphrase", "name its source, as in --key-env")?;
        Ok(async move {
            let answer = self.kept.answer;
            let report = self.target.builder(Some(key)).encrypt(self.kept.options()).await?;
            told(&self.target.database, &report, answer)
        })
    }
}

impl Decrypt {
    pub(crate) fn prepare(self) -> Result<impl Future<Output = Result<(), ExitCause>>, ExitCause> {
        let Some(key) = self.target.key()? else {
            let message = format!("{} has no key, or none was given", self.target.database.display());
            return Err(ExitCause::Said(message, "name the source of its key, as in --key-env"));
        };
        Ok(async move {
            let answer = self.kept.answer;
            let report = self.target.builder(Some(key)).decrypt(self.kept.options()).await?;
            told(&self.target.database, &report, answer)
        })
    }
}
