//! What the server or the driver reports, as an [`Error`] of this crate.
//!
//! By SQLSTATE where there is one. Messages of the server are kept, for they name tables, columns and constraints; what
//! they quote of values is cut out, and their detail, which quotes whole rows, is left behind.

use std::borrow::Cow;
use std::fmt;

use tokio_postgres::error::{DbError, Severity};

use super::said::without_values;
use crate::error::{Error, ErrorKind, Phase, Reason};

/// What the server said, beyond the message: the source of errors that came from it.
///
/// ```
/// use std::error::Error as _;
/// use strongroom::postgres::ServerError;
///
/// fn constraint(error: &strongroom::Error) -> Option<&str> {
///     error.source()?.downcast_ref::<ServerError>()?.constraint()
/// }
/// ```
#[derive(Debug)]
pub struct ServerError {
    sqlstate: String,
    constraint: Option<String>,
    table: Option<String>,
    column: Option<String>,
    changed_result: bool,
}

impl ServerError {
    /// The five characters that say what happened, such as `23505`.
    pub fn sqlstate(&self) -> &str {
        &self.sqlstate
    }

    /// The constraint that refused the data.
    pub fn constraint(&self) -> Option<&str> {
        self.constraint.as_deref()
    }

    /// The table concerned.
    pub fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    /// The column concerned.
    pub fn column(&self) -> Option<&str> {
        self.column.as_deref()
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered with SQLSTATE {}", self.sqlstate)
    }
}

impl std::error::Error for ServerError {}

/// Classifies what went wrong in `phase`. Whether a broken connection leaves an unknown outcome is for the session to
/// say, which knows what was under way, and whether it `goes_on` behind an error.
pub(crate) fn classify(error: tokio_postgres::Error, phase: Phase, goes_on: bool) -> Error {
    let classified = match error.as_db_error() {
        Some(server) => from_server(server, phase, goes_on),
        None => from_driver(error),
    };
    classified.during(phase)
}

/// A connection on which nothing can be sent any more.
#[cold]
pub(crate) fn broken(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Connection, message).because(Reason::Broken).transient()
}

/// The server's SQLSTATE, if this came from it.
pub(crate) fn sqlstate(error: &Error) -> Option<&str> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref().map(ServerError::sqlstate)
}

/// Whether the columns of a prepared statement have become others. The state stands for all that is not supported, and
/// the text is translated; the name of the function is not. What is no PostgreSQL gives another name or none, and says it in English.
fn is_changed_result(server: &DbError) -> bool {
    let says = || server.message() == "cached plan must not change result type";
    server.code().code() == "0A000" && (server.routine() == Some("RevalidateCachedQuery") || says())
}

pub(crate) fn is_of_changed_result(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<ServerError>());
    source.is_some_and(|server| server.changed_result)
}

