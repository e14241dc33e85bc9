//! The calls of a database.

use std::future::Future;
use std::panic::Location;

use super::history::{self, Words};
use super::list::Migrations;
use super::migration::Migration;
use super::options::MigrateOptions;
use super::plan::{Left, MigrationStep};
use super::report::{MigrationPlan, MigrationReport, PlannedMigration};
use super::run::Migrating;
use crate::clock;
use crate::connector::{Access, Connection, Connector};
use crate::database::handle::AsyncDatabase;
use crate::database::held::Held;
use crate::error::{Reason, Result};

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// Brings the schema to the newest version, and says what it did: runs those of the migrations that this database has
    /// not had, in the order of their numbers. Each commits together with its line in the table `strongroom_migrations`,
    /// or not at all. Processes that start at once wait for each other, and each migration runs once.
    ///
    /// With nothing to do, that is one read.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    /// use strongroom::database::migrations::Migrations;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// let migrations = Migrations::new()
    ///     .sql(1, "create users", "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
    ///     .sql(2, "find users by name", "CREATE INDEX users_name ON users (name)");
    /// let report = db.migrate(&migrations).await?;
    /// assert_eq!((report.ran.len(), report.version), (2, Some(2)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Migration`](crate::ErrorKind::Migration) when the list does not fit to what the database has had, with the [`Reason`]:
    /// [`MigrationChanged`](Reason::MigrationChanged), [`MigrationMissing`](Reason::MigrationMissing),
    /// [`MigrationOutOfOrder`](Reason::MigrationOutOfOrder), [`NewerSchema`](Reason::NewerSchema) or
    /// [`MigrationUnfinished`](Reason::MigrationUnfinished). [`ErrorKind::Config`](crate::ErrorKind::Config) when the list itself is wrong. What a
    /// migration failed with, after its number and name: it is rolled back, and those before it stay done.
    ///
    /// # Cancel safety
    /// Dropping the future rolls back the migration that runs, and leaves those before it done. One that runs outside of
    /// transactions is stopped, and stays marked as begun. [`with_timeout`](Self::with_timeout) bounds the whole run;
    /// [`max_transaction_age`](crate::DatabaseBuilder::max_transaction_age) does not.
    #[track_caller]
    pub fn migrate<'m>(
        &'m self,
        migrations: &'m Migrations<C>,
    ) -> impl Future<Output = Result<MigrationReport>> + Send + use<'m, C> {
        self.migrate_with(migrations, MigrateOptions::new())
    }

    /// [`migrate`](Self::migrate) as `options` say: up to a certain number, with progress, after another tool.
    ///
    /// # Errors
    /// As [`migrate`](Self::migrate).
    ///
    /// # Cancel safety
    /// As [`migrate`](Self::migrate).
    #[track_caller]
    pub fn migrate_with<'m>(
        &'m self,
        migrations: &'m Migrations<C>,
        options: MigrateOptions,
    ) -> impl Future<Output = Result<MigrationReport>> + Send + use<'m, C> {
        let location = Location::caller();
        async move {
            clock::check()?;
            let list = migrations.in_order()?;
            let words = Words(self.capabilities().dialect);
            let total = match self.left_to_do(&list, words, &options).await {
                Ok(left) if left.steps.is_empty() && left.adopted.is_empty() => {
                    return Ok(MigrationReport { version: left.version, ..MigrationReport::default() });
                }
                Ok(left) => left.steps.len(),
                // Another process may just be at it.
                Err(error) if error.reason() == Reason::MigrationUnfinished => 1,
                Err(error) => return Err(error),
            };
            let call = self.call(location);
            let mut run = Migrating::new(list, words, options, self.capabilities().savepoints, total);
            loop {
                let lent = call.lend(self.pool(), Access::Write).await?;
                lent.label("migrate");
                let held = Held::new(lent, call.deadline, call.location);
                if Box::pin(run.go(held)).await? {
                    return Ok(run.report());
                }
            }
        }
    }

    /// What [`migrate`](Self::migrate) would do, without doing any of it.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    /// use strongroom::database::migrations::Migrations;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// let migrations = Migrations::new().sql(1, "create users", "CREATE TABLE users (id INTEGER PRIMARY KEY)");
    /// for step in db.migration_plan(&migrations).await?.pending {
    ///     println!("{} {}", step.version, step.name);
    /// }
    /// assert!(!db.table_exists("users").await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`migrate`](Self::migrate), of the list and the history.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn migration_plan(&self, migrations: &Migrations<C>) -> Result<MigrationPlan> {
        self.migration_plan_with(migrations, &MigrateOptions::new()).await
    }

    /// What [`migrate_with`](Self::migrate_with) would do with these options.
    ///
    /// # Errors
    /// As [`migration_plan`](Self::migration_plan).
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn migration_plan_with(
        &self,
        migrations: &Migrations<C>,
        options: &MigrateOptions,
    ) -> Result<MigrationPlan> {
        let list = migrations.in_order()?;
        let left = self.left_to_do(&list, Words(self.capabilities().dialect), options).await?;
        let runs = left.steps.iter().filter(|step| matches!(step, MigrationStep::Run(_)));
        let pending = runs.map(|step| PlannedMigration::of(step.migration())).collect();
        Ok(MigrationPlan { pending, adopted: left.adopted.len(), version: left.version })
    }

    async fn left_to_do<'m>(
        &self,
        list: &[&'m Migration<C>],
        words: Words,
        options: &MigrateOptions,
    ) -> Result<Left<'m, C>> {
        let mut db = self;
        let history = history::look(&mut db, words).await?;
        Left::of(list, history, &mut db, words, options).await
    }
}
