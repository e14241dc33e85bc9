//! The pages that stand in the log and count.
//!
//! What was written and not committed is there too, and after a change of key that was cut off, it has another key than the
//! file. So the log is read as SQLite recovers it: up to the last commit whose frames carry the right sums.
//!
//! Source: "WAL-mode File Format", sections 1 and 4.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::sqlcipher::ffi::header;

/// The log's header, and that of each frame.
const HEADER: usize = 32;
const FRAME: usize = 24;

/// Where in the log each page of this size was committed last. Of a connection that has read.
pub(crate) fn committed(connection: &Connection, size: usize) -> rusqlite::Result<HashMap<u32, i64>> {
    committed_in(|at, bytes| header::read_log_at(connection, at, bytes), size).map(|(found, _)| found)
}

/// The same of a log that is read like this; and how many pages the database has after the last commit.
pub(crate) fn committed_in(
    read: impl Fn(i64, &mut [u8]) -> rusqlite::Result<bool>,
    size: usize,
) -> rusqlite::Result<(HashMap<u32, i64>, Option<u32>)> {
    let (mut found, mut pending, mut pages) = (HashMap::new(), Vec::new(), None);
    let mut start = [0; HEADER];
    if !read(0, &mut start)? {
        return Ok((found, pages));
    }
    let mut sums = Sums { is_big: start[3] & 1 == 1, first: 0, second: 0 };
    sums.add(&start[..24]);
    if (sums.first, sums.second) != (word(&start[24..28]), word(&start[28..32])) {
        return Ok((found, pages));
    }
    let mut frame = vec![0; FRAME + size];
    let mut at = 32;
    // Frames of an earlier round of the log have another salt.
    while read(at, &mut frame)? && frame[8..16] == start[16..24] {
        sums.add(&frame[..8]);
        sums.add(&frame[FRAME..]);
        if (sums.first, sums.second) != (word(&frame[16..20]), word(&frame[20..24])) {
            break;
        }
        pending.push((word(&frame[..4]), at + 24));
        let size = word(&frame[4..8]);
        if size != 0 {
            pages = Some(size);
            found.extend(pending.drain(..));
        }
        at += i64::try_from(frame.len()).unwrap_or(i64::MAX);
    }
    Ok((found, pages))
}

/// The running sums over all frames so far.
struct Sums {
    is_big: bool,
    first: u32,
    second: u32,
}

impl Sums {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks_exact(8) {
            let [one, two] =
                [&pair[..4], &pair[4..]].map(|part| if self.is_big { word(part) } else { word(part).swap_bytes() });
            self.first = self.first.wrapping_add(one).wrapping_add(self.second);
            self.second = self.second.wrapping_add(two).wrapping_add(self.first);
        }
    }
}

/// Four bytes, the highest first.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}
