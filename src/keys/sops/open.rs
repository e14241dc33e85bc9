//! From the data key to the one value: decrypt everything, verify the MAC, release.

use std::{ptr, slice};

use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::error::{Error, Reason, Result};
use crate::secret::Secret;

use super::document::Document;
use super::dotenv::Spelling;
use super::gcm::{Cipher, Clear, Sealed, Type};
use super::path::KeyPath;
use super::tree::{MAX_PATH, Node, Scalar};
use super::{fault::fault, time};

/// SHA-256 of `sops`: what the hash starts with under `mac_only_encrypted`, so that such a MAC fits no other file.
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b, 0x97, 0x5b,
    0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// Finds what `path` names and refuses everything that cannot be a key, before any key is asked for.
pub(super) fn locate<'a>(document: &'a Document, path: &KeyPath) -> Result<&'a Node> {
    let Some(first) = document.documents.first() else {
        return Err(fault(Reason::Missing, "it holds no document"));
    };
    if path.names_block(document.format) {
        return Err(fault(Reason::Malformed, format!("`{path}` is the `sops` block itself, not a value")));
    }
    let node = path.find(first)?;
    match node {
        Node::Leaf(Scalar::Text(text)) if text.is_empty() => Err(empty(path)),
        Node::Leaf(Scalar::Null) | Node::Map(_) | Node::List(_) => {
            Err(fault(Reason::Malformed, format!("found {} at `{path}`, where a value should be", node.kind())))
        }
        Node::Leaf(_) => Ok(node),
    }
}

/// Decrypts the file, verifies it whole and returns the value of `target`, a leaf that [`locate`] found.
pub(super) fn open(document: &Document, cipher: &Cipher, path: &KeyPath, target: &Node) -> Result<Secret> {
    verify(document, cipher, path, target).map(|(_, found)| Secret::new(found.bytes))
}

/// What stands in a file in which `target` has another value, last changed at `moment`: the ciphertext of the value, and
/// the MAC. The file is verified first.
pub(super) fn reseal(
    document: &Document,
    cipher: &Cipher,
    path: &KeyPath,
    target: &Node,
    value: &[u8],
    moment: &str,
) -> Result<(String, String)> {
    let (spelling, found) = verify(document, cipher, path, target)?;
    let Some(place) = found.place else {
        return Err(fault(Reason::Exposed, format!("the value at `{path}` is not encrypted"))
            .hint("choose a value that the rules of the file encrypt"));
    };
    let mut walk = Walk::new(document, cipher, target, spelling);
    walk.instead = Some(value);
    walk.run(document)?;
    Ok((cipher.seal(value, &place)?, cipher.seal(&hex(&walk.hash.finalize()), moment)?))
}

/// Verifies a file of which no value is asked for.
pub(super) fn check(document: &Document, cipher: &Cipher) -> Result<()> {
    let root = document.documents.first().ok_or_else(|| fault(Reason::Missing, "it holds no document"))?;
    // No value: the way through the file never comes to the root.
    covered(document, cipher, root, &stored_mac(document, cipher)?).map(|_| ())
}

/// The MAC of a file with these values, last changed at `moment`, whatever MAC it has.
pub(super) fn mac(document: &Document, cipher: &Cipher, moment: &str) -> Result<String> {
    let (Some(root), Some(spelling)) = (document.documents.first(), document.spellings.first()) else {
        return Err(fault(Reason::Missing, "it holds no document"));
    };
    let mut walk = Walk::new(document, cipher, root, *spelling);
    walk.run(document)?;
    cipher.seal(&hex(&walk.hash.finalize()), moment)
}

/// Finds the spelling that the MAC covers, and what the file holds at `target` in it.
fn verify(document: &Document, cipher: &Cipher, path: &KeyPath, target: &Node) -> Result<(Spelling, Found)> {
    let expected = stored_mac(document, cipher)?;
    let (spelling, found) = covered(document, cipher, target, &expected)?;
    let found = found.filter(|found| !found.bytes.is_empty()).ok_or_else(|| empty(path))?;
    if found.kind == Type::Comment {
        return Err(comment(path));
    }
    if !found.covered {
        return Err(uncovered(path));
    }
    Ok((spelling, found))
}

