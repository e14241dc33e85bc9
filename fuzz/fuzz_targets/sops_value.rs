//! Any text as an encrypted value or a plain scalar.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::keys::sops::fuzzing;

fuzz_target!(|text: &str| {
    if fuzzing::value(text) {
        assert!(text.starts_with("ENC[AES256_GCM,data:"));
        // What follows the last bracket is ignored.
        assert!(fuzzing::value(&format!("{text}\r")));
    }
    if let Some(moment) = fuzzing::scalar(text) {
        assert_eq!(fuzzing::scalar(&moment).as_ref(), Some(&moment), "{text:?} has two spellings");
    }
});
