//! The key source over a SOPS file.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::{Error, KeySource, Reason, Result, Secret};

use super::data_key::DataKey;
use super::document::Document;
use super::format::SopsFormat;
use super::identity::{IdentitySources, Loaded};
use super::path::KeyPath;
use super::{age_key, fault, file, open, wipe};

/// Takes a key from a file that [SOPS](https://getsops.io) encrypted.
#[derive(Clone, Debug)]
pub struct SopsKeySource {
    settings: Arc<Settings>,
}

#[derive(Clone, Debug)]
struct Settings {
    file: PathBuf,
    key: String,
    format: Option<SopsFormat>,
    identities: IdentitySources,
}

impl SopsKeySource {
    /// Reads the value at `key` (see [`KeyPath`]) of the file at `path`.
    pub fn new(path: impl Into<PathBuf>, key: impl Into<String>) -> Self {
        let identities = IdentitySources::default();
        let settings = Settings { file: path.into(), key: key.into(), format: None, identities };
        Self { settings: Arc::new(settings) }
    }

    /// Reads the value at `db_key`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self::new(path, "db_key")
    }

    /// Fixes the format instead of going by the file's name.
    pub fn format(mut self, format: SopsFormat) -> Self {
        self.edit().format = Some(format);
        self
    }

    /// Adds an age identity to those of the environment.
    pub fn identity(mut self, identity: impl Into<Secret>) -> Self {
        let settings = self.edit();
        settings.identities = settings.identities.clone().secret(identity);
        self
    }

    /// Fixes where identities come from.
    pub fn identities(mut self, identities: IdentitySources) -> Self {
        self.edit().identities = identities;
        self
    }

    fn edit(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

#[async_trait]
impl KeySource for SopsKeySource {
    async fn resolve(&self) -> Result<Secret> {
        let settings = Arc::clone(&self.settings);
        let work = tokio::task::spawn_blocking(move || wipe::with_clean_stack(|| settings.resolve()));
        work.await.unwrap_or_else(|_| Err(Error::panicked("SOPS reader")))
    }

    fn describe(&self) -> String {
        format!("`{}` in the SOPS file {}", self.settings.key, self.settings.file.display())
    }
}

impl Settings {
    fn resolve(&self) -> Result<Secret> {
        self.read().map_err(|error| error.context(format!("SOPS file {}", self.file.display())))
    }

    fn read(&self) -> Result<Secret> {
        let path: KeyPath = self.key.parse()?;
        let bytes = file::read(&self.file)?;
        let document = Document::parse(&bytes, self.format.unwrap_or_else(|| SopsFormat::of(&self.file)))?;
        let target = open::locate(&document, &path)?;
        let loaded = self.identities.load();
        let parts = unlock(&document, &loaded);
        let enough = parts.iter().flatten().count() >= document.metadata.threshold;
        if !enough {
            return Err(loaded.locked());
        }
        let key = DataKey::assemble(&document.metadata, parts.into_iter().flatten().collect())?;
        open::open(&document, key, &path, target)
    }
}

/// Tries all age keys of each group.
fn unlock(document: &Document, loaded: &Loaded) -> Vec<Option<Zeroizing<Vec<u8>>>> {
    let groups = &document.metadata.groups;
    let length = if groups.len() == 1 { 32 } else { 33 };
    let open = |armored: &str| age_key::unwrap(armored, &loaded.identities).filter(|part| part.len() == length);
    groups.iter().map(|group| group.age.iter().find_map(|key| open(&key.armored))).collect()
}
