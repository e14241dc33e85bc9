//! Files that no ordinary writer makes, around a true data key.
#![cfg(feature = "sops")]

use std::collections::HashSet;
use std::io::{Read as _, Write as _};

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Nonce};
use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::{Decryptor, EncryptError, Encryptor, Recipient};
use age_core::format::{FileKey, Stanza};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha512};
use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsFormat, decrypt, encrypt};
use strongroom::{Reason, Secret};

/// Writes a stanza that is too short in front of the true one.
struct Behind {
    args: Vec<String>,
    recipient: age::x25519::Recipient,
}

impl Recipient for Behind {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let (mut stanzas, labels) = self.recipient.wrap_file_key(file_key)?;
        stanzas.insert(0, Stanza { tag: "X25519".into(), args: self.args.clone(), body: vec![0; 31] });
        Ok((stanzas, labels))
    }
}

/// A SOPS file for `identity`, and its data key.
fn fresh(identity: &AgeIdentity) -> (serde_json::Value, Vec<u8>) {
    let text = encrypt(SopsFormat::Json, &[("db_key", &Secret::new("opened"))], &[identity.recipient()]).unwrap();
    let tree: serde_json::Value = serde_json::from_str(&text).unwrap();
    let armored = tree["sops"]["age"][0]["enc"].as_str().unwrap();
    let decryptor = Decryptor::new_buffered(ArmoredReader::new(armored.as_bytes())).unwrap();
    let mut data_key = Vec::new();
    decryptor.decrypt(std::iter::once(&own(identity) as _)).unwrap().read_to_end(&mut data_key).unwrap();
    (tree, data_key)
}

fn own(identity: &AgeIdentity) -> age::x25519::Identity {
    std::str::from_utf8(identity.secret().expose()).unwrap().parse().unwrap()
}

/// A SOPS file for `identity`, in which `alter` has made the age file anew.
fn file(identity: &AgeIdentity, alter: impl FnOnce(&[u8], age::x25519::Recipient) -> Vec<u8>) -> String {
    let (mut tree, data_key) = fresh(identity);
    let mut armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).unwrap();
    armor.write_all(&alter(&data_key, own(identity).to_public())).unwrap();
    tree["sops"]["age"][0]["enc"] = String::from_utf8(armor.finish().unwrap()).unwrap().into();
    tree.to_string()
}

fn age_file(recipient: &dyn Recipient, payload: &[u8]) -> Vec<u8> {
    let mut writer = Encryptor::with_recipients(std::iter::once(recipient)).unwrap().wrap_output(Vec::new()).unwrap();
    writer.write_all(payload).unwrap();
    writer.finish().unwrap()
}

fn opened(file: &str, identities: &[&AgeIdentity]) -> Result<Vec<u8>, Reason> {
    let none = IdentitySources::none();
    let sources = identities.iter().fold(none, |sources, identity| sources.secret(identity.secret().clone()));
    let secret = decrypt(file.as_bytes(), SopsFormat::Json, &"db_key".parse().unwrap(), &sources);
    secret.map(|secret| secret.expose().to_vec()).map_err(|error| error.reason())
}

#[test]
fn a_stanza_that_is_damaged_does_not_stop_the_one_behind_it() {
    let (identity, stranger) = (AgeIdentity::generate(), AgeIdentity::generate());
    let share = "TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc".to_owned();
    for args in [vec![share], vec!["not base64".into()], Vec::new()] {
        let file = file(&identity, |data_key, recipient| age_file(&Behind { args, recipient }, data_key));
        assert_eq!(opened(&file, &[&stranger, &identity]), Ok(b"opened".to_vec()));
        assert_eq!(opened(&file, &[&stranger]), Err(Reason::Locked));
    }
}

#[test]
fn a_data_key_of_another_length_opens_nothing() {
    let identity = AgeIdentity::generate();
    for length in [0, 16, 31, 33, 64] {
        let key = [7; 64];
        let file = file(&identity, |_, recipient| age_file(&recipient, &key[..length]));
        assert_eq!(opened(&file, &[&identity]), Err(Reason::Locked), "{length} bytes");
    }
}

