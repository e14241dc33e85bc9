//! The schema of a program, as a list of migrations that every database goes through once.
//!
//! [`AsyncDatabase::migrate`](crate::AsyncDatabase::migrate) runs those of a list of [`Migrations`] that a database has
//! not had. [The guide](crate::_docs::migrations) shows the rest: folders of files, tables that are made anew, what cannot
//! run in a transaction, histories of other tools.

// `list.rs` holds the steps of the program, `history.rs` those that a database has had, `plan.rs` compares the two, and
// `run.rs` does what is left. What differs between engines are a few texts in `history.rs`.

mod adopt;
mod at_work;
mod calls;
mod checksum;
mod file;
mod history;
mod list;
mod migration;
mod options;
mod plan;
#[cfg(feature = "testing")]
mod proof;
mod report;
mod run;

pub use adopt::Adopt;
pub use list::Migrations;
pub use migration::Migration;
pub use options::MigrateOptions;
#[cfg(feature = "testing")]
pub use proof::{MigrationCheck, schema_of};
pub use report::{MigrationPlan, MigrationProgress, MigrationReport, MigrationRun, MigrationState, PlannedMigration};

#[doc(inline)]
pub use crate::__include_files as include_files;

/// Takes files of SQL into the program: [`Migrations::from_files`] of their names and texts. The names are relative to the
/// source file, as for `include_str!`. A result, because names may not be understood or a number stand twice.
///
/// ```
/// # #[cfg(feature = "sqlcipher")]
/// # fn main() -> strongroom::Result<()> {
/// use strongroom::database::migrations::{Migrations, include_files};
///
/// let migrations: Migrations = include_files![
///     "../../../tests/data/migrations/0001_customers.sql",
///     "../../../tests/data/migrations/0002_compact.sql",
/// ]?;
/// # assert_eq!(migrations.len(), 2);
/// # Ok(()) }
/// # #[cfg(not(feature = "sqlcipher"))] fn main() {}
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __include_files {
    ($($file:literal),+ $(,)?) => {
        $crate::database::migrations::Migrations::from_files([$(($file, ::core::include_str!($file))),+])
    };
}
