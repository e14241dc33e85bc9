//! Fresh SOPS files and fresh age identities, for those who have neither `sops` nor `age` at hand.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Reason, Result};
use crate::keys::beside::{Beside, sync_directory};
use crate::keys::place::Place;
use crate::secret::{Secret, SecretForm};

use super::data_key::DataKey;
use super::format::SopsFormat;
use super::gcm::Cipher;
use super::tree::{MAX_PATH, Scalar};
use super::{age, fault::fault, open, scalar, time, wipe};

/// The version whose files these are like, and with which they are tested.
const VERSION: &str = "3.11.0";

/// Encrypts `values`, text under top-level names, for age `recipients` (`age1...`), each of whom can open the file.
///
/// The text that comes back is a complete SOPS file: `sops` opens, edits and rotates it. [`SopsFormat::Yaml`],
/// [`SopsFormat::Json`] and, with the one name `data`, [`SopsFormat::Binary`] can be written.
///
/// ```
/// use strongroom::Secret;
/// use strongroom::keys::sops::{self, AgeIdentity, SopsFormat};
///
/// # fn main() -> strongroom::Result<()> {
/// let identity = AgeIdentity::generate();
/// let key = Secret::new("correct horse battery staple");
/// let file = sops::encrypt(SopsFormat::Yaml, &[("database_key", &key)], &[identity.recipient()])?;
/// assert!(file.starts_with("database_key: ENC[AES256_GCM,data:"));
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::Key`]: an empty value ([`Reason::Empty`]), or a raw key, a name or a recipient that cannot be used
/// ([`Reason::Malformed`]). [`ErrorKind::Unsupported`]: another format.
pub fn encrypt(format: SopsFormat, values: &[(&str, &Secret)], recipients: &[&str]) -> Result<String> {
    if matches!(format, SopsFormat::Dotenv | SopsFormat::Ini) {
        return Err(Error::new(ErrorKind::Unsupported, "only YAML, JSON and binary SOPS files can be written")
            .hint("use `sops encrypt` for dotenv and INI"));
    }
    check(format, values, recipients)?;
    wipe::with_clean_stack(|| {
        let fresh = Fresh::seal(values, recipients)?;
        match format {
            SopsFormat::Yaml => fresh.yaml(),
            _ => fresh.json(),
        }
    })
}

pub(super) fn check(format: SopsFormat, values: &[(&str, &Secret)], recipients: &[&str]) -> Result<()> {
    let malformed = |what: String| Err(fault(Reason::Malformed, what));
    if recipients.is_empty() {
        return malformed("a SOPS file needs at least one recipient, or nobody can open it".into());
    }
    for (position, (name, value)) in values.iter().enumerate() {
        let reserved = *name == "sops" || name.ends_with("_unencrypted") || name.chars().any(char::is_control);
        if name.is_empty() || name.len() >= MAX_PATH || reserved {
            return malformed(format!("`{}` cannot be the name of an encrypted value", name.escape_debug()));
        }
        if values[..position].iter().any(|(other, _)| other == name) {
            return malformed(format!("`{name}` is given twice"));
        }
        if format == SopsFormat::Binary && *name != "data" {
            return malformed("a binary SOPS file has one value, and its name is `data`".into());
        }
        if value.form() != SecretForm::Passphrase {
            return malformed(format!("the value of `{name}` is a raw key, which would be read back as a passphrase"));
        }
        if value.is_empty() {
            return Err(fault(Reason::Empty, format!("the value of `{name}` is empty")));
        }
    }
    Ok(())
}

/// The parts of a fresh file.
struct Fresh<'a> {
    values: Vec<(&'a str, String)>,
    /// Recipients and the armored data key of each.
    keys: Vec<(&'a str, String)>,
    last_modified: String,
    mac: String,
}

impl<'a> Fresh<'a> {
    fn seal(values: &[(&'a str, &Secret)], recipients: &[&'a str]) -> Result<Self> {
        let key = DataKey::generate()?;
        let keys = recipients.iter().map(|to| Ok((*to, age::wrap(key.bytes(), to)?))).collect::<Result<_>>()?;
        let cipher = Cipher::new(key);
        let mut hash = Sha512::new();
        let seal = |(name, value): &(&'a str, &Secret)| {
            hash.update(value.expose());
            Ok((*name, cipher.seal(value.expose(), &format!("{name}:"))?))
        };
        let values = values.iter().map(seal).collect::<Result<_>>()?;
        let last_modified = time::now();
        let mac = cipher.seal(&open::hex(&hash.finalize()), &last_modified)?;
        Ok(Self { values, keys, last_modified, mac })
    }

    fn yaml(&self) -> Result<String> {
        let mut out = String::new();
        for (name, sealed) in &self.values {
            let _ = writeln!(out, "{}: {sealed}", yaml_key(name)?);
        }
        out.push_str("sops:\n    age:\n");
        for (recipient, armored) in &self.keys {
            let _ = writeln!(out, "        - recipient: {recipient}\n          enc: |");
            for line in armored.lines() {
                let _ = writeln!(out, "            {line}");
            }
        }
        let Self { last_modified, mac, .. } = self;
        let _ = writeln!(out, "    lastmodified: \"{last_modified}\"\n    mac: {mac}");
        let _ = writeln!(out, "    unencrypted_suffix: _unencrypted\n    version: {VERSION}");
        Ok(out)
    }

    fn json(&self) -> Result<String> {
        let mut out = String::from("{\n");
        for (name, sealed) in &self.values {
            let _ = writeln!(out, "\t{}: {},", json_text(name)?, json_text(sealed)?);
        }
        out.push_str("\t\"sops\": {\n\t\t\"age\": [\n");
        for (position, (recipient, armored)) in self.keys.iter().enumerate() {
            let comma = if position + 1 < self.keys.len() { "," } else { "" };
            let (recipient, armored) = (json_text(recipient)?, json_text(armored)?);
            let _ = writeln!(out, "\t\t\t{{ \"recipient\": {recipient}, \"enc\": {armored} }}{comma}");
        }
        let Self { last_modified, mac, .. } = self;
        let _ = writeln!(out, "\t\t],\n\t\t\"lastmodified\": \"{last_modified}\",\n\t\t\"mac\": \"{mac}\",");
        let _ =
            writeln!(out, "\t\t\"unencrypted_suffix\": \"_unencrypted\",\n\t\t\"version\": \"{VERSION}\"\n\t}}\n}}");
        Ok(out)
    }
}

/// A key as it is if YAML takes it for text so, else in quotes.
pub(super) fn yaml_key(name: &str) -> Result<String> {
    let word = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let letter = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if word && letter && matches!(scalar::plain(name)?, Scalar::Text(_)) { Ok(name.into()) } else { json_text(name) }
}

pub(super) fn json_text(text: &str) -> Result<String> {
    serde_json::to_string(text).map_err(|_| fault(Reason::Malformed, "a name cannot be written as JSON"))
}

/// A fresh age identity: who holds its secret opens what is encrypted for its recipient.
#[derive(Debug)]
pub struct AgeIdentity {
    secret: Secret,
    recipient: String,
}

impl AgeIdentity {
    /// Makes a new X25519 identity from the operating system's random source.
    ///
    /// # Panics
    /// If the operating system gives no random bytes.
    #[allow(clippy::new_without_default, reason = "not a default: every call makes another one")]
    pub fn generate() -> Self {
        wipe::with_clean_stack(|| {
            let identity = age::X25519::generate().expect("the operating system gives random bytes");
            Self { secret: Secret::new(identity.text().as_str()), recipient: identity.recipient() }
        })
    }

    /// The private key, `AGE-SECRET-KEY-1...`: for [`SopsKeySource::identity`](super::SopsKeySource::identity).
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The public key, `age1...`.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// Writes an identity file that only the user may read, where no file was before. Blocks until the file and its name
    /// are on the disk.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] with [`Reason::Io`] when the file exists or cannot be written. Nothing is left of one that could
    /// not be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let head = format!("# public key: {}\n", self.recipient);
        let mut text = Zeroizing::new(Vec::with_capacity(head.len() + self.secret.expose().len() + 1));
        text.extend_from_slice(head.as_bytes());
        text.extend_from_slice(self.secret.expose());
        text.push(b'\n');
        let place = Place::new(path);
        let written = Beside::write(place.path(), &text, None).and_then(|beside| {
            beside.name(place.path())?;
            sync_directory(place.path()).inspect_err(|_| drop(fs::remove_file(place.path())))
        });
        written.map_err(|error| {
            fault(Reason::Io, format!("cannot write the identity file {}", path.display())).caused_by(error)
        })
    }
}
