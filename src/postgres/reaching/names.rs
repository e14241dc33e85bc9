//! What names mean: environment variables of libpq, and names of users and databases. Somebody may have given a URL or libpq's words where a name was asked for, and a password with
//! it: that is neither shown nor sent.

use std::env::VarError;

use crate::error::{Error, ErrorKind, Phase, Reason, Result};

/// Whether it may hold a password: a URL, the beginning of one without its scheme, or `password=..`.
fn may_hold_a_password(name: &str) -> bool {
    let has_login = name.rsplit_once('@').is_some_and(|(login, _)| login.contains(':'));
    let name = name.to_ascii_lowercase();
    let mut behind = name.split("password").skip(1);
    has_login || name.contains("://") || behind.any(|rest| rest.trim_start().starts_with('='))
}

/// The name as it is shown.
pub(super) fn shown(name: &str) -> &str {
    if may_hold_a_password(name) { "(not shown: it may hold a password)" } else { name }
}

/// Refuses what may hold a password.
pub(super) fn check(what: &str, name: &str) -> Result<()> {
    if !may_hold_a_password(name) {
        return Ok(());
    }
    let message = format!("the name of the {what} may hold a password, and is neither shown nor sent");
    let error = Error::new(ErrorKind::Config, message).during(Phase::Connect);
    Err(error.hint("PostgresConnector::from_url takes URLs; .key(..) takes the password"))
}

/// Reads an environment variable; empty counts as not set, as in libpq.
pub(crate) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// The process's own.
pub(crate) fn process(name: &str) -> Option<String> {
    match std::env::var(name) {
        Ok(value) => Some(value).filter(|value| !value.is_empty()),
        Err(VarError::NotPresent | VarError::NotUnicode(_)) => None,
    }
}

#[cold]
pub(crate) fn malformed(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message).because(Reason::Malformed)
}
