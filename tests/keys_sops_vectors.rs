//! Every file that the real program made, and every alteration of one, gets the answer that `manifest.json` says.
#![cfg(feature = "sops")]

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use strongroom::keys::sops::IdentitySources;
use strongroom::{ErrorKind, KeySource, SopsKeySource};

fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sops")
}

fn expected(entry: &serde_json::Value) -> Result<Vec<u8>, String> {
    let field = |name: &str| entry[name].as_str();
    match (field("value"), field("base64"), field("refused")) {
        (Some(text), None, None) => Ok(text.as_bytes().to_vec()),
        (None, Some(packed), None) => Ok(STANDARD.decode(packed).unwrap()),
        (None, None, Some(reason)) => Err(reason.to_owned()),
        other => panic!("the manifest has an entry of another form: {other:?}"),
    }
}

fn identities(ssh: bool) -> IdentitySources {
    let keys = vectors().join("keys");
    if ssh {
        return IdentitySources::none().file(keys.join("id_ed25519")).file(keys.join("id_rsa"));
    }
    IdentitySources::none().file(vectors().join("keys.txt"))
}

#[tokio::test]
async fn every_vector_gets_its_verdict() {
    let manifest = fs::read_to_string(vectors().join("manifest.json")).unwrap();
    let manifest: Vec<serde_json::Value> = serde_json::from_str(&manifest).unwrap();
    assert!(manifest.len() > 130, "the manifest was cut");
    let mut wrong = Vec::new();
    // PGP keys are in `keys_sops_program.rs`, for they need a program.
    for entry in manifest.iter().filter(|entry| entry["needs"] != "gpg") {
        let (file, path) = (entry["file"].as_str().unwrap(), entry["path"].as_str().unwrap());
        let source = SopsKeySource::new(vectors().join(file), path).identities(identities(entry["needs"] == "ssh"));
        let answer = match source.resolve().await {
            Ok(secret) => Ok(secret.expose().to_vec()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Key, "{error}");
                Err(format!("{:?}", error.reason()))
            }
        };
        let mut expected = expected(entry);
        if entry["needs"] == "ssh" && !cfg!(feature = "sops-ssh") {
            expected = Err("Locked".into());
        }
        if answer != expected {
            wrong.push(format!("{file} at {path}: {answer:?} instead of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), manifest.len(), wrong.join("\n"));
}
