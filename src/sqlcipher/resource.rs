//! What the pool asks of a connection.

use std::sync::Arc;

use super::connection::SqlCipherConnection;
use super::errors;
use super::running::job::{on_thread, state_of, unshared};
use super::running::transaction::Boundary;
use crate::connector::{Access, Canceller, Resource, ResourceState};
use crate::crypto::exit_gate;
use crate::error::{Error, ErrorKind, Phase, Reason, Result};

impl Resource for SqlCipherConnection {
    fn state(&self) -> ResourceState {
        if self.stream.is_some() {
            ResourceState::Unknown
        } else if self.state == ResourceState::Idle && self.may.change && !self.shared.is_still() {
            // Somebody has begun to write to what it takes for unchanging.
            ResourceState::Broken
        } else if self.refuse_unsynced().is_err() {
            // The next writer begins with writing the log anew.
            ResourceState::Broken
        } else {
            self.state
        }
    }

    fn canceller(&self) -> Canceller {
        Canceller::new(Arc::clone(&self.shared.control))
    }

    async fn ping(&mut self) -> Result<()> {
        let opened = Arc::clone(&self.opened);
        let pinged = self
            .job(move |engine| {
                if !opened.is_memory() && engine.has_moved() {
                    return Err(Error::new(ErrorKind::Storage, "the file was moved, replaced or deleted")
                        .because(Reason::Moved));
                }
                opened.refuse_emptied()?;
                if engine.is_given_up() {
                    return Err(
                        Error::new(ErrorKind::Storage, "the connection met a damaged page").because(Reason::Damaged)
                    );
                }
                engine.raw().query_row("SELECT 1", (), |_| Ok(())).map_err(errors::classify)
            })
            .await;
        pinged.map_err(|error| error.during(Phase::Health))
    }

    async fn reset(&mut self) -> Result<()> {
        self.cross(Boundary::Rollback).await.map(drop)
    }

    fn baseline(&mut self) {
        let mut engine = self.shared.lock();
        engine.baseline();
        self.state = state_of(&engine);
    }

    async fn close(mut self) -> Result<()> {
        self.opened.refuse_child()?;
        self.end_stream().await;
        if self.access == Access::Write {
            // Of two connections that close at once, each leaves the log for the other to remove.
            self.opened.log_is_left_alone().await;
        }
        self.shared.control.cancel(self.job);
        let (alone, writes) = (self.alone(), self.access == Access::Write);
        let shared = Arc::clone(&self.shared);
        drop(self);
        let closed = on_thread(move || {
            let _pass = exit_gate::enter();
            let mut engine = unshared(shared);
            engine.begin_work();
            engine.end_snapshot();
            let settled = if writes {
                let _alone = alone.always();
                engine.settle()
            } else {
                Ok(())
            };
            let kept = engine.keep_log_if_distrusted();
            if let Some(feed) = engine.tell() {
                feed.wake();
            }
            let news = engine.take_news();
            let closed = engine.close();
            if let Some(news) = news {
                news.tell();
            }
            settled.and(kept).and(closed)
        });
        closed.await?.map_err(|error| errors::classify(error).during(Phase::Close))
    }
}
