//! A valid file with alterations: the true value or an error, never another value.
//!
//! The first byte chooses the file, then each alteration takes a kind, two places and a byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::keys::sops::{IdentitySources, SopsFormat, decrypt};

const FILES: [(SopsFormat, &str, &[u8], &[u8]); 7] = [
    (SopsFormat::Yaml, "db_key", b"correct horse battery staple", include_bytes!("../../tests/vectors/sops/good/base.enc.yaml")),
    (SopsFormat::Yaml, "db_key", b"correct horse battery staple", include_bytes!("../../tests/vectors/sops/good/mac_only.enc.yaml")),
    (SopsFormat::Yaml, "db_key", b"correct horse battery staple", include_bytes!("../../tests/vectors/sops/good/shamir_2_of_3.enc.yaml")),
    (SopsFormat::Yaml, "a", b"one", include_bytes!("../../tests/vectors/sops/good/encrypted_comment.enc.yaml")),
    (SopsFormat::Json, "l.1.1.k", b"v", include_bytes!("../../tests/vectors/sops/good/types.enc.json")),
    (SopsFormat::Dotenv, "DB_KEY", b"dotenv key", include_bytes!("../../tests/vectors/sops/good/types.enc.env")),
    (SopsFormat::Ini, "database.key", b"ini key", include_bytes!("../../tests/vectors/sops/good/types.enc.ini")),
];

fuzz_target!(|input: &[u8]| {
    let Some((choice, steps)) = input.split_first() else { return };
    let (format, path, value, file) = FILES[usize::from(*choice) % FILES.len()];
    let mut file = file.to_vec();
    for step in steps.chunks_exact(6).take(8) {
        let place = |bytes: &[u8], end: usize| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % end.max(1);
        let (one, two) = (place(&step[1..3], file.len()), place(&step[3..5], file.len()));
        match step[0] % 6 {
            0 => file[one] = step[5],
            1 => file.insert(one, step[5]),
            2 => drop(file.drain(one..(one + usize::from(step[5])).min(file.len()))),
            3 => swap_lines(&mut file, one, two, step[5] % 2 == 0),
            4 => {
                let part = file[one..(one + usize::from(step[5])).min(file.len())].to_vec();
                file.splice(two..two, part);
            }
            _ => {
                let part = file[one..(one + usize::from(step[5])).min(file.len())].to_vec();
                let end = (two + part.len()).min(file.len());
                file.splice(two..end, part);
            }
        }
        if file.is_empty() {
            return;
        }
    }
    let identities = IdentitySources::none().secret(include_str!("../../tests/vectors/sops/keys.txt"));
    if let Ok(secret) = decrypt(&file, format, &path.parse().unwrap(), &identities) {
        assert_eq!(secret.expose(), value, "another value came out of:\n{}", String::from_utf8_lossy(&file));
    }
});

/// Exchanges the lines around two places, or puts a copy of the one in front of the other.
fn swap_lines(file: &mut Vec<u8>, one: usize, two: usize, copy: bool) {
    let number = |place: usize| file[..place].iter().filter(|byte| **byte == b'\n').count();
    let (one, two) = (number(one), number(two));
    let mut lines: Vec<Vec<u8>> = file.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if copy {
        lines.insert(two, lines[one].clone());
    } else {
        lines.swap(one, two);
    }
    *file = lines.concat();
}