#[test]
fn a_damaged_age_file_opens_nothing() {
    let identity = AgeIdentity::generate();
    let whole = file(&identity, |data_key, recipient| age_file(&recipient, data_key));
    assert_eq!(opened(&whole, &[&identity]), Ok(b"opened".to_vec()));
    // The payload is 16 bytes of nonce, the data key and its tag.
    for place in 1..=64 {
        let flipped = file(&identity, |data_key, recipient| {
            let mut file = age_file(&recipient, data_key);
            let end = file.len();
            file[end - place] ^= 1;
            file
        });
        assert_eq!(opened(&flipped, &[&identity]), Err(Reason::Locked), "byte {place} from the end");
    }
    for cut in [1, 16, 40, 48, 63, 64, 80] {
        let short = file(&identity, |data_key, recipient| {
            let mut file = age_file(&recipient, data_key);
            file.truncate(file.len() - cut);
            file
        });
        assert_eq!(opened(&short, &[&identity]), Err(Reason::Locked), "{cut} bytes cut off");
    }
}

/// A value under a nonce of 12 bytes.
fn sealed(data_key: &[u8], value: &[u8], place: &str) -> String {
    let cipher = AesGcm::<Aes256, U12>::new_from_slice(data_key).unwrap();
    let payload = Payload { msg: value, aad: place.as_bytes() };
    let sealed = cipher.encrypt(&Nonce::<U12>::from([9; 12]), payload).unwrap();
    let (data, tag) = sealed.split_at(value.len());
    let (data, nonce, tag) = (STANDARD.encode(data), STANDARD.encode([9; 12]), STANDARD.encode(tag));
    format!("ENC[AES256_GCM,data:{data},iv:{nonce},tag:{tag},type:str]")
}

#[test]
fn a_value_with_a_nonce_of_12_bytes_opens_and_one_of_another_length_does_not() {
    let identity = AgeIdentity::generate();
    let (mut tree, data_key) = fresh(&identity);
    for length in [12, 0, 11, 13, 16, 31, 33] {
        let nonce = format!(",iv:{},", STANDARD.encode(vec![9; length]));
        let sealed = sealed(&data_key, b"opened", "db_key:");
        tree["db_key"] = sealed.replace(&format!(",iv:{},", STANDARD.encode([9; 12])), &nonce).into();
        let expected = if length == 12 { Ok(b"opened".to_vec()) } else { Err(Reason::Tampered) };
        assert_eq!(opened(&tree.to_string(), &[&identity]), expected, "{length} bytes");
    }
}

