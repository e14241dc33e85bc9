//! The vectors of the format's authors (<https://c2sp.org/CCTV/age>, under 0BSD), all whose payload is one chunk.

use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::file::open;
use super::identity::Identity;
use super::passphrase::Passphrase;
use super::{Refusal, X25519};

/// The fields in front of a vector, and its file.
fn parts(vector: &[u8]) -> (Vec<(&str, &str)>, &[u8]) {
    let end = vector.windows(2).position(|two| two == b"\n\n").unwrap();
    let fields = std::str::from_utf8(&vector[..end]).unwrap();
    (fields.lines().map(|line| line.split_once(": ").unwrap()).collect(), &vector[end + 2..])
}

fn expectation(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Foreign | Refusal::Unfit => "no match",
        Refusal::Payload => "payload failure",
        Refusal::Mac => "HMAC failure",
        Refusal::Header | Refusal::Work(_) | Refusal::Memory(_) => "header failure",
        Refusal::Armor => "armor failure",
        Refusal::TooLarge => "too large",
    }
}

#[test]
fn every_vector_is_opened_or_refused_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/age");
    let (mut count, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let vector = fs::read(entry.path()).unwrap();
        let (fields, file) = parts(&vector);
        let all = |wanted: &'static str| fields.iter().filter(move |(name, _)| *name == wanted).map(|(_, text)| *text);
        let keys = all("identity").map(|text| Box::new(X25519::parse(text).unwrap()) as Box<dyn Identity>);
        let keys: Vec<_> = keys.chain(all("passphrase").map(|text| Box::new(Passphrase(text)) as _)).collect();
        let answer = match open(file, &mut keys.iter().map(AsRef::as_ref)) {
            Ok(clear) => {
                let hash: String = Sha256::digest(&*clear).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(all("payload").next(), Some(hash.as_str()), "{name}");
                "success"
            }
            // What does not begin like armor is not taken for it.
            Err(Refusal::Header) if all("armored").next().is_some() && !file.starts_with(b"-----BEGIN") => {
                "armor failure"
            }
            Err(refusal) => expectation(refusal),
        };
        if all("expect").next() != Some(answer) {
            wrong.push(format!("{name}: {answer}, but {:?}", all("expect").next()));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 90, "only {count} vectors are there");
}
