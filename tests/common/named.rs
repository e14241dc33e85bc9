//! A raw key of one repeated byte, from a source with a name.
#![allow(unreachable_pub, reason = "shared by tests")]

use strongroom::keys::async_trait;
use strongroom::{KeySource, Result, Secret};

pub struct Named(pub &'static str, pub u8);

#[async_trait]
impl KeySource for Named {
    async fn resolve(&self) -> Result<Secret> {
        Ok(Secret::raw_key([self.1; 32]))
    }

    fn describe(&self) -> String {
        self.0.into()
    }
}
