//! Any bytes as an identity file: never a panic, and nothing but the true identity opens the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::keys::sops::{IdentitySources, SopsFormat, decrypt, fuzzing};

const FILE: &[u8] = include_bytes!("../../tests/vectors/sops/good/base.enc.yaml");

fuzz_target!(|text: &[u8]| {
    let identities = IdentitySources::none().secret(text).passphrase("x");
    if let Ok(secret) = decrypt(FILE, SopsFormat::Yaml, &"db_key".parse().unwrap(), &identities) {
        assert_eq!(secret.expose(), b"correct horse battery staple");
    }
    if let Ok(line) = std::str::from_utf8(text) {
        let _ = fuzzing::words(line);
    }
});
