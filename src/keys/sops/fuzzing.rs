//! Doors for the fuzzer into rooms that have none; only there under `cfg(fuzzing)`.

use zeroize::Zeroizing;

/// Parses one `ENC[...]` value; whether it is one.
pub fn value(text: &str) -> bool {
    super::gcm::Sealed::parse(text).is_some()
}

/// Combines shares; the secret, if they fit together.
pub fn combine(shares: &[Vec<u8>]) -> Option<Vec<u8>> {
    let shares: Vec<_> = shares.iter().cloned().map(Zeroizing::new).collect();
    super::shamir::combine(&shares).ok().map(|secret| secret.to_vec())
}

/// Splits a command line into words.
pub fn words(line: &str) -> Option<usize> {
    super::words::words(line).map(|words| words.len())
}

/// Resolves a plain YAML scalar and spells a moment.
pub fn scalar(text: &str) -> Option<String> {
    let _ = super::scalar::plain(text);
    super::time::canonical(text)
}
