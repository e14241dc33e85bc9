//! A process that is killed some time after its start.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// Kills `child` so long after `began`, unless it has ended before, and says how it ended.
pub(crate) fn killed(child: &mut Child, began: Instant, after: Duration) -> ExitStatus {
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status,
            None if began.elapsed() >= after => {
                child.kill().unwrap();
                return child.wait().unwrap();
            }
            None => std::thread::sleep(Duration::from_micros(200)),
        }
    }
}
