//! How a run of migrations goes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::adopt::Adopt;
use super::report::MigrationProgress;

type Progress = Arc<dyn Fn(MigrationProgress<'_>) + Send + Sync>;

/// How [`migrate_with`](crate::AsyncDatabase::migrate_with) goes.
///
/// ```
/// use strongroom::database::migrations::{Adopt, MigrateOptions};
///
/// let options = MigrateOptions::new()
///     .adopt(Adopt::Sqlx)
///     .on_progress(|now| println!("{} of {}: {} {:?}", now.number, now.total, now.name, now.state));
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct MigrateOptions {
    pub(super) up_to: Option<i64>,
    pub(super) any_order: bool,
    pub(super) again: Vec<i64>,
    pub(super) done: Vec<i64>,
    pub(super) adopt: Option<Adopt>,
    pub(super) patience: Duration,
    progress: Option<Progress>,
}

impl Default for MigrateOptions {
    fn default() -> Self {
        Self {
            up_to: None,
            any_order: false,
            again: Vec::new(),
            done: Vec::new(),
            adopt: None,
            patience: Self::PATIENCE,
            progress: None,
        }
    }
}

impl MigrateOptions {
    /// How long a run waits for that of another process, unless told otherwise: longer than most rebuilds of a table.
    pub const PATIENCE: Duration = Duration::from_secs(600);

    /// To the newest, in order.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops behind the migration of this number. A database that is further stays as it is.
    pub fn up_to(self, version: i64) -> Self {
        Self { up_to: Some(version), ..self }
    }

    /// Runs also what comes before a migration that the database has had, as after a merge of two branches.
    pub fn any_order(self) -> Self {
        Self { any_order: true, ..self }
    }

    /// If this migration began outside of a transaction and did not finish, runs it once more. Its text may have been
    /// mended meanwhile. A number that no migration of the list has is [`ErrorKind::Config`](crate::ErrorKind::Config).
    pub fn run_again(mut self, version: i64) -> Self {
        self.again.push(version);
        self
    }

    /// If this migration began outside of a transaction and did not finish, takes it as finished: with the text that it
    /// has now. A number that no migration of the list has is [`ErrorKind::Config`](crate::ErrorKind::Config).
    pub fn take_as_done(mut self, version: i64) -> Self {
        self.done.push(version);
        self
    }

    /// Takes over what another tool did, if this database has no history of ours yet; see [`Adopt`].
    pub fn adopt(self, from: Adopt) -> Self {
        Self { adopt: Some(from), ..self }
    }

    /// How long to wait for the run of another process; [`PATIENCE`](Self::PATIENCE) if not set.
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Tells when a migration begins and when it is done. Called on the task that migrates; it must not block.
    pub fn on_progress(self, progress: impl Fn(MigrationProgress<'_>) + Send + Sync + 'static) -> Self {
        Self { progress: Some(Arc::new(progress)), ..self }
    }

    pub(super) fn tell(&self, progress: MigrationProgress<'_>) {
        if let Some(tell) = &self.progress {
            tell(progress);
        }
    }
}

impl fmt::Debug for MigrateOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigrateOptions")
            .field("up_to", &self.up_to)
            .field("any_order", &self.any_order)
            .field("run_again", &self.again)
            .field("take_as_done", &self.done)
            .field("adopt", &self.adopt)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
