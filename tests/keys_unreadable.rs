//! Files that cannot be read, for each of several reasons: a key file, a SOPS file and a file of identities say which,
//! to a process without privileges.
#![cfg(all(feature = "sops", target_os = "linux"))]

#[path = "common/unprivileged.rs"]
mod unprivileged;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsBackend, SopsFormat, encrypt};
use strongroom::{Error, FileKeySource, KeySource, Reason, Secret, SopsKeySource};
use unprivileged::{allow, here, is_child, parent};

const NAME: &str = "a_file_that_cannot_be_read_says_why";

/// The names of what cannot be read.
const CASES: [(&str, Reason); 6] = [
    ("directory", Reason::NotAFile),
    ("dangling", Reason::Missing),
    ("loop", Reason::Io),
    ("hidden", Reason::NotPermitted),
    ("locked/inside", Reason::NotPermitted),
    ("hidden/inside", Reason::Io),
];

fn furnish(folder: &Path) {
    fs::create_dir(folder.join("directory")).unwrap();
    symlink(folder.join("nowhere"), folder.join("dangling")).unwrap();
    symlink(folder.join("loop"), folder.join("loop")).unwrap();
    fs::write(folder.join("hidden"), "secret").unwrap();
    fs::create_dir(folder.join("locked")).unwrap();
    fs::write(folder.join("locked/inside"), "secret").unwrap();
    for name in ["hidden", "locked"] {
        allow(&folder.join(name), 0o000);
    }
    let other = AgeIdentity::generate();
    let file = encrypt(SopsFormat::Yaml, &[("db_key", &Secret::new("value"))], &[other.recipient()]).unwrap();
    fs::write(folder.join("s.yaml"), file).unwrap();
    allow(folder, 0o755);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_says_why() {
    if is_child() {
        return child(&here()).await;
    }
    let folder = tempfile::tempdir().unwrap();
    furnish(folder.path());
    parent(NAME, folder.path());
    allow(&folder.path().join("locked"), 0o700);
}

async fn child(folder: &Path) {
    let refusal = async |source: &dyn KeySource| source.resolve().await.expect_err("nothing can be read there");
    for (name, reason) in CASES {
        let path = folder.join(name);
        let named = |error: &Error| error.to_string().contains(path.to_str().unwrap());
        let error = refusal(&FileKeySource::new(&path)).await;
        assert!(error.reason() == reason && named(&error), "{name}: {error:?}");
        let error = refusal(&SopsKeySource::at(&path)).await;
        assert!(error.reason() == reason && named(&error), "{name}: {error:?}");
        // Of identities only the place is told, and why it was no help.
        let source = SopsKeySource::at(folder.join("s.yaml")).backend(SopsBackend::Native);
        let error = refusal(&source.identities(IdentitySources::none().file(&path))).await;
        let why = match reason {
            Reason::NotAFile => "it is not a regular file",
            Reason::Missing => "the file does not exist",
            Reason::NotPermitted => "the file may not be read",
            _ => "the file cannot be read",
        };
        let said = format!("{}: {why}", path.display());
        assert!(error.reason() == Reason::Locked && error.to_string().contains(&said), "{name}: {error:?}");
    }
}
