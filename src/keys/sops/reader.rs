//! One reading of a file: parse, unlock by whatever works, verify, release.
//!
//! Blocking work (files, ciphers) runs on the blocking pool; programs are awaited. Dropping the future at any await
//! kills the program that runs; blocking work ends by itself within milliseconds.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::clock;
use crate::errand;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::keys::place::Place;
use crate::secret::Secret;
use crate::veiled::Veiled;

use super::backend::{self, SopsBackend};
use super::data_key::DataKey;
use super::document::Document;
use super::file::Stamp;
use super::format::SopsFormat;
use super::gcm::Cipher;
use super::identity::{IdentitySources, Loaded};
use super::metadata::{AgeKey, Group};
use super::path::KeyPath;
use super::program::{Program, ProgramEnvironment};
use super::words::words;
use super::{age, exchange, fault::fault, file, gpg, insert, open, ssh, wipe, write};

/// Reads the value at `path` of a SOPS file that is in memory already, by age identities alone.
///
/// Blocks: on the files that `identities` name, and for about a millisecond on ciphers. No program is run.
///
/// ```
/// use strongroom::Secret;
/// use strongroom::keys::sops::{self, AgeIdentity, IdentitySources, SopsFormat};
///
/// # fn main() -> strongroom::Result<()> {
/// let identity = AgeIdentity::generate();
/// let file = sops::encrypt(SopsFormat::Json, &[("db_key", &Secret::new("staple"))], &[identity.recipient()])?;
/// let identities = IdentitySources::none().secret(identity.secret().clone());
/// let key = sops::decrypt(file.as_bytes(), SopsFormat::Json, &"db_key".parse()?, &identities)?;
/// assert_eq!(key.expose(), b"staple");
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::Key`], with the same reasons as [`SopsKeySource`](super::SopsKeySource).
pub fn decrypt(file: &[u8], format: SopsFormat, path: &KeyPath, identities: &IdentitySources) -> Result<Secret> {
    wipe::with_clean_stack(|| {
        let opening = Opening::begin(file, format, path, identities)?.try_identities();
        if opening.is_open() {
            return opening.finish(path);
        }
        Err(opening.locked(&opening.for_the_program(identities)))
    })
}

/// Puts `value` where the value at `path` of a SOPS file in memory is, and gives the text of the file back. All of it
/// that is not the ciphertext of this value, the MAC or the time of the last change stays as it is: order, comments,
/// other values, recipients and the data key.
///
/// Blocks: on the files that `identities` name, and for about a millisecond on ciphers. No program is run.
///
/// ```
/// use strongroom::Secret;
/// use strongroom::keys::sops::{self, AgeIdentity, IdentitySources, SopsFormat};
///
/// # fn main() -> strongroom::Result<()> {
/// let identity = AgeIdentity::generate();
/// let file = sops::encrypt(SopsFormat::Yaml, &[("db_key", &Secret::new("staple"))], &[identity.recipient()])?;
/// let identities = IdentitySources::none().secret(identity.secret().clone());
/// let path = "db_key".parse()?;
///
/// let file = sops::replace(file.as_bytes(), SopsFormat::Yaml, &path, &Secret::new("battery"), &identities)?;
/// assert_eq!(sops::decrypt(file.as_bytes(), SopsFormat::Yaml, &path, &identities)?.expose(), b"battery");
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::Key`], with the same reasons as [`SopsKeySource`](super::SopsKeySource);
/// [`Reason::Exposed`] when the rules of the file leave the value unencrypted, [`Reason::Empty`] for an empty value, and
/// [`Reason::Malformed`] for a raw key. [`ErrorKind::Unsupported`] when a ciphertext cannot be told from the rest of the
/// file, because an editor has broken its line or has copied it.
pub fn replace(
    file: &[u8],
    format: SopsFormat,
    path: &KeyPath,
    value: &Secret,
    identities: &IdentitySources,
) -> Result<String> {
    wipe::with_clean_stack(|| {
        let mut opening = Opening::begin(file, format, path, identities)?.try_identities();
        if !opening.is_open() {
            return Err(opening.locked(&opening.for_the_program(identities)));
        }
        exchange::value(file, format, path, value, &opening.cipher()?)
    })
}

/// What to read, and how.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pub(super) file: Place,
    pub(super) format: Option<SopsFormat>,
    pub(super) backend: SopsBackend,
    pub(super) identities: IdentitySources,
    pub(super) gpg: bool,
    pub(super) program: Option<Veiled<OsString>>,
    pub(super) program_timeout: Duration,
}

/// The text of a file in which a value was changed, and what the file was then.
pub(super) struct Changed {
    pub(super) text: String,
    stamp: Stamp,
}

/// Makes the text of a file with a value at a path.
type Rewrite = fn(&[u8], SopsFormat, &KeyPath, &Secret, &Cipher) -> Result<String>;

/// A file half way: parsed, and opened as far as the identities at hand go.
struct Opening {
    document: Document,
    loaded: Loaded,
    /// The data key, or for each group its share.
    parts: Vec<Option<Zeroizing<Vec<u8>>>>,
}

impl Reader {
    /// Reads the value at `path`.
    pub(super) async fn read(&self, path: &KeyPath) -> Result<Secret> {
        if self.backend == SopsBackend::Binary {
            return self.ask_the_program(&self.begin(path).await?, path).await;
        }
        let opening = tried(self.begin(path).await?).await?;
        let opening = self.unlock(opening).await?;
        if opening.is_open() {
            let path = path.clone();
            return blocking(move || opening.finish(&path)).await;
        }
        let missing = opening.for_the_program(&self.identities);
        if self.backend == SopsBackend::Native || missing.is_empty() {
            return Err(opening.locked(&missing));
        }
        match self.ask_the_program(&opening, path).await {
            Err(error) if error.reason() == Reason::ProgramMissing => {
                Err(opening.locked(&missing).hint("install the `sops` program, or add an age recipient"))
            }
            answer => answer,
        }
    }

    /// Puts `value` where the value at `path` is. Identities and `gpg` open the file, whatever the backend; the `sops` program
    /// is not asked.
    pub(super) async fn replace(&self, path: &KeyPath, value: Secret) -> Result<()> {
        self.write(self.replaced(path, value).await?).await
    }

    /// The file with `value` at `path`, where another one is.
    pub(super) async fn replaced(&self, path: &KeyPath, value: Secret) -> Result<Changed> {
        let opening = tried(self.begin(path).await?).await?;
        self.changed(opening, path, value, exchange::value).await
    }

    /// The file with `value` at `path`, where nothing is.
    pub(super) async fn inserted(&self, path: &KeyPath, value: Secret) -> Result<Changed> {
        let reader = self.clone();
        let opening = blocking(move || {
            let document = Document::parse(&file::read(reader.file.path())?, reader.format())?;
            Ok(Opening::of(document, &reader.identities))
        });
        self.changed(tried(opening.await?).await?, path, value, insert::value).await
    }

    /// Writes over the file, if nobody else has meanwhile.
    pub(super) async fn write(&self, changed: Changed) -> Result<()> {
        let file = self.file.clone();
        blocking(move || write::over(file.path(), changed.text.as_bytes(), &changed.stamp)).await
    }

    async fn changed(&self, opening: Opening, path: &KeyPath, value: Secret, how: Rewrite) -> Result<Changed> {
        let (file, format) = (self.file.clone(), self.format());
        let mut opening = self.unlock(opening).await?;
        if !opening.is_open() {
            return Err(opening.locked(&opening.for_the_program(&self.identities)).hint("let `sops set` do it"));
        }
        let path = path.clone();
        blocking(move || {
            // Before the text is read: what is written in between is noticed.
            let stamp = file::stamp(file.path())?;
            let text = how(&file::read(file.path())?, format, &path, &value, &opening.cipher()?)?;
            Ok(Changed { text, stamp })
        })
        .await
    }

    /// Tries what takes another program: commands that print identities, and `gpg`.
    async fn unlock(&self, opening: Opening) -> Result<Opening> {
        let mut opening = self.run_identity_commands(opening).await?;
        self.run_gpg(&mut opening).await;
        Ok(opening)
    }

    pub(super) fn format(&self) -> SopsFormat {
        self.format.unwrap_or_else(|| SopsFormat::of(self.file.path()))
    }

    async fn begin(&self, path: &KeyPath) -> Result<Opening> {
        let (reader, path) = (self.clone(), path.clone());
        blocking(move || {
            let bytes = file::read(reader.file.path())?;
            Opening::begin(&bytes, reader.format(), &path, &reader.identities)
        })
        .await
    }

    /// Runs the commands that print identities, for each recipient whose group is still closed when its turn comes: a
    /// command may cost a touch of a token, so none runs that is not needed.
    async fn run_identity_commands(&self, mut opening: Opening) -> Result<Opening> {
        for name in self.identities.commands() {
            for recipient in opening.closed_recipients() {
                if !opening.closed_recipients().contains(&recipient) {
                    continue;
                }
                match self.run_identity_command(name, &recipient).await {
                    Ok(text) => opening.loaded.add(name, text),
                    Err(error) => opening.loaded.trouble(name, error),
                }
                opening = tried(opening).await?;
            }
        }
        Ok(opening)
    }

    async fn run_identity_command(&self, name: &str, recipient: &str) -> Result<Zeroizing<Vec<u8>>> {
        let line = std::env::var(name).unwrap_or_default();
        let words = words(&line).ok_or_else(|| fault(Reason::Malformed, "it is not a command line"))?;
        let program =
            Program::new(&words[0], ProgramEnvironment::All, self.identities.directory(), self.program_timeout)
                .env("SOPS_AGE_RECIPIENT", recipient);
        let answer = words[1..].iter().fold(program, Program::arg).run(b"").await?;
        if answer.code == Some(0) { Ok(answer.output) } else { Err(fault(Reason::ProgramFailed, "the command failed")) }
    }

    async fn run_gpg(&self, opening: &mut Opening) {
        let (length, enough) = (opening.part_length(), opening.document.metadata.threshold);
        for (group, part) in opening.document.metadata.groups.iter().zip(0..) {
            for message in &group.pgp {
                if !self.gpg || opening.parts[part].is_some() || opening.parts.iter().flatten().count() >= enough {
                    break;
                }
                match gpg::unwrap(message, self.identities.directory(), self.program_timeout).await {
                    Ok(bytes) if bytes.len() == length => opening.parts[part] = Some(bytes),
                    Ok(_) => opening.loaded.trouble("gpg", "what it decrypted is not a data key"),
                    Err(error) => opening.loaded.trouble("gpg", error),
                }
            }
        }
    }

    async fn ask_the_program(&self, opening: &Opening, path: &KeyPath) -> Result<Secret> {
        let name = self.program.as_ref().map_or(OsStr::new("sops"), |program| &program.0);
        let program =
            Program::new(name, ProgramEnvironment::KeyServices, self.identities.directory(), self.program_timeout);
        let document = &opening.document;
        let program = backend::prepare(program, self.file.path(), document, path, &self.identities, &opening.loaded)?;
        let answer = program.run(b"").await?;
        if answer.code != Some(0) {
            return Err(backend::refused(answer.code));
        }
        backend::accept(document, path, open::locate(document, path)?, answer.output)
    }
}

impl Opening {
    /// Parses, and refuses what cannot be a key before any key is looked for.
    fn begin(bytes: &[u8], format: SopsFormat, path: &KeyPath, sources: &IdentitySources) -> Result<Self> {
        let document = Document::parse(bytes, format)?;
        open::locate(&document, path)?;
        Ok(Self::of(document, sources))
    }

    fn of(document: Document, sources: &IdentitySources) -> Self {
        let parts = document.metadata.groups.iter().map(|_| None).collect();
        Self { document, loaded: sources.load(), parts }
    }

    fn part_length(&self) -> usize {
        if self.document.metadata.groups.len() == 1 { 32 } else { 33 }
    }

    fn is_open(&self) -> bool {
        self.parts.iter().flatten().count() >= self.document.metadata.threshold
    }

    /// Tries all identities on all age keys of the groups that are still closed.
    fn try_identities(mut self) -> Self {
        let length = self.part_length();
        let identities = &self.loaded.identities;
        let open = |key: &AgeKey| age::unwrap(key.armored.as_bytes(), identities).filter(|part| part.len() == length);
        for (group, part) in self.document.metadata.groups.iter().zip(&mut self.parts) {
            if part.is_none() {
                *part = group.age.iter().find_map(open);
            }
        }
        self
    }

    fn finish(mut self, path: &KeyPath) -> Result<Secret> {
        let cipher = self.cipher()?;
        open::open(&self.document, &cipher, path, open::locate(&self.document, path)?)
    }

    /// The cipher of the data key, once enough groups are open.
    fn cipher(&mut self) -> Result<Cipher> {
        let parts = self.parts.iter_mut().filter_map(Option::take).collect();
        DataKey::assemble(&self.document.metadata, parts).map(Cipher::new)
    }

    fn closed_groups(&self) -> impl Iterator<Item = &Group> {
        let groups = self.document.metadata.groups.iter().zip(&self.parts);
        let open = self.is_open();
        groups.filter(move |(_, part)| part.is_none() && !open).map(|(group, _)| group)
    }

    fn closed_recipients(&self) -> Vec<String> {
        self.closed_groups().flat_map(|group| &group.age).map(|key| key.recipient.clone()).collect()
    }

    /// What in the closed groups the `sops` program could open and this crate cannot.
    fn for_the_program(&self, sources: &IdentitySources) -> Vec<String> {
        let mut missing = Vec::new();
        for group in self.closed_groups() {
            missing.extend(group.remote.iter().map(|kind| format!("its `{kind}` key needs the `sops` program")));
            for AgeKey { recipient, .. } in &group.age {
                if let Some(kind) = foreign(recipient).filter(|_| self.loaded.foreign) {
                    missing.push(format!("its {kind} needs the `sops` program"));
                } else if recipient.starts_with("ssh-") && !ssh::NATIVE && sources.any_ssh() {
                    missing.push("its SSH key needs the feature `sops-ssh` or the `sops` program".into());
                }
            }
        }
        missing.dedup();
        missing
    }

    /// The error for "nothing opened it". A key of a kind that this crate cannot use is named even where no identity
    /// for it is at hand, for no other identity will do.
    fn locked(&self, missing: &[String]) -> Error {
        let mut reasons = missing.to_vec();
        if !self.loaded.foreign {
            let recipients = self.closed_groups().flat_map(|group| &group.age);
            reasons.extend(recipients.filter_map(|key| foreign(&key.recipient)).map(|kind| {
                format!("its {kind} needs an identity of that kind and the `sops` program (3.12 or later)")
            }));
            reasons.dedup();
        }
        self.loaded.locked(&reasons)
    }
}

/// With the identities at hand.
async fn tried(opening: Opening) -> Result<Opening> {
    blocking(move || Ok(opening.try_identities())).await
}

/// What kind of recipient it is, if this crate has none of it. `age1`, and the name of the kind between that and a
/// second separator.
fn foreign(recipient: &str) -> Option<String> {
    let (name, _) = recipient.strip_prefix("age1")?.rsplit_once('1')?;
    Some(match name {
        "pq" => "post-quantum age key (`age1pq1...`)".into(),
        _ => format!("plugin age key (`age1{name}1...`)"),
    })
}

/// Runs `work` on the blocking pool, and wipes the stack it ran on.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    clock::present()?;
    let work = errand::send(move || wipe::with_clean_stack(work));
    work.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Key, "the SOPS reader panicked").because(Reason::Panicked)))
}
