//! A writer's right to have the file to itself for a moment.

use std::sync::Arc;

use super::snapshot::HeldBack;
use crate::connector::{Access, StatementKind};
use crate::error::Result;
use crate::sqlcipher::opening::opened::Opened;
use crate::sqlcipher::running::engine::Engine;

/// Keeps readers from keeping snapshots while something changes the file as a whole.
pub(crate) struct Alone {
    opened: Arc<Opened>,
    writes: bool,
}

impl Alone {
    pub(crate) fn new(opened: &Arc<Opened>, access: Access) -> Self {
        Self { opened: Arc::clone(opened), writes: access == Access::Write }
    }

    /// Readers cannot change the file, and hold their own engine, for which this would wait.
    pub(crate) fn always(&self) -> Option<HeldBack<'_>> {
        self.writes.then(|| self.opened.snapshots().revoke())
    }

    pub(crate) fn for_statement(&self, engine: &mut Engine, sql: &Arc<str>) -> Result<Option<HeldBack<'_>>> {
        let ordinary = matches!(engine.kind(sql)?, StatementKind::Read | StatementKind::Write);
        Ok(if ordinary { None } else { self.always() })
    }
}
