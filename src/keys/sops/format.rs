//! The five formats of SOPS files.

use std::path::Path;

/// How a SOPS file is written.
///
/// Without being told, the source goes by the end of the file's name, as `sops` does: `.yaml`/`.yml`, `.json`, `.env`,
/// `.ini`; everything else is binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SopsFormat {
    /// YAML, one document or several; paths look into the first.
    Yaml,
    /// JSON.
    Json,
    /// `NAME=value` lines.
    Dotenv,
    /// Sections of `name = value` lines; a path is `section.name`, and `DEFAULT.name` before the first section.
    Ini,
    /// Any file as one value; its path is `data`.
    Binary,
}

impl SopsFormat {
    /// The format that the end of the file's name stands for.
    pub fn of(path: &Path) -> Self {
        let name = path.as_os_str().as_encoded_bytes();
        match () {
            () if name.ends_with(b".yaml") || name.ends_with(b".yml") => Self::Yaml,
            () if name.ends_with(b".json") => Self::Json,
            () if name.ends_with(b".env") => Self::Dotenv,
            () if name.ends_with(b".ini") => Self::Ini,
            () => Self::Binary,
        }
    }

    /// What `sops --input-type` calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Json => "json",
            Self::Dotenv => "dotenv",
            Self::Ini => "ini",
            Self::Binary => "binary",
        }
    }
}
