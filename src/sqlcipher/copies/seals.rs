//! The seals of all pages of a file.
//!
//! The engine's own `cipher_integrity_check` looks at them on one thread, and cannot be stopped. Here it can, and where nobody
//! works beside, the pages that are read on this thread are looked at on two.

use std::sync::mpsc::{Receiver, TrySendError, sync_channel};
use std::thread;

use rusqlite::Connection;

use super::sealed::{LOCKS_AT, RUN};
use crate::crypto::exit_gate;
use crate::error::Result;
use crate::lock::foreign;
use crate::sqlcipher::cipher::{KeySpec, PageCipher};
use crate::sqlcipher::errors::{self, classify};
use crate::sqlcipher::ffi::{header, system};
use crate::sqlcipher::os::is_of_the_disk;

/// The pages of a file, of which the first is at number `from`.
struct PageRun {
    from: u32,
    bytes: Vec<u8>,
}

/// The seals that one key makes.
struct Seals {
    cipher: PageCipher,
    size: usize,
}

impl Seals {
    /// The first page of a run that is not as it was written.
    fn broken(&self, PageRun { from, mut bytes }: PageRun) -> Option<u32> {
        let pages = (from..).zip(bytes.chunks_exact_mut(self.size));
        let is_broken = |number: u32, page: &mut [u8]| {
            number as usize - 1 != LOCKS_AT / self.size && !self.cipher.is_sealed(number, page)
        };
        pages.into_iter().find_map(|(number, page)| is_broken(number, page).then_some(number))
    }

    fn first_broken(&self, runs: Receiver<PageRun>) -> Option<u32> {
        let _pass = exit_gate::enter();
        runs.into_iter().filter_map(|run| self.broken(run)).min()
    }
}

/// The first page that fails its seal in the main file of `connection`, which has `length` bytes and lies still; at its end
/// one that is cut off. Asks between two runs of pages whether to go on.
pub(super) fn first_broken(
    connection: &Connection,
    length: u64,
    key: &KeySpec,
    helped: bool,
    go_on: &mut dyn FnMut() -> Result<()>,
) -> Result<Option<u64>> {
    let seals = Seals { cipher: PageCipher::new(key)?, size: key.page_size() };
    if !seals.cipher.seals() {
        return Ok(None);
    }
    let size = seals.size as u64;
    let (pages, step) = (length / size, (RUN / seals.size).max(1) as u64);
    let broken = thread::scope(|scope| {
        let (send, runs) = sync_channel(1);
        foreign();
        let seals = &seals;
        let thread = thread::Builder::new().name("strongroom-seals".into());
        let helper = helped.then(|| thread.spawn_scoped(scope, || seals.first_broken(runs)));
        let (mut broken, mut done) = (None, 0);
        while done < pages {
            let count = step.min(pages - done);
            let mut bytes = vec![0; usize::try_from(count * size).unwrap_or(0)];
            let at = i64::try_from(done * size).unwrap_or(i64::MAX);
            header::read_at(connection, at, &mut bytes).map_err(|error| unread(connection, error))?;
            let from = u32::try_from(done + 1).unwrap_or(u32::MAX);
            if let Err(TrySendError::Full(run) | TrySendError::Disconnected(run)) =
                send.try_send(PageRun { from, bytes })
            {
                broken = broken.or(seals.broken(run));
            }
            done += count;
            go_on()?;
        }
        drop(send);
        // Without one, all was looked at here.
        let other = helper.and_then(Result::ok).map_or(Ok(None), thread::ScopedJoinHandle::join);
        let other = other.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok([broken, other].into_iter().flatten().min())
    })?;
    let cut_off = (!length.is_multiple_of(size)).then_some(pages + 1);
    Ok(broken.map(u64::from).or(cut_off))
}

/// A page that the disk does not give is no damage.
fn unread(connection: &Connection, error: rusqlite::Error) -> crate::error::Error {
    let why = system::failure(connection).filter(is_of_the_disk);
    why.map_or_else(|| classify(error), |why| errors::failed(&why))
}
