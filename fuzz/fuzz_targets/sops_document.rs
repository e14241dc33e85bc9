//! Any bytes as a file of any format: a value or an error, never a panic. The first byte chooses the format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::keys::sops::{IdentitySources, SopsFormat, decrypt};

fuzz_target!(|input: &[u8]| {
    let Some((choice, file)) = input.split_first() else { return };
    let formats = [SopsFormat::Yaml, SopsFormat::Json, SopsFormat::Dotenv, SopsFormat::Ini, SopsFormat::Binary];
    let format = formats[usize::from(*choice) % formats.len()];
    let identities = IdentitySources::none().secret(include_str!("../../tests/vectors/sops/keys.txt"));
    // One that stands in the seed of each format, so that all of them are decrypted too.
    for path in ["db_key", "n", "DB_KEY", "database.key", "data"] {
        let _ = decrypt(file, format, &path.parse().unwrap(), &identities);
    }
});
