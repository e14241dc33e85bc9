//! Secrets from files, whatever they are.
// Its files are made private on Windows by what makes identities.
#![cfg(any(not(windows), feature = "sops"))]

#[cfg(windows)]
#[path = "common/rights.rs"]
mod rights;

use std::path::PathBuf;

use proptest::prelude::*;
use strongroom::keys::SecretForm;
use strongroom::{FileKeySource, KeySource, Secret};
use tempfile::TempDir;

fn private(directory: &TempDir, content: &[u8]) -> PathBuf {
    let path = directory.path().join("key");
    std::fs::write(&path, content).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    #[cfg(windows)]
    rights::make_private(&path);
    path
}

fn resolve(source: FileKeySource) -> strongroom::Result<Secret> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async move { source.resolve().await })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_other_byte_is_part_of_the_secret(mut bytes in prop::collection::vec(any::<u8>(), 1..200)) {
        bytes.push(b'x');
        let directory = TempDir::new().unwrap();
        let secret = resolve(FileKeySource::new(private(&directory, &bytes))).unwrap();
        prop_assert_eq!(secret.expose(), bytes);
    }

    #[test]
    fn hex_and_bytes_give_the_same_raw_key(key in any::<[u8; 32]>(), upper: bool) {
        let directory = TempDir::new().unwrap();
        let binary = resolve(FileKeySource::new(private(&directory, &key)).raw_key()).unwrap();
        let hex: String = key.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect();
        let hex = resolve(FileKeySource::new(private(&directory, hex.as_bytes())).raw_key()).unwrap();
        prop_assert_eq!(binary.expose(), &key);
        prop_assert_eq!(hex.expose(), &key);
        prop_assert_eq!((binary.form(), hex.form()), (SecretForm::RawKey, SecretForm::RawKey));
    }
}