/// The spelling that the MAC covers, and what it finds at `target`; nothing for an empty value.
fn covered(document: &Document, cipher: &Cipher, target: &Node, expected: &[u8]) -> Result<(Spelling, Option<Found>)> {
    let mut refusal = None;
    for spelling in &document.spellings {
        let mut walk = Walk::new(document, cipher, target, *spelling);
        let error = match walk.run(document) {
            Ok(()) if walk.matches(expected) => return Ok((*spelling, walk.found)),
            Ok(()) => fault(Reason::Tampered, "its MAC does not match")
                .hint("a value was added, removed or changed without sops"),
            Err(error) => error,
        };
        refusal.get_or_insert(error);
    }
    Err(refusal.unwrap_or_else(|| fault(Reason::Tampered, "it has no values")))
}

/// A value that anybody could have put there.
pub(super) fn uncovered(path: &KeyPath) -> Error {
    fault(Reason::Exposed, format!("`{path}` is neither encrypted nor covered by the MAC"))
        .hint("encrypt it, or encrypt the file without `mac_only_encrypted`")
}

pub(super) fn comment(path: &KeyPath) -> Error {
    fault(Reason::Malformed, format!("found a comment at `{path}`, where a value should be"))
}

pub(super) fn empty(path: &KeyPath) -> Error {
    fault(Reason::Empty, format!("found an empty string at `{path}`")).hint("an empty key would protect nothing")
}

fn stored_mac(document: &Document, cipher: &Cipher) -> Result<Zeroizing<Vec<u8>>> {
    let metadata = &document.metadata;
    if metadata.mac.is_empty() {
        return Err(fault(Reason::Tampered, "it has no MAC"));
    }
    let sealed = Sealed::parse(&metadata.mac);
    let place = time::without_fraction(&metadata.last_modified);
    match sealed.and_then(|sealed| cipher.open(sealed, &place)) {
        Some(clear) => Ok(clear.bytes),
        None => Err(fault(Reason::Tampered, "its MAC cannot be decrypted")),
    }
}

struct Found {
    bytes: Zeroizing<Vec<u8>>,
    kind: Type,
    /// Whether the MAC covers it.
    covered: bool,
    /// What its ciphertext is bound to; nothing if it is not encrypted.
    place: Option<String>,
}

/// A mapping or list on the way down, and what of it is still to be visited.
struct Level<'a> {
    rest: Unopened<'a>,
    /// Length of the place outside.
    above: usize,
    /// Whether the rule names a key above.
    named: bool,
}

enum Unopened<'a> {
    Map(slice::Iter<'a, (String, Node)>),
    List(slice::Iter<'a, Node>),
}

impl<'a> Level<'a> {
    fn of(node: &'a Node, above: usize, named: bool) -> Option<Self> {
        let rest = match node {
            Node::Map(entries) => Unopened::Map(entries.iter()),
            Node::List(items) => Unopened::List(items.iter()),
            Node::Leaf(_) => return None,
        };
        Some(Self { rest, above, named })
    }

    fn next(&mut self) -> Option<(Option<&'a str>, &'a Node)> {
        match &mut self.rest {
            Unopened::Map(rest) => rest.next().map(|(key, node)| (Some(key.as_str()), node)),
            Unopened::List(rest) => rest.next().map(|node| (None, node)),
        }
    }
}

/// The way through all values, in the order of the file.
struct Walk<'a> {
    document: &'a Document,
    cipher: &'a Cipher,
    target: &'a Node,
    spelling: Spelling,
    hash: Sha512,
    /// All keys down to here, each followed by a colon: what a value is bound to.
    place: String,
    count: usize,
    found: Option<Found>,
    /// What is hashed in place of the value of `target`.
    instead: Option<&'a [u8]>,
}

impl<'a> Walk<'a> {
    fn new(document: &'a Document, cipher: &'a Cipher, target: &'a Node, spelling: Spelling) -> Self {
        let mut hash = Sha512::new();
        if document.metadata.mac_only_encrypted {
            hash.update(ONLY_ENCRYPTED);
        }
        Self { document, cipher, target, spelling, hash, place: String::new(), count: 0, found: None, instead: None }
    }

