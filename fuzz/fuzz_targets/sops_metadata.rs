//! Any text as the metadata of a file whose values are true, in each of the places where formats have it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::keys::sops::{IdentitySources, SopsFormat, decrypt};

const BASE: &str = include_str!("../../tests/vectors/sops/good/base.enc.yaml");

fuzz_target!(|block: &str| {
    let identities = IdentitySources::none().secret(include_str!("../../tests/vectors/sops/keys.txt"));
    let path = "db_key".parse().unwrap();
    let values = &BASE[..BASE.find("sops:\n").unwrap()];
    let indented = block.replace('\n', "\n    ");
    if let Ok(secret) = decrypt(format!("{values}sops:\n    {indented}\n").as_bytes(), SopsFormat::Yaml, &path, &identities) {
        assert_eq!(secret.expose(), b"correct horse battery staple");
    }
    let flat = block.replace('\n', "\nsops_");
    let _ = decrypt(format!("db_key=x\nsops_{flat}\n").as_bytes(), SopsFormat::Dotenv, &path, &identities);
    let _ = decrypt(format!("[db]\nkey = x\n[sops]\n{block}\n").as_bytes(), SopsFormat::Ini, &"db.key".parse().unwrap(), &identities);
});
