//! Files that an editor, a shell or version control has rewritten: other ends of lines, a byte order mark, UTF-16.
#![cfg(feature = "sops")]

#[path = "common/vectors.rs"]
mod vectors;

use std::fs;

use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsBackend, SopsFormat, decrypt, encrypt};
use strongroom::{KeySource, Reason, Secret, SopsKeySource};
use vectors::{altered, ok, text_of, vectors};

const CRLF: fn(String) -> String = |text| text.replace('\n', "\r\n");
const CR: fn(String) -> String = |text| text.replace('\n', "\r");
const MARK: fn(String) -> String = |text| format!("\u{feff}{text}");

/// Every format, and values that are encrypted and not.
const FILES: [(&str, &[(&str, &str)]); 8] = [
    ("good/types.enc.env", &[("DB_KEY", "dotenv key"), ("LINES", "one\ntwo"), ("X_unencrypted", "open")]),
    ("good/shamir.enc.env", &[("DB_KEY", "dotenv key"), ("X_unencrypted", "open")]),
    ("good/types.enc.ini", &[("database.key", "ini key"), ("database.port_unencrypted", "5432")]),
    ("good/shamir.enc.ini", &[("database.key", "ini key")]),
    ("good/base.enc.yaml", &[("db_key", vectors::KEY), ("note_unencrypted", "left in the clear")]),
    ("good/multi.enc.yaml", &[("db_key", "one")]),
    ("good/types.enc.json", &[("n", "12345678"), ("l.1.1.k", "v")]),
    ("good/text.enc.txt", &[("data", "one passphrase\n")]),
];

#[tokio::test]
async fn a_file_with_other_ends_of_lines_opens() {
    for (file, values) in FILES {
        for (path, value) in values {
            for (name, alter) in [("CRLF", CRLF), ("CR", CR), ("a mark", MARK)] {
                assert_eq!(altered(file, path, alter).await, ok(value), "{file} with {name} at {path}");
            }
            let both = altered(file, path, |text| MARK(CRLF(text))).await;
            assert_eq!(both, ok(value), "{file} with CRLF and a mark at {path}");
        }
    }
}

/// Only the data, or only the metadata, was touched; or the last line lost its end.
#[tokio::test]
async fn ends_of_lines_may_be_mixed() {
    let halves = |text: &str| {
        let at = text.find("sops_age").unwrap();
        (text[..at].to_owned(), text[at..].to_owned())
    };
    for (path, value) in FILES[0].1 {
        for alter in [
            |(data, block): (String, String)| format!("{}{block}", CRLF(data)),
            |(data, block)| format!("{data}{}", CRLF(block)),
            |(data, block)| format!("{}\r\n\r\n{}", CRLF(data), CRLF(block).trim_end()),
        ] {
            let answer = altered(FILES[0].0, path, |text| alter(halves(&text))).await;
            assert_eq!(answer, ok(value), "{path}");
        }
    }
}

/// Written on Windows before it was encrypted: the mark is part of the first key, and each value ends in `\r`.
#[tokio::test]
async fn a_carriage_return_that_was_encrypted_is_part_of_the_value() {
    let file = "good/windows.enc.env";
    let values = [("DB_KEY", "first\r"), ("second", "two\r"), ("X_unencrypted", "open\r"), ("LAST", "end")];
    for (path, value) in values {
        assert_eq!(vectors::value(file, path).await, ok(value), "{path}");
        assert_eq!(altered(file, path, CRLF).await, ok(value), "{path} with CRLF");
        let unmarked = altered(file, path, |text| text.replace('\u{feff}', "")).await;
        assert_eq!(unmarked, Err(Reason::Tampered), "the first key was renamed");
    }
}

