//! A session for a user with a password, which may be another one by now.

use std::sync::Arc;

use tokio_postgres::config::TargetSessionAttrs;

use super::connector::PostgresConnector;
use super::dial::{Dial, Dialed};
use super::hosts::Readers;
use super::names;
use crate::connector::{Access, AskedKeySource};
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::key::KeySource as _;
use crate::secret::{Secret, SecretForm};

impl PostgresConnector {
    /// Opens a session. A password that the server refuses is asked for again, once: what the source gives then is right,
    /// or the error stands.
    pub(super) async fn log_in(&self, access: Access) -> Result<Dialed> {
        let password = self.password().await?;
        match self.session(access, password.as_ref()).await {
            Err(error) if error.reason() == Reason::AuthRefused => {
                let Some(other) = self.password_instead(password.as_ref()).await? else { return Err(error) };
                self.session(access, Some(&other)).await
            }
            outcome => outcome,
        }
    }

    /// The password, asked for anew; `None` where it comes from nowhere or from a file of passwords.
    async fn password(&self) -> Result<Option<Secret>> {
        let Some(key) = &self.key else { return Ok(None) };
        let asked = AskedKeySource::new(Arc::clone(key), self.listener.get().cloned());
        let secret = asked.resolve().await.map_err(|error| error.about(key.describe()).during(Phase::Key))?;
        let unfit = |what, reason| {
            let message = format!("{} gave {what} for the password of {}", key.describe(), names::shown(&self.user));
            Err(Error::new(ErrorKind::Key, message).because(reason).during(Phase::Key))
        };
        if secret.is_empty() {
            return unfit("nothing", Reason::Empty);
        }
        if secret.form() != SecretForm::Passphrase {
            return unfit("a raw key", Reason::Malformed);
        }
        Ok(Some(secret))
    }

    /// The password that there is by now, after the server has refused `old`; `None` if that is still the same.
    async fn password_instead(&self, old: Option<&Secret>) -> Result<Option<Secret>> {
        let (Some(key), Some(old)) = (self.key.as_ref().filter(|key| !key.is_fixed()), old) else { return Ok(None) };
        key.forget();
        Ok(self.password().await?.filter(|new| new.expose() != old.expose()))
    }

    /// Opens a session with this password.
    async fn session(&self, access: Access, password: Option<&Secret>) -> Result<Dialed> {
        let tls = self.tls.client_config()?;
        let mut config = self.config(access)?;
        if let Some(password) = password {
            config.password(password.expose());
        }
        let target = self.target.unwrap_or(match (access, self.readers.unwrap_or_default()) {
            (Access::Write, _) | (_, Readers::Primary) => TargetSessionAttrs::ReadWrite,
            (_, Readers::Any) => TargetSessionAttrs::Any,
            (_, Readers::PreferStandby) => TargetSessionAttrs::ReadOnly,
        });
        let (reads, timeout, keepalive) = (access == Access::Read, self.connect_timeout, self.keepalive);
        let dial = Dial { config: &config, tls, target, reads, timeout, keepalive };
        // Sessions on standbys are spread over them, whatever their caller may do.
        let hosts = if target == TargetSessionAttrs::ReadOnly { Access::Read } else { access };
        let order = self.memory.order(self.hosts.len(), hosts);
        if self.target.is_none() && self.prefers_standby(access) {
            self.standby_or_any(dial, &order).await
        } else {
            self.first_that_will_do(&dial, &order, hosts).await
        }
    }
}
