//! The key source over a SOPS file: settings, and the cache in front of the reader.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::config::limit::Bounds;
use crate::error::{Error, Reason, Result};
use crate::key::{KeyCandidate, KeySource};
use crate::keys::kept::Cache;
use crate::keys::place::{self, Place};
use crate::keys::settling::offered;
use crate::secret::Secret;
use crate::veiled::Veiled;

use super::backend::SopsBackend;
use super::file::{self, Stamp};
use super::format::SopsFormat;
use super::identity::IdentitySources;
use super::path::KeyPath;
use super::reader::{Reader, blocking};

/// Long enough for a pool to fill, short enough that a secret does not outlive its use by much.
const TTL: Bounds<Duration> =
    Bounds { name: "sops.ttl", default: Duration::from_secs(300), min: Duration::ZERO, max: Duration::from_secs(3600) };

/// Key services answer within seconds; a program that waits for a person would wait for ever.
const TIMEOUT: Bounds<Duration> = Bounds {
    name: "sops.program_timeout",
    default: Duration::from_secs(30),
    min: Duration::from_secs(1),
    max: Duration::from_secs(300),
};

/// Takes a key from a file that [SOPS](https://getsops.io) encrypted: YAML, JSON, dotenv, INI or binary.
///
/// The file is read without the `sops` program if an age identity or a PGP key opens it; other keys need the program
/// (see [`SopsBackend`]). The MAC over the whole file is verified before anything is released.
///
/// A string gives its bytes, a number its shortest decimal digits, a truth value `true` or `false`. A missing path, a
/// mapping, a list, null, an empty string and the `sops` block itself are errors that say what was found where.
///
/// The secret is kept for 300 s (see [`ttl`](Self::ttl)) as long as the file stays the same, and wiped then. Clones
/// share what is kept.
///
/// ```
/// use strongroom::keys::sops::{self, AgeIdentity, SopsFormat};
/// use strongroom::{KeySource, Secret, SopsKeySource};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let secrets = folder.path().join("secrets.yml");
/// let identity = AgeIdentity::generate();
/// let key = Secret::new("correct horse battery staple");
/// let text = sops::encrypt(SopsFormat::Yaml, &[("database_key", &key)], &[identity.recipient()])?;
/// std::fs::write(&secrets, text)?;
///
/// let source = SopsKeySource::new(&secrets, "database_key").identity(identity.secret().clone());
/// assert_eq!(source.resolve().await?.expose(), key.expose());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct SopsKeySource {
    pub(super) reader: Reader,
    key: PathText,
    ttl: Duration,
    cache: Arc<Cache<Stamp>>,
    pub(super) creates: bool,
    pub(super) recipients: Veiled<Vec<String>>,
}

/// The path as it was given: text is parsed when it is needed, so that making a source cannot fail.
#[derive(Clone, Debug)]
enum PathText {
    Text(Veiled<String>),
    Path(KeyPath),
}

impl SopsKeySource {
    /// Reads the value at `key` of the file at `path`; see [`KeyPath`] for what `key` may be. A relative path starts at
    /// the working directory of this moment.
    pub fn new(path: impl Into<PathBuf>, key: impl Into<String>) -> Self {
        Self::within(&place::directory(), &path.into(), key)
    }

    /// The same where `directory` is the working directory.
    pub(in crate::keys) fn within(directory: &Path, path: &Path, key: impl Into<String>) -> Self {
        let reader = Reader {
            file: Place::within(directory, path),
            format: None,
            backend: SopsBackend::Auto,
            identities: IdentitySources::default().within(directory),
            gpg: true,
            program: None,
            program_timeout: TIMEOUT.default,
        };
        Self {
            reader,
            key: PathText::Text(Veiled(key.into())),
            ttl: TTL.default,
            cache: Arc::default(),
            creates: false,
            recipients: Veiled(Vec::new()),
        }
    }

