//! On Windows, what kills a program kills what that has started, too.

use tokio::process::Child;
use win32job::{ExtendedLimitInfo, Job};

/// Holds a program together with what it starts; what is still in it when it is dropped is killed.
///
/// A program is put into it just after its start. What that has started by then is not in it.
#[derive(Debug)]
pub(super) struct Descendants(Option<Job>);

impl Descendants {
    /// `child` and what it starts. A system that refuses leaves the program alone to be killed.
    pub(super) fn of(child: &Child) -> Self {
        let hold = |child: &Child| {
            let job = Job::create_with_limit_info(ExtendedLimitInfo::new().limit_kill_on_job_close()).ok()?;
            job.assign_process(child.raw_handle()?.expose_provenance().cast_signed()).ok()?;
            Some(job)
        };
        Self(hold(child))
    }

    /// After the end of the program: what it has left behind was meant to stay, as the agents of key services are.
    pub(super) fn let_live(&self) {
        if let Some(job) = &self.0 {
            job.set_extended_limit_info(&ExtendedLimitInfo::new()).ok();
        }
    }
}