/// What is tolerated at the ends of lines is not tolerated anywhere else.
#[tokio::test]
async fn the_mac_still_judges() {
    let file = "good/types.enc.env";
    for (from, to) in [
        ("X_unencrypted=open", "X_unencrypted=op\ren"),
        ("X_unencrypted=open", "X_unencrypted=open\r\r"),
        ("X_unencrypted=open", "X_unencrypted=other\r"),
        ("DB_KEY=", "\u{feff}DB_KEY="),
        ("DB_KEY=ENC", "DB_KEY=\rENC"),
    ] {
        let answer = altered(file, "EQ", |text| text.replace(from, to)).await;
        assert_eq!(answer, Err(Reason::Tampered), "{from:?} to {to:?}");
        let answer = altered(file, "EQ", |text| CRLF(text.replace(from, to))).await;
        assert_eq!(answer, Err(Reason::Tampered), "{from:?} to {to:?} with CRLF");
    }
}

#[tokio::test]
async fn an_empty_value_stays_empty() {
    assert_eq!(altered("good/types.enc.env", "EMPTY", CRLF).await, Err(Reason::Empty));
}

#[tokio::test]
async fn another_encoding_is_said_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let text = text_of("good/base.enc.yaml");
    let wide = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let marked = [b"\xff\xfe".as_slice(), &wide(u16::to_le_bytes)].concat();
    let latin = [text.as_bytes(), b"# \xe4\n"].concat();
    for (bytes, said) in [
        (marked, "UTF-16"),
        (wide(u16::to_le_bytes), "UTF-16"),
        (wide(u16::to_be_bytes), "UTF-16"),
        (latin, "not UTF-8"),
    ] {
        let place = folder.path().join("s.yaml");
        fs::write(&place, bytes).unwrap();
        let error = SopsKeySource::at(place).resolve().await.unwrap_err();
        assert_eq!(error.reason(), Reason::Malformed);
        assert!(error.to_string().contains(&format!("it is {said}")), "{error}");
    }
}

/// Identity files are written by the same editors.
#[tokio::test]
async fn identity_files_may_have_a_mark_and_other_ends_of_lines() {
    let text = fs::read_to_string(vectors().join("keys.txt")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    let open = async || {
        let identities = IdentitySources::none().file(&file);
        let source = SopsKeySource::at(vectors().join("good/base.enc.yaml")).identities(identities);
        source.backend(SopsBackend::Native).resolve().await.map_err(|error| error.to_string())
    };
    for alter in [CRLF, CR, MARK, |text| MARK(CRLF(text)), |text| text.replace('\n', "  \n\t")] {
        fs::write(&file, alter(text.clone())).unwrap();
        assert_eq!(open().await.unwrap().expose(), vectors::KEY.as_bytes());
    }
    fs::write(&file, text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    let error = open().await.unwrap_err();
    assert!(error.contains("keys.txt: it is UTF-16"), "{error}");
}

#[cfg(feature = "sops-ssh")]
#[tokio::test]
async fn ssh_keys_may_have_a_mark_and_crlf() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["ed25519", "rsa"] {
        let text = fs::read_to_string(vectors().join(format!("keys/id_{kind}"))).unwrap();
        for alter in [CRLF, MARK, |text| format!("\n{text}")] {
            let file = folder.path().join("id");
            fs::write(&file, alter(text.clone())).unwrap();
            let source = SopsKeySource::at(vectors().join(format!("good/ssh_{kind}.enc.yaml")));
            let source = source.identities(IdentitySources::none().file(file)).backend(SopsBackend::Native);
            assert_eq!(source.resolve().await.unwrap().expose(), vectors::KEY.as_bytes(), "{kind}");
        }
    }
}

/// What this crate writes survives the same treatment.
#[test]
fn our_own_files_survive_other_ends_of_lines() {
    let identity = AgeIdentity::generate();
    let identities = IdentitySources::none().secret(identity.secret().clone());
    for format in [SopsFormat::Yaml, SopsFormat::Json] {
        let text = encrypt(format, &[("k", &Secret::new("value\r"))], &[identity.recipient()]).unwrap();
        for alter in [CRLF, CR, MARK] {
            let value = decrypt(alter(text.clone()).as_bytes(), format, &"k".parse().unwrap(), &identities).unwrap();
            assert_eq!(value.expose(), b"value\r");
        }
    }
}
