//! Which values of a file are encrypted.
//!
//! Never decided by whether a value looks encrypted, for then anyone could put plaintext in its place. The one
//! exception are the rules about comments: the YAML parser shows no comments, and there the MAC catches the exchange.

use regex_lite::{Regex, RegexBuilder};

use crate::error::{Reason, Result};

use super::fault::fault;

/// The one rule in force.
#[derive(Debug)]
pub(super) enum Rules {
    UnencryptedSuffix(String),
    EncryptedSuffix(String),
    UnencryptedRegex(Regex),
    EncryptedRegex(Regex),
    Comment,
}

impl Rules {
    /// Takes the rule from the metadata; more than one is an error, none means the default suffix.
    pub(super) fn parse(field: impl Fn(&str) -> Result<Option<String>>) -> Result<Self> {
        const NAMES: [&str; 6] = [
            "unencrypted_suffix",
            "encrypted_suffix",
            "unencrypted_regex",
            "encrypted_regex",
            "unencrypted_comment_regex",
            "encrypted_comment_regex",
        ];
        let mut rule = None;
        for name in NAMES {
            let Some(text) = field(name)?.filter(|text| !text.is_empty()) else { continue };
            let parsed = match name {
                "unencrypted_suffix" => Self::UnencryptedSuffix(text),
                "encrypted_suffix" => Self::EncryptedSuffix(text),
                "unencrypted_regex" => Self::UnencryptedRegex(regex(name, &text)?),
                "encrypted_regex" => Self::EncryptedRegex(regex(name, &text)?),
                _ => Self::Comment,
            };
            if rule.replace(parsed).is_some() {
                return Err(fault(Reason::Malformed, "its `sops` block has more than one rule on what is encrypted"));
            }
        }
        Ok(rule.unwrap_or_else(|| Self::UnencryptedSuffix("_unencrypted".into())))
    }

    /// Whether the rule names `key`; a value is under the rule if any key above it is named.
    pub(super) fn names(&self, key: &str) -> bool {
        match self {
            Self::UnencryptedSuffix(suffix) | Self::EncryptedSuffix(suffix) => key.ends_with(suffix.as_str()),
            Self::UnencryptedRegex(regex) | Self::EncryptedRegex(regex) => regex.is_match(key),
            Self::Comment => false,
        }
    }

    /// Whether a value is encrypted, given whether a key above it is named.
    pub(super) fn encrypted(&self, named: bool, looks_encrypted: bool) -> bool {
        match self {
            Self::UnencryptedSuffix(_) | Self::UnencryptedRegex(_) => !named,
            Self::EncryptedSuffix(_) | Self::EncryptedRegex(_) => named,
            Self::Comment => looks_encrypted,
        }
    }
}

/// sops lets a broken expression match nothing; an error is better than a rule that is not in force.
fn regex(name: &str, text: &str) -> Result<Regex> {
    RegexBuilder::new(text)
        .size_limit(1 << 20)
        .build()
        .map_err(|_| fault(Reason::Malformed, format!("`{name}` in its `sops` block is not a usable expression")))
}
