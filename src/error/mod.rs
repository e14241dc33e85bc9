//! The one error type of the crate.
//!
//! Floor 0. [`Error`] is opaque and one word wide, so every `Result` stays small; what happened is read through
//! [`kind`](Error::kind), [`reason`](Error::reason) and [`phase`](Error::phase). Whoever makes an error decides whether
//! trying again can help (`transient`); whoever retries asks only that.
//!
//! No error may hold a secret: not in its message, not in its source. Engines drop the source of whatever fails while
//! keying.

mod kinds;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::veiled::{Veiled, without_keys};

pub use kinds::{ErrorKind, Phase, Reason};

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Arc<dyn std::error::Error + Send + Sync + 'static>;

/// What went wrong, with the way out.
///
/// `Display` is one sentence in lower case: what was attempted, on what, and after a semicolon what helps. It never
/// repeats the [`source`](std::error::Error::source) and never contains a secret.
///
/// ```
/// use strongroom::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Key, "environment variable DB_KEY is not set").hint("export DB_KEY first");
/// assert_eq!(error.kind(), ErrorKind::Key);
/// assert_eq!(error.to_string(), "environment variable DB_KEY is not set; export DB_KEY first");
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    reason: Reason,
    phase: Option<Phase>,
    transient: bool,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    object: Option<Cow<'static, str>>,
    code: Option<Box<str>>,
    source: Option<Source>,
}

impl Error {
    /// Makes an error that is permanent and has no finer reason; refine it with the methods below.
    #[cold]
    #[inline(never)]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            reason: Reason::Unspecified,
            phase: None,
            transient: false,
            message: shown(message.into()),
            hint: None,
            object: None,
            code: None,
            source: None,
        }))
    }

    /// Names the finer cause.
    #[must_use]
    pub fn because(mut self, reason: Reason) -> Self {
        self.0.reason = reason;
        self
    }

    /// Adds what the reader can do about it; shown after a semicolon.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(shown(hint.into()));
        self
    }

    /// Names what the error is about (a file, a variable, a constraint's columns), unless somebody closer to the cause has
    /// named it already. It is not shown by itself: the message names it too.
    #[must_use]
    pub fn about(mut self, object: impl Into<Cow<'static, str>>) -> Self {
        self.0.object.get_or_insert_with(|| shown(object.into()));
        self
    }

    /// Keeps the engine's own code for what happened, unless one is there already.
    #[must_use]
    pub fn with_code(mut self, code: impl fmt::Display) -> Self {
        self.0.code.get_or_insert_with(|| code.to_string().into());
        self
    }

    /// Names what was being done, unless somebody closer to the cause has named it already.
    #[must_use]
    pub fn during(mut self, phase: Phase) -> Self {
        self.0.phase.get_or_insert(phase);
        self
    }

    /// Says that trying the same again may help.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.0.transient = true;
        self
    }

    /// Says that trying again is over: retries outside this error would only repeat those inside.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.0.transient = false;
        self
    }

    /// Keeps the cause. It must not contain a secret.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>) -> Self {
        self.0.source = Some(source.into().into());
        self
    }

    /// Puts words in front of the message, keeping everything else.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{}: {}", Veiled(context), self.0.message).into();
        self
    }

    /// What happened, without the advice for programmers: what to show to the users of a program.
    ///
    /// ```
    /// use strongroom::{EnvKeySource, KeySource};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let error = EnvKeySource::new("NO_SUCH_KEY").resolve().await.unwrap_err();
    /// assert_eq!(error.message(), "environment variable NO_SUCH_KEY is not set");
    /// assert_eq!(error.advice(), Some("export it before the program starts"));
    /// assert_eq!(error.object(), Some("environment variable NO_SUCH_KEY"));
    /// # }
    /// ```
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What the programmer or operator can do about it: what [`hint`](Self::hint) was given.
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// What the error is about, where that is one thing with a name: a file, a variable, the columns of a constraint.
    pub fn object(&self) -> Option<&str> {
        self.0.object.as_deref()
    }

    /// The engine's own code, where the error came from it: SQLite's extended result code (`2067`), or a SQLSTATE (`23505`).
    pub fn code(&self) -> Option<&str> {
        let source = || self.0.source.as_deref()?.downcast_ref::<Self>()?.code();
        self.0.code.as_deref().or_else(source)
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The finer cause.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// What was being done, where that is known.
    pub fn phase(&self) -> Option<Phase> {
        self.0.phase
    }

    /// Whether trying again may help. False once all attempts were made.
    pub fn is_transient(&self) -> bool {
        self.0.transient
    }

    /// Says that a statement has taken effect, where this error is about its answer only.
    #[cold]
    pub(crate) fn about_the_answer(self) -> Self {
        self.context("the statement has taken effect, but its answer cannot be read").during(Phase::Answer)
    }

    /// Describes a panic of user code; the payload is not shown, for it may hold anything.
    pub(crate) fn panicked(who: &str) -> Self {
        Self::new(ErrorKind::Connection, format!("the {who} panicked"))
            .because(Reason::Panicked)
            .hint("the panic hook of the program has its words, by default on standard error")
    }
}

/// The text without a private key in it, that somebody gave in place of a name.
fn shown(text: Cow<'static, str>) -> Cow<'static, str> {
    match &text {
        Cow::Owned(owned) => match without_keys(owned) {
            Cow::Owned(shown) => shown.into(),
            Cow::Borrowed(_) => text,
        },
        Cow::Borrowed(_) => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind);
        if self.0.reason != Reason::Unspecified {
            out.field("reason", &self.0.reason);
        }
        if let Some(phase) = self.0.phase {
            out.field("phase", &phase);
        }
        out.field("message", &format_args!("{self}"));
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn display_never_repeats_the_source() {
        let error = Error::new(ErrorKind::Storage, "cannot read").caused_by("inner words");
        assert_eq!(error.to_string(), "cannot read");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "inner words");
    }

    #[test]
    fn the_phase_nearest_to_the_cause_stays() {
        let error = Error::new(ErrorKind::Key, "x").during(Phase::Key).during(Phase::Connect);
        assert_eq!(error.phase(), Some(Phase::Key));
    }
}