#[cold]
fn from_server(server: &DbError, phase: Phase, goes_on: bool) -> Error {
    let state = server.code().code();
    let Class(kind, reason, transient) = match (state, class(state)) {
        ("57014", _) if is_statement_timeout(server.message()) => Class(ErrorKind::Timeout, Reason::RolledBack, false),
        // Another connection broke: that of the server to yet another, as with postgres_fdw.
        (_, Class(_, Reason::Broken, transient)) if goes_on => Class(ErrorKind::Query, Reason::Unspecified, transient),
        (_, class) => class,
    };
    let said = without_values(server.message(), state, server.position().is_some());
    let mut error = Error::new(kind, format!("{said} ({state})")).because(reason);
    if phase == Phase::Connect && kind == ErrorKind::Query {
        error = Error::new(ErrorKind::Config, format!("the server refuses a setting: {said} ({state})"));
    } else if kind != ErrorKind::Connection
        && (matches!(server.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
            || phase != Phase::Connect && !goes_on)
    {
        // A session the server ends is broken, whatever it was ended for.
        error = Error::new(ErrorKind::Connection, format!("the server ended the session: {said} ({state})"));
        error = error.because(Reason::Broken).transient();
    } else if transient {
        error = error.transient();
    }
    if kind == ErrorKind::Timeout {
        error = error.hint("the server's statement_timeout bounds every statement of this session");
    } else if let Some(hint) = hint(state) {
        error = error.hint(hint);
    }
    let own = |text: Option<&str>| text.map(str::to_owned);
    error.with_code(state).caused_by(Box::new(ServerError {
        sqlstate: state.to_owned(),
        constraint: own(server.constraint()),
        table: own(server.table()),
        column: own(server.column()),
        changed_result: is_changed_result(server),
    }) as Box<dyn std::error::Error + Send + Sync>)
}

/// Whether a statement was stopped by the server's own `statement_timeout`: the one case of 57014 that nobody asked for.
/// Nothing but the message tells, in the language of the server's `lc_messages`: here the translations of PostgreSQL 15.
fn is_statement_timeout(message: &str) -> bool {
    const SAID: &[&str] = &[
        "canceling statement due to statement timeout",
        "storniere Anfrage wegen Zeitüberschreitung der Anfrage",
        "cancelando la sentencia debido a que se agotó el tiempo de espera de sentencias",
        "annulation de la requête à cause du délai écoulé pour l'exécution de l'instruction",
        "annullamento dell'istruzione a causa di timeout",
        "ステートメントのタイムアウトのためステートメントをキャンセルしています",
        "명령실행시간 초과로 작업을 취소합니다.",
        "выполнение оператора отменено из-за тайм-аута",
        "avbryter sats på grund av sats-timeout",
        "виконання оператора скасовано через тайм-аут",
        "由于语句执行超时，正在取消查询命令",
    ];
    SAID.contains(&message)
}

/// Kind, reason, and whether trying again may help.
struct Class(ErrorKind, Reason, bool);

fn class(state: &str) -> Class {
    use ErrorKind as K;
    use Reason as R;
    let (kind, reason, transient) = match (state, state.get(..2).unwrap_or_default()) {
        ("40001" | "40P01", _) => (K::Serialization, R::Unspecified, true),
        ("40003", _) => (K::OutcomeUnknown, R::Unspecified, false),
        ("55P03", _) => (K::Busy, R::Unspecified, true),
        ("57014", _) => (K::Cancelled, R::Unspecified, false),
        ("57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04", _) | (_, "08") => (K::Connection, R::Broken, true),
        ("53300", _) => (K::Connection, R::Unspecified, true),
        ("53100", _) => (K::Storage, R::DiskFull, false),
        ("25006", _) => (K::Connection, R::NotWritable, true),
        ("25P02", _) => (K::Transaction, R::Doomed, false),
        ("3D000", _) => (K::Connection, R::NotFound, false),
        ("23505", _) => (K::Constraint, R::Unique, false),
        ("23503", _) => (K::Constraint, R::ForeignKey, false),
        ("23502", _) => (K::Constraint, R::NotNull, false),
        ("23514", _) => (K::Constraint, R::Check, false),
        ("42501", _) => (K::Query, R::NotPermitted, false),
        ("42804" | "42846" | "42883" | "42P18", _) | (_, "22") => (K::Query, R::Type, false),
        ("58P01" | "58030", _) => (K::Storage, R::Io, false),
        ("XX001" | "XX002", _) => (K::Storage, R::Damaged, false),
        (_, "28") => (K::Connection, R::AuthRefused, false),
        (_, "23" | "44") | ("40002", _) => (K::Constraint, R::Unspecified, false),
        (_, "25" | "2D" | "3B" | "40") => (K::Transaction, R::Unspecified, false),
        (_, "42") => (K::Query, R::Syntax, false),
        (_, "53") => (K::Storage, R::Unspecified, false),
        (_, "54") => (K::Query, R::TooLarge, false),
        (_, "0A") => (K::Unsupported, R::Unspecified, false),
        _ => (K::Query, R::Unspecified, false),
    };
    Class(kind, reason, transient)
}

fn hint(state: &str) -> Option<&'static str> {
    Some(match state {
        "28P01" | "28000" => "check the user and what the key source gives",
        "53300" => "lower pool_max or raise the server's max_connections",
        "57P03" => "the server is starting up or shutting down",
        "26000" => "behind a pooler in transaction mode set statement_cache(0)",
        "42P18" => "name the parameter's type, as in cast($1 as bigint)",
        "42601" => "a text of several statements runs as a script",
        "22021" => "PostgreSQL stores no NUL in text; bind bytes",
        _ => return None,
    })
}

/// Errors without SQLSTATE: the connection's own. The driver tells them apart by text only, but the source is typed.
#[cold]
fn from_driver(error: tokio_postgres::Error) -> Error {
    let said = error.to_string();
    let closed = error.is_closed();
    let source = error.into_source();
    let tls = source.as_ref().and_then(|source| tls_error(&**source));
    let made = match said.as_str() {
        _ if closed => broken("the connection to the server was closed"),
        _ if tls.is_some() => untrusted(tls),
        // Cut in the middle: what refuses has another source, or none.
        "error performing TLS handshake" if source.as_ref().is_some_and(|source| source.is::<std::io::Error>()) => {
            broken("the connection to the server broke during the TLS handshake")
        }
        "error performing TLS handshake" => {
            let refused = Error::new(ErrorKind::Connection, "the server does not offer TLS").because(Reason::Untrusted);
            return refused.hint("switch it on there, or use Tls::off() on a network that you trust");
        }
        "authentication error"
            if source.as_ref().is_some_and(|source| source.to_string().contains("channel binding")) =>
        {
            let refused = Error::new(ErrorKind::Connection, "the server does not bind the login to its certificate");
            let refused = refused.because(Reason::AuthRefused);
            refused.hint("channel binding takes a password of SCRAM-SHA-256 and a certificate that is not of Ed25519 or RSASSA-PSS")
        }
        "authentication error" => Error::new(
            ErrorKind::Connection,
            "the login failed, or the server could not prove that it knows the password",
        )
        .because(Reason::AuthRefused),
        "invalid configuration" => {
            Error::new(ErrorKind::Connection, "the server asks for a password and none is configured")
                .because(Reason::AuthRefused)
                .hint("give the connector a key source with key(..)")
        }
        "error communicating with the server" if !source.as_ref().is_some_and(|source| is_no_message(&**source)) => {
            broken("the connection to the server broke")
        }
        _ => broken("the server and the driver do not understand each other").permanent(),
    };
    match source {
        Some(source) => made.caused_by(source),
        None => made,
    }
}

