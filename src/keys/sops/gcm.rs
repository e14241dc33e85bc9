//! One encrypted value: `ENC[AES256_GCM,data:...,iv:...,tag:...,type:...]`.

use aes_gcm::aead::consts::{U12, U32};
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Nonce, Tag};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::data_key::DataKey;
use super::scalar::{float_bytes, spell};
use super::time;

/// What `type:` says the plaintext is. The type is not authenticated: nothing may be trusted because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Integer,
    Float,
    Bool,
    Time,
    Bytes,
    Comment,
}

/// The parts of an encrypted value.
#[derive(Debug)]
pub(super) struct Sealed {
    data: Vec<u8>,
    nonce: Vec<u8>,
    tag: Tag,
    pub(super) kind: Type,
}

/// A decrypted value in the spelling of the MAC, wiped on drop.
pub(super) struct Clear {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) kind: Type,
}

const PREFIX: &str = "ENC[AES256_GCM,data:";

/// Go's reader ignores the bits behind the last byte, so files that have some are opened by sops.
pub(super) const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

impl Sealed {
    /// Reads the text form; `None` if it is none. What follows the last `]` is ignored, as sops does.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let inner = &text.strip_prefix(PREFIX)?;
        let inner = &inner[..inner.rfind(']')?];
        let (data, rest) = inner.split_once(",iv:")?;
        let (nonce, rest) = rest.split_once(",tag:")?;
        let (tag, kind) = rest.split_once(",type:")?;
        let kind = match kind {
            "str" => Type::Text,
            "int" => Type::Integer,
            "float" => Type::Float,
            "bool" => Type::Bool,
            "time" => Type::Time,
            "bytes" => Type::Bytes,
            "comment" => Type::Comment,
            _ => return None,
        };
        let tag = BASE64.decode(tag).ok()?.as_slice().try_into().ok()?;
        Some(Self { data: BASE64.decode(data).ok()?, nonce: BASE64.decode(nonce).ok()?, tag, kind })
    }

    /// Whether `text` has the form, without decoding it.
    pub(super) fn looks_like(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Whether `bytes` begin like an encrypted value.
    pub(super) fn is_prefix_of(bytes: &[u8]) -> bool {
        bytes.starts_with(PREFIX.as_bytes())
    }

    /// Whether `text` says that it is an encrypted comment.
    pub(super) fn is_comment(text: &str) -> bool {
        Self::looks_like(text) && text.ends_with(",type:comment]")
    }
}

/// The cipher of one file, with its round keys on the heap where they are wiped on drop.
pub(super) struct Cipher {
    /// What every writer uses.
    wide: Box<AesGcm<Aes256, U32>>,
    key: DataKey,
}

impl Cipher {
    pub(super) fn new(key: DataKey) -> Self {
        Self { wide: Box::new(AesGcm::new(key.bytes().into())), key }
    }

    /// Decrypts in place; `None` if the value, its place or its type is not what was encrypted.
    pub(super) fn open(&self, sealed: Sealed, aad: &str) -> Option<Clear> {
        let mut bytes = Zeroizing::new(sealed.data);
        let (aad, buffer) = (aad.as_bytes(), bytes.as_mut_slice().into());
        match sealed.nonce.len() {
            32 => {
                let nonce = Nonce::<U32>::try_from(sealed.nonce.as_slice()).ok()?;
                self.wide.decrypt_inout_detached(&nonce, aad, buffer, &sealed.tag).ok()?;
            }
            12 => {
                let nonce = Nonce::<U12>::try_from(sealed.nonce.as_slice()).ok()?;
                let narrow = Box::new(AesGcm::<Aes256, U12>::new(self.key.bytes().into()));
                narrow.decrypt_inout_detached(&nonce, aad, buffer, &sealed.tag).ok()?;
            }
            _ => return None,
        }
        Clear::new(bytes, sealed.kind)
    }

    /// Encrypts `bytes` for the place `aad` under a fresh nonce.
    pub(super) fn seal(&self, bytes: &[u8], aad: &str) -> crate::error::Result<String> {
        let mut nonce = [0; 32];
        super::data_key::random(&mut nonce)?;
        let mut data = Zeroizing::new(bytes.to_vec());
        let tag = self
            .wide
            .encrypt_inout_detached(&nonce.into(), aad.as_bytes(), data.as_mut_slice().into())
            .map_err(|_| super::fault::fault(crate::error::Reason::TooLarge, "a value is too large to be encrypted"))?;
        let (data, nonce, tag) = (BASE64.encode(&*data), BASE64.encode(nonce), BASE64.encode(tag));
        Ok(format!("{PREFIX}{data},iv:{nonce},tag:{tag},type:str]"))
    }
}

impl Clear {
    /// Brings numbers, truth values and moments into the spelling that the MAC covers.
    pub(super) fn new(bytes: Zeroizing<Vec<u8>>, kind: Type) -> Option<Self> {
        let text = || std::str::from_utf8(&bytes).ok();
        let bytes = match kind {
            Type::Text | Type::Bytes | Type::Comment => bytes,
            Type::Integer => spell(text()?.parse::<i64>().ok()?),
            Type::Float => float_bytes(text()?.parse().ok()?),
            Type::Time => Zeroizing::new(time::canonical(text()?)?.into_bytes()),
            Type::Bool => Zeroizing::new(match text()? {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => b"True".to_vec(),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => b"False".to_vec(),
                _ => return None,
            }),
        };
        Some(Self { bytes, kind })
    }

    /// The value as the formats write it: they have `true` where the MAC has `True`.
    pub(super) fn released(mut self) -> Zeroizing<Vec<u8>> {
        if self.kind == Type::Bool {
            self.bytes.make_ascii_lowercase();
        }
        self.bytes
    }
}
