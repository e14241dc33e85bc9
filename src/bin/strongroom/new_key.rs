//! `strongroom key new`

use std::fmt::Write as _;
use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf, absolute};

use clap::Args;
use strongroom::Secret;
use strongroom::keys::sops::{self, SopsFormat};
use zeroize::Zeroizing;

use crate::failure::ExitCause;
use crate::words::{count, say};

#[derive(Args, Debug)]
pub(crate) struct NewKey {
    /// The SOPS file to make: YAML, or JSON if it ends in .json
    file: PathBuf,
    /// Who can open it: the public key of an age identity; several may be given
    #[arg(long = "age", value_name = "RECIPIENT", required = true)]
    recipients: Vec<String>,
    /// The name of the key in the file
    #[arg(long, value_name = "NAME", default_value = "db_key")]
    name: String,
}

impl NewKey {
    pub(crate) fn run(self) -> Result<(), ExitCause> {
        if self.name.is_empty() || self.name.contains(['.', ':', '[', ']']) {
            let message = format!("{:?} cannot be the name of a key: --key-sops would read it as a path", self.name);
            return Err(ExitCause::Said(message, "take a name without dots, colons and brackets"));
        }
        let is_json = self.file.extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
        let format = if is_json { SopsFormat::Json } else { SopsFormat::Yaml };
        let recipients: Vec<&str> = self.recipients.iter().map(String::as_str).collect();
        let text = sops::encrypt(format, &[(&self.name, &fresh()?)], &recipients)?;
        let cannot = |error: io::Error| {
            let message = format!("{} cannot be written: {error}", self.file.display());
            ExitCause::Said(message, "give the name of a new file in a directory that can be written")
        };
        // Never over a file: the only copy of a key may stand in it.
        let mut file = OpenOptions::new().write(true).create_new(true).open(&self.file).map_err(cannot)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        if let Err(error) = written.and_then(|()| sync_directory(&self.file)) {
            remove_file(&self.file).ok();
            return Err(cannot(error));
        }
        let (file, name) = (self.file.display(), &self.name);
        let who = count(recipients.len() as u64, "recipient");
        say(format_args!("{file}: a new key for {who}"))?;
        Ok(say(format_args!("use it with --key-sops {file}:{name}"))?)
    }
}

/// A name is on the disk when its directory is.
fn sync_directory(file: &Path) -> io::Result<()> {
    let Some(directory) = absolute(file)?.parent().filter(|_| cfg!(unix)).map(Path::to_owned) else { return Ok(()) };
    File::open(directory)?.sync_all()
}

/// 256 random bits, as text: a SOPS file holds text.
fn fresh() -> Result<Secret, ExitCause> {
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *random)
        .map_err(|error| ExitCause::Said(format!("the system gave no random bytes: {error}"), "try again"))?;
    let mut text = Zeroizing::new(String::with_capacity(64));
    for byte in random.iter() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(Secret::new(text))
}
