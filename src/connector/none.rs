//! The engine of a build without engines.

use std::convert::Infallible;

use super::{Access, Canceller, Capabilities, Connector, Resource, ResourceState};
use crate::error::Result;

/// Stands where the default engine would, in builds that have none. It cannot be made.
#[derive(Debug)]
pub struct NoConnector(Infallible);

impl Connector for NoConnector {
    type Connection = Self;

    fn capabilities(&self) -> Capabilities {
        match self.0 {}
    }

    async fn connect(&self, _: Access) -> Result<Self> {
        match self.0 {}
    }
}

impl Resource for NoConnector {
    fn state(&self) -> ResourceState {
        match self.0 {}
    }

    fn canceller(&self) -> Canceller {
        match self.0 {}
    }

    async fn ping(&mut self) -> Result<()> {
        match self.0 {}
    }

    async fn close(self) -> Result<()> {
        match self.0 {}
    }
}
