//! A secret in an environment variable.

use async_trait::async_trait;

use super::buffer::empty;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::key::KeySource;
use crate::secret::Secret;
use crate::veiled::Veiled;

/// Reads an environment variable, anew at each call; its value is the secret, byte by byte.
///
/// What this cannot do: the process keeps its environment for as long as it lives, so the variable's own copy of the
/// secret is never wiped, child processes inherit it, and the same user can read it from outside. Nobody can change it from
/// outside, so that after a change of key by another process the program has to begin anew. Prefer
/// [`FileKeySource`](crate::FileKeySource) where that matters.
///
/// ```
/// use strongroom::{EnvKeySource, KeySource, Reason};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let source = EnvKeySource::new("NO_SUCH_KEY");
/// let error = source.resolve().await.unwrap_err();
/// assert_eq!(error.reason(), Reason::Missing);
/// assert_eq!(error.to_string(), "environment variable NO_SUCH_KEY is not set; export it before the program starts");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct EnvKeySource {
    name: Veiled<String>,
}

impl EnvKeySource {
    /// Reads the variable `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: Veiled(name.into()) }
    }
}

/// Fails with [`Reason::Missing`] when the variable is not set, and with [`Reason::Empty`] when it is set to nothing.
#[async_trait]
impl KeySource for EnvKeySource {
    async fn resolve(&self) -> Result<Secret> {
        let value = std::env::var_os(&self.name.0).ok_or_else(|| {
            Error::new(ErrorKind::Key, format!("{} is not set", self.describe()))
                .because(Reason::Missing)
                .about(self.describe())
                .hint("export it before the program starts")
        })?;
        if value.is_empty() {
            return Err(empty(&self.describe()));
        }
        // Taking the bytes as they are keeps passphrases that are not UTF-8; the buffer is wiped.
        Ok(Secret::new(value.into_encoded_bytes()))
    }

    fn describe(&self) -> String {
        format!("environment variable {}", self.name)
    }
}
