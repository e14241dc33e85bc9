//! Connects whose callers went away.
//!
//! SQLite cannot be stopped while it opens a file, so such a connect goes on, and its connection is lent to the next
//! caller. To close it instead would cost more than the work: the descriptor of a closed connection stays open for as long
//! as any connection of the process is in the write-ahead log, because closing one gives up the locks of all.
//!
//! Source: "How To Corrupt An SQLite Database File", section 2.2 (POSIX locks), and `setPendingFd` in `os_unix.c`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::timeout_at;
use crate::connector::Access;
use crate::errand;
use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::sqlcipher::running::inline::InlineRights;
use crate::sqlcipher::running::job::Shared;
use crate::sqlcipher::running::turns::Turns;

/// A connection that was just opened, and what it may do inline.
pub(crate) type Connected = (Arc<Shared>, InlineRights, Turns);

/// A call that waits for one looks for another that is done after this pause, then after twice that, and so on up to the second.
const LOOKS: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(1)];

type Arriving = oneshot::Receiver<Result<Connected>>;

/// The abandoned connects of one database. A new connect begins only when none is left for its access, so there are
/// never more connections than the pool asked for at a time.
#[derive(Debug, Default)]
pub(crate) struct Abandoned(Lock<Vec<(Access, Arriving)>>);

/// A connect that somebody waits for; dropped before its end, it is abandoned.
struct Connect<'a> {
    abandoned: &'a Abandoned,
    access: Access,
    answer: Option<Arriving>,
}

impl Abandoned {
    /// Goes on with an abandoned connect whose connection is still fit for use, or begins one by sending `work` to a
    /// thread.
    pub(crate) async fn connect(
        &self,
        access: Access,
        is_fit: impl Fn(&Connected) -> bool,
        work: impl FnOnce() -> Result<Connected> + Send + 'static,
    ) -> Result<Connected> {
        while let Some(answer) = self.take(access) {
            // Its error was another caller's.
            let Ok(connected) = self.wait(access, answer).await else { continue };
            if is_fit(&connected) {
                return Ok(connected);
            }
            errand::send(move || drop(connected)).await.ok();
        }
        self.wait(access, errand::send(work)).await
    }

    async fn wait(&self, access: Access, answer: Arriving) -> Result<Connected> {
        let mut connect = Connect { abandoned: self, access, answer: Some(answer) };
        let mut pause = LOOKS[0];
        while let Some(answer) = &mut connect.answer {
            if let Ok(done) = timeout_at(Instant::now() + pause, answer).await {
                connect.answer = None;
                return done.map_err(|_| Error::panicked("engine"))?;
            }
            // One that hangs keeps nobody from another that has got further.
            if let Some(done) = self.take_done(access)
                && let Some(hanging) = connect.answer.replace(done)
            {
                self.0.lock().push((access, hanging));
            }
            pause = LOOKS[1].min(pause * 2);
        }
        Err(Error::panicked("engine"))
    }

    fn take(&self, access: Access) -> Option<Arriving> {
        self.take_done(access).or_else(|| self.take_if(|(other, _)| *other == access))
    }

    fn take_done(&self, access: Access) -> Option<Arriving> {
        self.take_if(|(other, answer)| *other == access && !answer.is_empty())
    }

    fn take_if(&self, choose: impl Fn(&(Access, Arriving)) -> bool) -> Option<Arriving> {
        let mut left = self.0.lock();
        let at = left.iter().position(choose)?;
        Some(left.swap_remove(at).1)
    }

    /// Waits for all of them, and closes their connections.
    pub(crate) async fn close(&self) {
        let left = std::mem::take(&mut *self.0.lock());
        for (_, answer) in left {
            if let Ok(connected) = answer.await {
                errand::send(move || drop(connected)).await.ok();
            }
        }
    }

    /// Leaves them open for good: in a forked child, to close them would disturb the parent.
    pub(crate) fn forget(&self) {
        std::mem::forget(std::mem::take(&mut *self.0.lock()));
    }
}

impl Drop for Connect<'_> {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            self.abandoned.0.lock().push((self.access, answer));
        }
    }
}
