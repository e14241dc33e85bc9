//! A change of key, as the connector prepares it.

use std::sync::Arc;

use super::again::{State, closed};
use super::connector::SqlCipherConnector;
use super::copies;
use super::keys;
use super::running::job::on_thread;
use crate::connector::{Rekeying, TellProgress};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyCandidate, KeySource};

impl SqlCipherConnector {
    /// What is left to do once nothing is open.
    pub(super) async fn prepare_rekey(
        &self,
        source: Arc<dyn KeySource>,
        progress: Option<TellProgress>,
    ) -> Result<Rekeying> {
        self.refuse_rekey()?;
        let first = keys::candidates(&*source).await?.into_iter().next();
        let KeyCandidate { secret, source: name } = first.ok_or_else(|| keys::offers_nothing(&*source))?;
        let opened = self.opened().await?;
        self.known.bring_up_to_date(&opened).await?;
        let new = on_thread(move || copies::another_key(&opened, &secret)).await??;
        let (state, key_source) = (Arc::clone(&self.known.state), Arc::clone(&self.known.key_source));
        Ok(Box::pin(async move {
            // Whoever opens waits for it, also when the caller has gone away.
            let mut state = state.lock_owned().await;
            on_thread(move || match &mut *state {
                State::Opened(known) => {
                    let opened = Arc::clone(&known.opened);
                    let in_use = || {
                        key_source.add(name);
                        known.go_on_with(Some(source));
                    };
                    copies::rekey(&opened, new, progress, in_use)
                }
                State::Unopened { .. } | State::ShutDown => Err(closed()),
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