    /// Visits all values. No recursion: the ciphers always run at the same depth of the stack, which is wiped later.
    fn run(&mut self, document: &'a Document) -> Result<()> {
        let mut levels: Vec<Level<'a>> = Vec::new();
        for root in &document.documents {
            self.place.clear();
            levels.extend(Level::of(root, 0, false));
            while let Some(level) = levels.last_mut() {
                self.place.truncate(level.above);
                let Some((key, node)) = level.next() else {
                    levels.pop();
                    continue;
                };
                let named = level.named || key.is_some_and(|key| document.metadata.rules.names(key));
                self.enter(key)?;
                match node {
                    Node::Leaf(scalar) => self.leaf(scalar, named, ptr::eq(node, self.target))?,
                    _ => levels.extend(Level::of(node, self.place.len(), named)),
                }
            }
        }
        Ok(())
    }

    /// Adds a key to the place. A list adds nothing: all its items share one place.
    fn enter(&mut self, key: Option<&str>) -> Result<()> {
        let Some(key) = key else { return Ok(()) };
        if self.count == 0 {
            self.place.push_str(self.spelling.mark);
        }
        self.place.push_str(key);
        self.place.push(':');
        if self.place.len() > MAX_PATH {
            return Err(fault(Reason::TooLarge, format!("a path in it is longer than {MAX_PATH} bytes")));
        }
        Ok(())
    }

    fn matches(&mut self, expected: &[u8]) -> bool {
        hex(&self.hash.finalize_reset()).ct_eq(expected).into()
    }

    fn leaf(&mut self, scalar: &Scalar, named: bool, wanted: bool) -> Result<()> {
        self.count += 1;
        let text = match scalar {
            Scalar::Null => return Ok(()),
            // Nothing to encrypt and nothing to hash.
            Scalar::Text(text) if text == self.spelling.ending || text.is_empty() => return Ok(()),
            Scalar::Text(text) | Scalar::Comment(text) => Some(text),
            _ => None,
        };
        let looks_encrypted = text.is_some_and(|text| Sealed::looks_like(text));
        if !self.document.metadata.rules.encrypted(named, looks_encrypted) {
            self.plain(scalar, wanted);
            return Ok(());
        }
        let clear = text.and_then(|text| Sealed::parse(text)).and_then(|sealed| self.cipher.open(sealed, &self.place));
        let clear = clear.ok_or_else(|| self.refused(looks_encrypted))?;
        if clear.kind != Type::Comment {
            self.hash.update(self.instead.filter(|_| wanted).unwrap_or(&clear.bytes));
        }
        if wanted {
            let place = Some(self.place.clone());
            self.found = Some(Found { kind: clear.kind, bytes: clear.released(), covered: true, place });
        }
        Ok(())
    }

    fn plain(&mut self, scalar: &Scalar, wanted: bool) {
        let covered = !self.document.metadata.mac_only_encrypted;
        let bytes = scalar.mac_bytes();
        let bytes = bytes.strip_suffix(self.spelling.ending.as_bytes()).unwrap_or(&bytes);
        if covered {
            self.hash.update(bytes);
        }
        if wanted {
            let kind = if matches!(scalar, Scalar::Bool(_)) { Type::Bool } else { Type::Text };
            let bytes = Zeroizing::new(bytes.to_vec());
            self.found = Some(Found { bytes: Clear { bytes, kind }.released(), kind, covered, place: None });
        }
    }

    /// Names a value by its number, for its key may be nobody's business.
    fn refused(&self, looks_encrypted: bool) -> Error {
        let what = if looks_encrypted { "was altered, moved or renamed" } else { "should be encrypted and is not" };
        fault(Reason::Tampered, format!("value {} of it (counted from the top) {what}", self.count))
    }
}

/// A hash as the MAC has it: upper case.
pub(super) fn hex(hash: &[u8]) -> Zeroizing<Vec<u8>> {
    let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble)];
    let mut out = Zeroizing::new(vec![0; hash.len() * 2]);
    for (pair, byte) in out.chunks_exact_mut(2).zip(hash) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    out
}
