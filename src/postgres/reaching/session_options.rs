//! What a session is opened with.

use std::sync::Arc;

use super::PostgresConnector;
use crate::connector::Access;
use crate::postgres::changes::Followers;

impl PostgresConnector {
    /// The same for a session that listens for changes; its name says so to the operator of the server.
    pub(crate) fn ears(&self) -> Self {
        let mut ears = self.clone();
        ears.application_name.push_str(" changes");
        ears
    }

    pub(crate) fn followers(&self) -> &Arc<Followers> {
        &self.followers
    }

    pub(crate) fn copies_in_bulk(&self) -> bool {
        self.bulk_copy
    }

    /// The settings as the server takes them at the start of a session, where `RESET` returns to.
    pub(super) fn options(&self, access: Access) -> String {
        let read_only = (access == Access::Read).then_some(("default_transaction_read_only", "on"));
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let one = |(name, value): (&str, &str)| format!("-c {}={}", escape(name), escape(value));
        self.options.iter().cloned().chain(own.chain(read_only).map(one)).collect::<Vec<_>>().join(" ")
    }
}

/// The server splits options at white space; a backslash takes a character's meaning away.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\\' || c.is_ascii_whitespace() || c == '\x0b' {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
