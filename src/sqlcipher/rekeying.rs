//! A change of key, as the connector prepares it.

use std::sync::Arc;

use super::again::{State, closed};
use super::connector::SqlCipherConnector;
use super::copies::{self, HeldFile};
use super::keys;
use super::running::job::on_thread;
use crate::connector::{Rekeying, TellProgress};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyCandidate, KeySource};
use crate::secret::Secret;

impl SqlCipherConnector {
    /// What is left to do once nothing is open.
    pub(super) async fn prepare_rekey(
        &self,
        source: Arc<dyn KeySource>,
        progress: Option<TellProgress>,
    ) -> Result<Rekeying> {
        self.refuse_rekey()?;
        let first = keys::anew(&*source).await?.into_iter().next();
        let KeyCandidate { secret, source: name } = first.ok_or_else(|| keys::offers_nothing(&*source))?;
        let opened = self.opened().await?;
        self.known.bring_up_to_date(&opened).await?;
        let derives = secret.clone();
        let new = on_thread(move || copies::another_key(&opened, &derives)).await??;
        let (state, key_source) = (Arc::clone(&self.known.state), Arc::clone(&self.known.key_source));
        Ok(Box::pin(async move {
            // Whoever opens waits for it, also when the caller has gone away.
            let state = state.lock_owned().await;
            let State::Opened(known) = &*state else { return Err(closed()) };
            let opened = Arc::clone(&known.opened);
            let held = on_thread(move || HeldFile::take(&opened)).await??;
            // From here on nobody else can put another key in the place of this one.
            still_offered(&*source, &secret).await?;
            let mut state = state;
            on_thread(move || {
                held.rekey(new, progress, || {
                    if let State::Opened(known) = &mut *state {
                        key_source.add(name);
                        known.go_on_with(Some(source));
                    }
                })
            })
            .await?
        }))
    }

    /// Refuses to change the key of what has none, or cannot be written.
    fn refuse_rekey(&self) -> Result<()> {
        if self.file().is_none() {
            let error = Error::new(ErrorKind::Config, "a database in memory has no key that could be changed");
            return Err(error.hint("its key protects nothing that outlives the process"));
        }
        if !self.has_key {
            return Err(copies::not_encrypted());
        }
        self.wishes.refuse_reading()
    }
}

/// A database under a key that nobody has is lost: while everybody let go of the file, the source may have got another.
async fn still_offered(source: &dyn KeySource, secret: &Secret) -> Result<()> {
    if source.is_fixed() {
        return Ok(());
    }
    let offered = keys::anew(source).await.map_err(|error| error.context("the key was not changed"))?;
    if offered.iter().any(|candidate| candidate.secret.expose() == secret.expose()) {
        return Ok(());
    }
    let message = format!("the key was not changed: {} does not offer the new one any more", source.describe());
    Err(Error::new(ErrorKind::Key, message).hint("call again, which takes the one that it offers now").transient())
}
