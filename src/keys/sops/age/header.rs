//! The header of an age file: for each recipient a stanza with the file key, and a MAC.

use std::str;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::primitives::{FileKey, hkdf, hmac};

const VERSION: &[u8] = b"age-encryption.org/v1\n";
const COLUMNS: usize = 64;

/// The file key, encrypted to one recipient.
#[derive(Debug)]
pub(in crate::keys::sops) struct Stanza {
    pub(in crate::keys::sops) kind: String,
    pub(in crate::keys::sops) args: Vec<String>,
    pub(in crate::keys::sops) body: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) stanzas: Vec<Stanza>,
    /// What the MAC covers.
    covered: &'a [u8],
    mac: [u8; 32],
}

impl<'a> Header<'a> {
    /// Reads the header, and gives what follows it.
    pub(super) fn parse(file: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut rest = file.strip_prefix(VERSION)?;
        let mut stanzas = Vec::new();
        loop {
            if let Some(stanza) = rest.strip_prefix(b"-> ") {
                rest = stanza;
                stanzas.push(Stanza::parse(&mut rest)?);
                continue;
            }
            let covered = file.get(..file.len() - rest.len() + 3)?;
            let mac = decode(line(&mut rest)?.strip_prefix(b"--- ")?)?.try_into().ok()?;
            return Some((Self { stanzas, covered, mac }, rest));
        }
    }

    /// Writes the header, with its MAC.
    pub(super) fn write(stanza: &Stanza, file_key: &FileKey) -> Vec<u8> {
        let mut text = VERSION.to_vec();
        for word in ["->", &stanza.kind].into_iter().chain(stanza.args.iter().map(String::as_str)) {
            text.extend_from_slice(word.as_bytes());
            text.push(b' ');
        }
        text.pop();
        // The last line of a body is shorter than the columns, empty if need be.
        let body = STANDARD_NO_PAD.encode(&stanza.body);
        let (lines, last) = body.as_bytes().as_chunks::<COLUMNS>();
        for line in lines.iter().map(<[u8; COLUMNS]>::as_slice).chain([last]) {
            text.push(b'\n');
            text.extend_from_slice(line);
        }
        text.extend_from_slice(b"\n---");
        let mac = STANDARD_NO_PAD.encode(mac(file_key, &text).as_slice());
        text.extend_from_slice(format!(" {mac}\n").as_bytes());
        text
    }

    pub(super) fn is_authentic(&self, file_key: &FileKey) -> bool {
        mac(file_key, self.covered).as_slice().ct_eq(self.mac.as_slice()).into()
    }
}

impl Stanza {
    fn parse(rest: &mut &[u8]) -> Option<Self> {
        let words = str::from_utf8(line(rest)?).ok()?;
        let mut words = words.split(' ').map(|word| {
            let fits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
            fits.then(|| word.to_owned())
        });
        let (kind, args) = (words.next()??, words.collect::<Option<_>>()?);
        let mut body = Vec::new();
        loop {
            let line = line(rest).filter(|line| line.len() <= COLUMNS)?;
            STANDARD_NO_PAD.decode_vec(line, &mut body).ok()?;
            if line.len() < COLUMNS {
                return Some(Self { kind, args, body });
            }
        }
    }
}

/// Base64 as headers have it: no padding, and no other spelling of the same bytes.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text).ok()
}

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// Takes the first line off.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (line, after) = (&rest[..end], &rest[end + 1..]);
    *rest = after;
    Some(line)
}

fn mac(file_key: &FileKey, covered: &[u8]) -> Zeroizing<[u8; 32]> {
    hmac(&*hkdf(b"", b"header", file_key.bytes()), &[covered])
}
