//! Any text as a path: what parses is printed so that it parses to the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::keys::sops::KeyPath;

fuzz_target!(|text: &str| {
    if let Ok(path) = text.parse::<KeyPath>() {
        let printed = path.to_string();
        assert_eq!(printed.parse::<KeyPath>().as_ref().ok(), Some(&path), "{text:?} is printed as {printed:?}");
    }
});