    /// Reads the value at `db_key`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self::new(path, "db_key")
    }

    /// Reads the value at `path` instead, without any syntax of paths.
    pub fn key_path(mut self, path: KeyPath) -> Self {
        self.key = PathText::Path(path);
        self.apart()
    }

    /// Fixes the format instead of going by the end of the file's name.
    pub fn format(mut self, format: SopsFormat) -> Self {
        self.reader.format = Some(format);
        self.apart()
    }

    /// Fixes who opens the file. Default: [`SopsBackend::Auto`].
    pub fn backend(mut self, backend: SopsBackend) -> Self {
        self.reader.backend = backend;
        self.apart()
    }

    /// Adds an age identity to those of the other places.
    pub fn identity(mut self, identity: impl Into<Secret>) -> Self {
        self.reader.identities = self.reader.identities.secret(identity);
        self.apart()
    }

    /// Fixes where identities come from. Default: [`IdentitySources::default`].
    pub fn identities(mut self, identities: IdentitySources) -> Self {
        self.reader.identities = identities;
        self.apart()
    }

    /// Whether `gpg` (or the program that `SOPS_GPG_EXEC` names) may be asked about PGP keys. Default: yes. It runs
    /// with `--batch` and never prompts.
    pub fn gpg(mut self, on: bool) -> Self {
        self.reader.gpg = on;
        self.apart()
    }

    /// Names the `sops` program. Default: `sops` on the `PATH`.
    pub fn program(mut self, program: impl Into<OsString>) -> Self {
        self.reader.program = Some(Veiled(located(program.into())));
        self.apart()
    }

    /// How long a program may take, 1 s to 300 s. Default: 30 s.
    pub fn program_timeout(mut self, timeout: Duration) -> Self {
        self.reader.program_timeout = TIMEOUT.clamp(timeout);
        self.apart()
    }

    /// How long a secret is kept, up to an hour; zero keeps nothing. Default: 300 s.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = TTL.clamp(ttl);
        self.apart()
    }

    /// Whether a new database gets a new value, which is written to the file; false by default, and a missing one is an
    /// error. In a file that is there, the value becomes the last of its mapping (YAML, JSON, and dotenv at the top),
    /// and mappings on the way to it are made; all else stays as it is. A file that is missing is made for the
    /// [`recipients`](Self::recipients), if the path is one name.
    ///
    /// Where the value exists and the database does not, opening fails: it belongs to another database. A database that
    /// exists never gets a new one.
    pub fn create_if_missing(self, create: bool) -> Self {
        Self { creates: create, ..self }
    }

    /// Who can open a file that is made: public keys of age, `age1...`.
    pub fn recipients<R: Into<String>>(self, recipients: impl IntoIterator<Item = R>) -> Self {
        Self { recipients: Veiled(recipients.into_iter().map(Into::into).collect()), ..self }
    }

    /// Parts from the clones of before: what they keep was read by other settings.
    fn apart(mut self) -> Self {
        self.cache = Arc::default();
        self
    }

    /// Puts `value` in place of the value that the file has. Order, comments, every other value, the recipients and the
    /// data key of the file stay as they are, and so do its permissions and its owner; links are followed.
    ///
    /// The file is read and verified first, by identities and `gpg`; the `sops` program is never asked to write. The
    /// new file is written beside it, synced and renamed, so that at every moment the old or the new one is there. Of
    /// two programs that do this at the same time the later one fails, or takes the place of the other.
    ///
    /// A database and the file of its key do not change at the same moment: the new key has to stand in a second file
    /// before the database is encrypted under it. See also [`replace`](super::replace), which has the file in memory.
    ///
    /// # Errors
    /// As [`replace`](super::replace). [`Reason::NotPermitted`](crate::Reason::NotPermitted) and
    /// [`Reason::Io`](crate::Reason::Io) when the file cannot be written; transient if it was changed meanwhile.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the old or the new file.
    pub async fn replace(&self, value: &Secret) -> Result<()> {
        let replaced = async { self.reader.replace(&self.path()?, value.clone()).await };
        replaced.await.map_err(|error: Error| error.context(format!("SOPS file {}", self.reader.file)))
    }

    pub(super) fn path(&self) -> Result<KeyPath> {
        match &self.key {
            PathText::Text(text) => text.0.parse(),
            PathText::Path(path) => Ok(path.clone()),
        }
    }

    async fn cached(&self) -> Result<Secret> {
        let path = self.path()?;
        if self.ttl.is_zero() {
            return self.reader.read(&path).await;
        }
        let _turn = self.cache.turn().await;
        // Taken before reading: if the file changes in between, the stamp is old and the next call reads again.
        let file = self.reader.file.clone();
        let stamp = blocking(move || file::stamp(file.path())).await?;
        if let Some(secret) = self.cache.get(&stamp) {
            return Ok(secret);
        }
        let secret = self.reader.read(&path).await?;
        self.cache.put(stamp, secret.clone(), self.ttl);
        Ok(secret)
    }
}

/// A program by its path, or a name that is looked up in `PATH` when it is run.
fn located(program: OsString) -> OsString {
    let path = Path::new(&program);
    if path.components().count() > 1 { Place::new(path).path().into() } else { program }
}

#[async_trait]
impl KeySource for SopsKeySource {
    async fn resolve(&self) -> Result<Secret> {
        match self.cached().await {
            Err(error) if error.reason() == Reason::Missing => self.unsettled().await.map_err(|_| self.explain(error)),
            found => found.map_err(|error| self.explain(error)),
        }
    }

    fn describe(&self) -> String {
        self.name(&self.reader.file)
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        // The new one first: settled in between, it is found as the present one.
        let next = self.unsettled().await;
        let next = next.map(|secret| KeyCandidate { secret, source: self.name(&self.reader.file.next()) });
        let present = self.cached().await.map_err(|error| self.explain(error));
        offered(present.map(|secret| KeyCandidate { secret, source: self.describe() }), next)
    }

    async fn create(&self) -> Result<Option<Secret>> {
        if !self.creates {
            return Ok(None);
        }
        self.first().await.map(Some).map_err(|error| self.explain(error))
    }

    async fn replace(&self) -> Result<Secret> {
        self.next().await.map_err(|error| self.explain(error))
    }

    async fn settle(&self, secret: &Secret) -> Result<()> {
        self.keep(secret).await.map_err(|error| self.explain(error))
    }

    fn forget(&self) {
        self.cache.forget();
    }
}

impl SopsKeySource {
    fn explain(&self, error: Error) -> Error {
        error.context(format!("SOPS file {}", self.reader.file))
    }

    pub(super) fn name(&self, file: &Place) -> String {
        match &self.key {
            PathText::Text(text) => format!("`{text}` in the SOPS file {file}"),
            PathText::Path(path) => format!("`{path}` in the SOPS file {file}"),
        }
    }
}
