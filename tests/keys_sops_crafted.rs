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

#[test]
fn a_value_with_a_nonce_of_12_bytes_opens_and_one_of_another_length_does_not() {
    let identity = AgeIdentity::generate();
    let (mut tree, data_key) = fresh(&identity);
    let cipher = AesGcm::<Aes256, U12>::new_from_slice(&data_key).unwrap();
    let nonce = Nonce::<U12>::from([9; 12]);
    let sealed = cipher.encrypt(&nonce, Payload { msg: b"opened", aad: b"db_key:" }).unwrap();
    let (data, tag) = sealed.split_at(b"opened".len());
    for length in [12, 0, 11, 13, 16, 31, 33] {
        let (data, nonce, tag) = (STANDARD.encode(data), STANDARD.encode(vec![9; length]), STANDARD.encode(tag));
        tree["db_key"] = format!("ENC[AES256_GCM,data:{data},iv:{nonce},tag:{tag},type:str]").into();
        let expected = if length == 12 { Ok(b"opened".to_vec()) } else { Err(Reason::Tampered) };
        assert_eq!(opened(&tree.to_string(), &[&identity]), expected, "{length} bytes");
    }
}
