//! What a statement gives: its rows, or what a sink makes of them.

use super::engine::Engine;
use crate::connector::Statement;
use crate::error::Result;
use crate::row::{Changes, RowSink, Rows};

/// What becomes of the rows of a statement, here or on another thread.
pub(crate) trait Delivery: Send + 'static {
    type Made: Send + 'static;

    fn run(&mut self, engine: &mut Engine, statement: &Statement) -> Result<Self::Made>;

    /// Moves it out, to be put back later.
    fn take(&mut self) -> Self;
}

/// The rows are collected.
pub(crate) struct ToRows;

impl Delivery for ToRows {
    type Made = Rows;

    fn run(&mut self, engine: &mut Engine, statement: &Statement) -> Result<Rows> {
        engine.run(statement)
    }

    fn take(&mut self) -> Self {
        Self
    }
}

/// The rows are shown to a sink.
pub(crate) struct ToSink(pub(crate) Box<dyn RowSink>);

impl Delivery for ToSink {
    type Made = Changes;

    fn run(&mut self, engine: &mut Engine, statement: &Statement) -> Result<Changes> {
        engine.run_into(statement, self.0.as_mut())
    }

    fn take(&mut self) -> Self {
        Self(std::mem::replace(&mut self.0, Box::new(())))
    }
}
