//! The properties that the fuzzer checks, on a smaller scale: no panic on anything, paths that survive printing, and of
//! an altered file the true value or an error.
#![cfg(feature = "sops")]

use proptest::prelude::*;
use strongroom::keys::sops::{AgeIdentity, IdentitySources, KeyPath, SopsFormat, decrypt, encrypt};
use strongroom::{ErrorKind, Secret};

const KEYS: &str = include_str!("vectors/sops/keys.txt");
const YAML: &str = include_str!("vectors/sops/good/base.enc.yaml");
const SHAMIR: &str = include_str!("vectors/sops/good/shamir_2_of_3.enc.yaml");
const JSON: &str = include_str!("vectors/sops/good/types.enc.json");
const ENV: &str = include_str!("vectors/sops/good/types.enc.env");
const INI: &str = include_str!("vectors/sops/good/types.enc.ini");

const FILES: [(SopsFormat, &str, &str, &str); 5] = [
    (SopsFormat::Yaml, YAML, "db_key", "correct horse battery staple"),
    (SopsFormat::Yaml, SHAMIR, "db_key", "correct horse battery staple"),
    (SopsFormat::Json, JSON, "l.1.1.k", "v"),
    (SopsFormat::Dotenv, ENV, "DB_KEY", "dotenv key"),
    (SopsFormat::Ini, INI, "database.key", "ini key"),
];

fn read(format: SopsFormat, file: &[u8], path: &str) -> strongroom::Result<Secret> {
    decrypt(file, format, &path.parse()?, &IdentitySources::none().secret(KEYS))
}

fn any_format() -> impl Strategy<Value = SopsFormat> {
    prop::sample::select(vec![
        SopsFormat::Yaml,
        SopsFormat::Json,
        SopsFormat::Dotenv,
        SopsFormat::Ini,
        SopsFormat::Binary,
    ])
}

