//! A key from the first place that is given, and from no other: the passphrase as it is, the variable as it is, or the
//! true value of the SOPS file. An error is a `Key` error that shows no secret.
//!
//! The bits of the first byte say which places are given; then a line each: variable, key of the file, passphrase.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use strongroom::{ErrorKind, Reason, Secret, resolve_cipher_key};
use tokio::runtime::{Builder, Runtime};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/sops");

/// Everything that stands in the file.
const VALUES: [&str; 10] = [
    "correct horse battery staple",
    "another value",
    "left in the clear",
    "down here",
    "42",
    "5432",
    "true",
    "first",
    "second",
    "third",
];

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    // SAFETY: nothing else runs yet. There is no other way to hand an identity to this function.
    unsafe { std::env::set_var("SOPS_AGE_KEY_FILE", Path::new(VECTORS).join("keys.txt")) };
    Builder::new_current_thread().enable_all().build().unwrap()
});

fuzz_target!(|input: &[u8]| {
    let Some((given, lines)) = input.split_first() else { return };
    let mut lines = lines.splitn(3, |byte| *byte == b'\n').map(<[u8]>::to_vec);
    let mut place = |bit: u8| lines.next().filter(|_| given >> bit & 1 == 1);
    let text = |line: Vec<u8>| String::from_utf8_lossy(&line).into_owned();
    let (variable, key, passphrase) = (place(0).map(text), place(1).map(text), place(2));
    let file = Path::new(VECTORS).join("good/base.enc.yaml");
    let secret = passphrase.as_deref().map(Secret::new);
    let sops = key.as_deref().map(|key| (&*file, key));
    let answer = RUNTIME.block_on(resolve_cipher_key(secret, variable.as_deref(), sops));
    if let Err(error) = &answer {
        assert_eq!(error.kind(), ErrorKind::Key, "{error}");
        let shown = format!("{error} {error:?}");
        // Names of variables and paths are shown, and may by chance be a value.
        let named = |value: &&&str| [&variable, &key].into_iter().flatten().any(|name| name.contains(**value));
        assert!(!VALUES[..4].iter().filter(|value| !named(value)).any(|value| shown.contains(value)), "{shown}");
    }
    let got = answer.map(|secret| secret.map(|secret| secret.expose().to_vec())).map_err(|error| error.reason());
    match (passphrase, variable, key) {
        (Some(passphrase), ..) if passphrase.is_empty() => assert_eq!(got, Err(Reason::Empty)),
        (Some(passphrase), ..) => assert_eq!(got, Ok(Some(passphrase))),
        (None, Some(name), _) => match std::env::var_os(&name).map(|value| value.into_encoded_bytes()) {
            Some(value) if value.is_empty() => assert_eq!(got, Err(Reason::Empty)),
            Some(value) => assert_eq!(got, Ok(Some(value))),
            None => assert_eq!(got, Err(Reason::Missing)),
        },
        (None, None, Some(key)) => {
            if let Ok(value) = got {
                let value = value.expect("a place was given");
                assert!(VALUES.iter().any(|known| known.as_bytes() == value), "{key:?} gave {}", value.escape_ascii());
            }
        }
        (None, None, None) => assert_eq!(got, Ok(None)),
    }
});