/// Plain scalars of YAML, and the text by which Go's parser and the MAC know them. What is not listed as another text is
/// a string.
const SPELLINGS: [(&str, &str); 86] = [
    ("true", "true"),
    ("TRUE", "true"),
    ("False", "false"),
    ("yes", "yes"),
    ("off", "off"),
    ("tRUE", "tRUE"),
    ("0", "0"),
    ("-0", "0"),
    ("+8", "8"),
    ("-17", "-17"),
    ("1_000", "1000"),
    ("1__0_", "10"),
    ("0x1F", "31"),
    ("0X1f", "31"),
    ("-0x1f", "-31"),
    ("0o777", "511"),
    ("0777", "511"),
    ("0b101", "5"),
    ("-0B101", "-5"),
    ("9223372036854775807", "9223372036854775807"),
    ("-9223372036854775808", "-9223372036854775808"),
    ("18446744073709551616", "18446744073709552000"),
    ("-9223372036854775809", "-9223372036854776000"),
    ("0x", "0x"),
    ("0b2", "0b2"),
    ("0o8", "0o8"),
    ("+-8", "+-8"),
    ("08", "8"),
    ("8.0", "8"),
    ("8.", "8"),
    (".5", "0.5"),
    ("-.5", "-0.5"),
    ("1.10", "1.1"),
    ("1e3", "1000"),
    ("1E+3", "1000"),
    ("1e-7", "0.0000001"),
    ("-0.0", "-0"),
    // Exactly between two spellings of the same length: the even one.
    ("643705410090470.25", "643705410090470.2"),
    ("643705410090470.75", "643705410090470.8"),
    ("-562949953421312.25", "-562949953421312.2"),
    ("9007199254740993.0", "9007199254740992"),
    ("1e400", "1e400"),
    ("1.2.3", "1.2.3"),
    ("e3", "e3"),
    (".e3", ".e3"),
    (".inf", "+Inf"),
    ("+.Inf", "+Inf"),
    ("-.INF", "-Inf"),
    (".nan", "NaN"),
    ("inf", "inf"),
    ("nan", "nan"),
    ("2024-1-2", "2024-01-02T00:00:00Z"),
    ("2024-02-29", "2024-02-29T00:00:00Z"),
    ("2000-02-29", "2000-02-29T00:00:00Z"),
    ("2023-02-29", "2023-02-29"),
    ("1900-02-29", "1900-02-29"),
    ("2024-04-30", "2024-04-30T00:00:00Z"),
    ("2024-04-31", "2024-04-31"),
    ("2024-12-31", "2024-12-31T00:00:00Z"),
    ("2024-12-32", "2024-12-32"),
    ("2024-13-01", "2024-13-01"),
    ("2024-00-01", "2024-00-01"),
    ("2024-01-00", "2024-01-00"),
    ("2024-1-2-3", "2024-1-2-3"),
    ("24-1-2", "24-1-2"),
    ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
    ("2024-01-02t3:4:5.670Z", "2024-01-02T03:04:05.67Z"),
    ("2024-01-02 03:04:05.5", "2024-01-02T03:04:05.5Z"),
    ("2024-01-02T03:04:05.000+00:00", "2024-01-02T03:04:05Z"),
    ("2024-01-02T23:59:59-01:30", "2024-01-02T23:59:59-01:30"),
    ("2024-01-02T24:00:00Z", "2024-01-02T24:00:00Z"),
    ("2024-01-02T00:60:00Z", "2024-01-02T00:60:00Z"),
    ("2024-01-02T00:00:60Z", "2024-01-02T00:00:60Z"),
    ("2024-01-02T00:00:00+2:00", "2024-01-02T00:00:00+2:00"),
    ("2024-01-02T00:00:00.1234567899Z", "2024-01-02T00:00:00.123456789Z"),
    ("2024-01-02T00:00:00.12345678901234567890Z", "2024-01-02T00:00:00.123456789Z"),
    ("2024-01-02T00:00:00.1234567890x", "2024-01-02T00:00:00.1234567890x"),
    ("2024-01-02T00:00:00.12345678é0Z", "2024-01-02T00:00:00.12345678é0Z"),
    ("2024-01-02T00:00:00.Z", "2024-01-02T00:00:00.Z"),
    ("2024-01-02T00:00:00-00:00", "2024-01-02T00:00:00Z"),
    ("!!str 8", "8"),
    ("!!float 8", "8"),
    ("!!int \"8\"", "8"),
    ("!!bool \"true\"", "true"),
    ("!!timestamp 2024-1-2", "2024-01-02T00:00:00Z"),
    ("!!binary aGk=", "hi"),
];

/// A YAML file whose MAC covers `text` in the place where `spelling` stands.
fn spelled(identity: &AgeIdentity, spelling: &str, text: &str) -> Result<String, Reason> {
    let (tree, data_key) = fresh(identity);
    let text = if text == "true" && !spelling.contains("yes") { "True" } else { text };
    let text = if text == "false" { "False" } else { text };
    let hash = Sha512::new().chain_update(b"opened").chain_update(text).finalize();
    let hash: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    let moment = "2024-01-01T00:00:00Z";
    let mut block = tree["sops"].clone();
    block["lastmodified"] = moment.into();
    block["mac"] = sealed(&data_key, hash.as_bytes(), moment).into();
    let value = sealed(&data_key, b"opened", "db_key:");
    let file = format!("db_key: {value}\nv_unencrypted: {spelling}\nsops: {block}\n");
    let sources = IdentitySources::none().secret(identity.secret().clone());
    let secret = decrypt(file.as_bytes(), SopsFormat::Yaml, &"v_unencrypted".parse().unwrap(), &sources);
    secret.map(|secret| String::from_utf8(secret.expose().to_vec()).unwrap()).map_err(|error| error.reason())
}

#[test]
fn plain_yaml_scalars_are_known_by_their_meaning() {
    let identity = AgeIdentity::generate();
    for (spelling, text) in SPELLINGS {
        assert_eq!(spelled(&identity, spelling, text), Ok(text.to_owned()), "{spelling}");
        // Another text than the one that the MAC knows.
        assert_eq!(spelled(&identity, spelling, "other"), Err(Reason::Tampered), "{spelling}");
    }
    for spelling in ["9223372036854775808", "!!int x", "!!bool 1", "!!timestamp x", "!!binary ?", "!!set x", "!!null x"]
    {
        assert_eq!(spelled(&identity, spelling, "x"), Err(Reason::Malformed), "{spelling}");
    }
}