/// What arrived was no message of the protocol.
fn is_no_message(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidData)
}

/// Finds what rustls says, which the driver wraps in an I/O error.
fn tls_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    error.downcast_ref().or_else(|| error.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref())
}

fn untrusted(error: Option<&rustls::Error>) -> Error {
    use rustls::CertificateError as Certificate;
    let (what, hint) = match error {
        Some(rustls::Error::InvalidCertificate(certificate)) => match certificate {
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                ("the server's certificate is for another name", "connect by a name that stands in the certificate")
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                ("the server's certificate has expired", "renew it on the server")
            }
            Certificate::UnknownIssuer | Certificate::BadSignature => (
                "the server's certificate comes from an authority that is not trusted here",
                "give the authority's certificate with Tls::authority(..)",
            ),
            _ => ("the server's certificate was refused", "look at the source of this error"),
        },
        _ => ("the TLS handshake with the server failed", "look at the source of this error"),
    };
    Error::new(ErrorKind::Connection, what).because(Reason::Untrusted).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_sqlstates() {
        use ErrorKind as K;
        use Reason as R;
        let table = [
            ("40001", K::Serialization, R::Unspecified, true),
            ("40P01", K::Serialization, R::Unspecified, true),
            ("40003", K::OutcomeUnknown, R::Unspecified, false),
            ("40002", K::Constraint, R::Unspecified, false),
            ("40000", K::Transaction, R::Unspecified, false),
            ("25P01", K::Transaction, R::Unspecified, false),
            ("57P02", K::Connection, R::Broken, true),
            ("57P05", K::Connection, R::Broken, true),
            ("25P03", K::Connection, R::Broken, true),
            ("25P04", K::Connection, R::Broken, true),
            ("3D000", K::Connection, R::NotFound, false),
            ("42501", K::Query, R::NotPermitted, false),
            ("42804", K::Query, R::Type, false),
            ("42846", K::Query, R::Type, false),
            ("42P18", K::Query, R::Type, false),
            ("53200", K::Storage, R::Unspecified, false),
            ("54001", K::Query, R::TooLarge, false),
            ("58P01", K::Storage, R::Io, false),
            ("58030", K::Storage, R::Io, false),
            ("XX002", K::Storage, R::Damaged, false),
            ("44000", K::Constraint, R::Unspecified, false),
            ("28000", K::Connection, R::AuthRefused, false),
            ("55P03", K::Busy, R::Unspecified, true),
            ("08006", K::Connection, R::Broken, true),
            ("57P01", K::Connection, R::Broken, true),
            ("57P03", K::Connection, R::Broken, true),
            ("25006", K::Connection, R::NotWritable, true),
            ("28P01", K::Connection, R::AuthRefused, false),
            ("53300", K::Connection, R::Unspecified, true),
            ("53100", K::Storage, R::DiskFull, false),
            ("23505", K::Constraint, R::Unique, false),
            ("23503", K::Constraint, R::ForeignKey, false),
            ("23502", K::Constraint, R::NotNull, false),
            ("23514", K::Constraint, R::Check, false),
            ("23P01", K::Constraint, R::Unspecified, false),
            ("57014", K::Cancelled, R::Unspecified, false),
            ("42601", K::Query, R::Syntax, false),
            ("42883", K::Query, R::Type, false),
            ("22P02", K::Query, R::Type, false),
            ("25P02", K::Transaction, R::Doomed, false),
            ("XX001", K::Storage, R::Damaged, false),
            ("0A000", K::Unsupported, R::Unspecified, false),
            ("P0001", K::Query, R::Unspecified, false),
            ("é", K::Query, R::Unspecified, false),
        ];
        for (state, kind, reason, transient) in table {
            let found = class(state);
            assert_eq!((found.0, found.1, found.2), (kind, reason, transient), "{state}");
        }
    }
}
