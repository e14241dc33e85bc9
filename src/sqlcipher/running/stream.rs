//! A statement whose rows are fetched while it runs.
//!
//! The job fills chunks on its thread and stops at a channel that holds few, so a slow reader holds it back. Dropping
//! the receiving end ends it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::job::{Done, Shared, StopOnDrop};
use crate::connector::{ResourceState, Statement};
use crate::errand;
use crate::error::Result;
use crate::row::Rows;

/// Chunks between the job and the reader. Two, so that neither waits where the other is late by less than a chunk.
const AHEAD: usize = 2;

/// An open stream.
#[derive(Debug)]
pub(crate) struct OpenStream {
    chunks: mpsc::Receiver<Rows>,
    job: oneshot::Receiver<Done<()>>,
    done: Option<Done<()>>,
    stop: Option<StopOnDrop>,
}

impl OpenStream {
    pub(crate) fn start(shared: Arc<Shared>, job: u64, statement: Statement, chunk: usize, stop: StopOnDrop) -> Self {
        let (sender, chunks) = mpsc::channel(AHEAD);
        let job = errand::send(move || {
            let mut send = |rows| sender.blocking_send(rows).is_ok();
            shared.work(job, |engine| engine.run_in_chunks(&statement, chunk.max(1), &mut send))
        });
        Self { chunks, job, done: None, stop: Some(stop) }
    }

    pub(crate) async fn next(&mut self) -> Option<Rows> {
        self.chunks.recv().await
    }

    /// Waits for the job and says how it went. Cancel safe: what arrived is kept.
    async fn finish(&mut self) -> &Done<()> {
        if self.done.is_none() {
            let ended = (&mut self.job).await;
            self.done = Some(ended.unwrap_or_else(|_| Done::lost()));
        }
        self.done.get_or_insert_with(Done::lost)
    }

    pub(crate) async fn outcome(&mut self) -> Result<()> {
        self.finish().await;
        self.done.as_mut().map_or(Ok(()), Done::take_outcome)
    }

    /// Tells the job to let go of the engine, without waiting for it.
    pub(crate) fn stop(&mut self) {
        self.chunks.close();
        self.stop = None;
    }

    /// Ends the stream, wherever it is, and says in what state the connection is then.
    pub(crate) async fn end(&mut self) -> ResourceState {
        self.stop();
        self.finish().await.state
    }
}