/// Text that looks like the formats, so that it gets past their first line.
fn document() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "sops:\n",
        "sops_",
        "[sops]\n",
        "db_key",
        ": ",
        "=",
        "- ",
        "\n",
        "  ",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "|\n",
        "age",
        "__list_0",
        "__map_enc",
        "mac",
        "lastmodified",
        "ENC[AES256_GCM,data:",
        ",iv:",
        ",tag:",
        ",type:str]",
        "AAAA",
        "*a",
        "&a ",
        "!!binary ",
        "---\n",
        "1",
        "0x",
        "null",
        "# c\n",
        "\\n",
        ",",
        "\u{fffd}",
        "\t",
        "? ",
    ]);
    prop::collection::vec(words, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_document_is_read_or_refused(format in any_format(), text in document()) {
        let error = read(format, text.as_bytes(), "db_key").unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Key);
    }

    #[test]
    fn any_bytes_are_read_or_refused(format in any_format(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(read(format, &bytes, "db_key").unwrap_err().kind(), ErrorKind::Key);
    }

    #[test]
    fn any_metadata_gives_the_true_value_or_an_error(block in document()) {
        let values = &YAML[..YAML.find("sops:\n").unwrap()];
        let file = format!("{values}sops:\n    {}\n", block.replace('\n', "\n    "));
        if let Ok(secret) = read(SopsFormat::Yaml, file.as_bytes(), "db_key") {
            prop_assert_eq!(secret.expose(), b"correct horse battery staple");
        }
    }

    #[test]
    fn a_file_with_bytes_altered_gives_the_true_value_or_an_error(
        which in 0..FILES.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        let (format, text, path, value) = FILES[which];
        let mut file = text.as_bytes().to_vec();
        for (place, byte, kind) in edits {
            let place = place.index(file.len());
            match kind {
                0 => file[place] = byte,
                1 => file.insert(place, byte),
                _ => drop(file.remove(place)),
            }
        }
        if let Ok(secret) = read(format, &file, path) {
            prop_assert_eq!(secret.expose(), value.as_bytes());
        }
    }

    #[test]
    fn a_file_with_lines_moved_gives_the_true_value_or_an_error(
        which in 0..FILES.len(),
        moves in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4_u8), 1..4),
    ) {
        let (format, text, path, value) = FILES[which];
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (one, two, kind) in moves {
            let (one, two) = (one.index(lines.len()), two.index(lines.len()));
            match kind {
                0 => lines.swap(one, two),
                1 => lines.insert(two, lines[one].clone()),
                2 if lines.len() > 1 => drop(lines.remove(one)),
                // The value of one line under the key of the other.
                _ => {
                    let cut = |line: &str| line.find([':', '=']).map(|at| (line[..=at].to_owned(), line[at + 1..].to_owned()));
                    if let (Some((key, _)), Some((_, tail))) = (cut(&lines[one]), cut(&lines[two])) {
                        lines[one] = key + &tail;
                    }
                }
            }
        }
        if let Ok(secret) = read(format, (lines.join("\n") + "\n").as_bytes(), path) {
            prop_assert_eq!(secret.expose(), value.as_bytes());
        }
    }

    #[test]
    fn a_path_survives_being_printed(text in "[a-z.\\[\\]\"'0-9 ]{0,24}") {
        if let Ok(path) = text.parse::<KeyPath>() {
            prop_assert_eq!(path.to_string().parse::<KeyPath>().unwrap(), path);
        }
    }

    #[test]
    fn every_name_has_a_bracketed_form(names in prop::collection::vec("[a.\\[\\]\"'\\\\0/é\n]{0,6}", 1..4)) {
        let path = KeyPath::keys(names.clone()).unwrap();
        prop_assert_eq!(&path.to_string().parse::<KeyPath>().unwrap(), &path);
        for quote in ['"', '\''] {
            let spell = |name: &String| format!("[{quote}{}{quote}]", name.replace(quote, &quote.to_string().repeat(2)));
            let spelled: String = names.iter().map(spell).collect();
            prop_assert_eq!(&spelled.parse::<KeyPath>().unwrap(), &path, "{}", spelled);
        }
    }

    #[test]
    fn dotted_and_bracketed_paths_name_the_same(keys in prop::collection::vec("[a-z]{1,5}", 1..5)) {
        let identity = AgeIdentity::generate();
        let own = IdentitySources::none().secret(identity.secret().clone());
        let file = encrypt(SopsFormat::Yaml, &[(&keys[0], &Secret::new("v"))], &[identity.recipient()]).unwrap();
        let dotted: KeyPath = keys.join(".").parse().unwrap();
        let bracketed: KeyPath = format!("[\"{}\"]", keys.join("\"][\"")).parse().unwrap();
        prop_assert_eq!(&bracketed, &KeyPath::keys(keys.clone()).unwrap());
        let read = |path| decrypt(file.as_bytes(), SopsFormat::Yaml, path, &own).map(|secret| secret.expose().to_vec());
        let (one, two) = (read(&dotted), read(&bracketed));
        prop_assert_eq!(one.is_ok(), keys.len() == 1);
        prop_assert_eq!(one.map_err(|e| e.reason()), two.map_err(|e| e.reason()));
    }

    #[test]
    fn any_identity_text_opens_or_is_refused(text in "[A-Z0-9# \\n-]{0,80}") {
        let identities = IdentitySources::none().secret(text);
        prop_assert!(decrypt(YAML.as_bytes(), SopsFormat::Yaml, &"db_key".parse().unwrap(), &identities).is_err());
    }
}

#[test]
fn paths_that_name_nothing_are_refused() {
    for text in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "[",
        "[]",
        "[\"a\"",
        "[\"a",
        "[a]",
        "[\"a\"]b",
        "[-1]",
        "[+1]",
        "[99999999999999999999]",
        "[\"\"",
        "[\"]",
    ] {
        assert!(text.parse::<KeyPath>().is_err(), "{text}");
    }
    assert!(KeyPath::keys(Vec::<String>::new()).is_err());
}

#[test]
fn errors_say_what_was_found_where() {
    let said = |path: &str| read(SopsFormat::Yaml, YAML.as_bytes(), path).unwrap_err().to_string();
    assert_eq!(said("nested"), "found a mapping at `nested`, where a value should be");
    assert_eq!(said("nested.list"), "found a list at `nested.list`, where a value should be");
    assert_eq!(said("nothing"), "found null at `nothing`, where a value should be");
    assert_eq!(said("empty"), "found an empty string at `empty`; an empty key would protect nothing");
    assert_eq!(said("sops.mac"), "`sops.mac` is the `sops` block itself, not a value");
    assert_eq!(said("nested.no"), "there is nothing at `nested.no`: there is no such key at `nested`");
    assert_eq!(said("no.x"), "there is nothing at `no.x`: there is no such key at the top of the file");
    assert_eq!(said("nested.list.3"), "there is nothing at `nested.list.3`: the list is shorter at `nested.list`");
    assert_eq!(said("nested[0]"), "there is nothing at `nested[0]`: there is no such key at the top of the file");
    assert_eq!(
        said("db_key.x"),
        "there is nothing at `db_key.x`: found a value, which has nothing inside, at `db_key`"
    );
}
