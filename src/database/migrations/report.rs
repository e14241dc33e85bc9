//! What migrations did, do, and will do.

use std::time::Duration;

use super::migration::{Migration, MigrationWay};
use crate::connector::Connector;

/// What [`migrate`](crate::AsyncDatabase::migrate) did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationReport {
    /// What ran here, in its order. What another process did meanwhile is not in it.
    pub ran: Vec<MigrationRun>,
    /// How many were taken over from another tool.
    pub adopted: usize,
    /// The newest that the database has had; none if it has had none.
    pub version: Option<i64>,
}

/// A migration that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationRun {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// How long it took, with its commit.
    pub took: Duration,
}

/// What [`migrate`](crate::AsyncDatabase::migrate) would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationPlan {
    /// What would run, in its order.
    pub pending: Vec<PlannedMigration>,
    /// How many would be taken over from another tool.
    pub adopted: usize,
    /// The newest that the database has had; none if it has had none.
    pub version: Option<i64>,
}

/// A migration that would run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedMigration {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// It runs in a transaction, with its line of the history.
    pub in_transaction: bool,
    /// Foreign keys are off while it runs.
    pub without_foreign_keys: bool,
}

impl PlannedMigration {
    pub(super) fn of<C: Connector>(migration: &Migration<C>) -> Self {
        Self {
            version: migration.version,
            name: migration.name.to_string(),
            in_transaction: migration.way != MigrationWay::Outside,
            without_foreign_keys: migration.way == MigrationWay::WithoutForeignKeys,
        }
    }
}

/// How far a run of migrations is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct MigrationProgress<'a> {
    /// The number of the migration.
    pub version: i64,
    /// Its name.
    pub name: &'a str,
    /// Whether it begins or is done.
    pub state: MigrationState,
    /// Which one it is of those that run here, from 1 on.
    pub number: usize,
    /// How many there were to run when that was first looked at. Another process may do some of them.
    pub total: usize,
}

/// Where a migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MigrationState {
    /// It begins.
    Begins,
    /// It has been committed; it took so long.
    Done(Duration),
}
