//! Running what is left to do.
//!
//! One connection does all of it. Each step is found anew inside its own transaction, after that has its lock: what another
//! process has done meanwhile is seen there. The connection does not come back altered, because the pool closes
//! connections whose session may have been.

use std::convert::identity;
use std::time::Duration;

use tokio::time::Instant;

use super::at_work::AtWork;
use super::history::{self, Line, Words};
use super::migration::{Body, Migration, MigrationWay};
use super::options::MigrateOptions;
use super::plan::{Left, MigrationStep};
use super::report::{MigrationProgress, MigrationReport, MigrationRun, MigrationState};
use crate::clock;
use crate::connector::{Connection, Connector, Statement, TransactionMode};
use crate::database::call::{Limit, Stage, within};
use crate::database::held::Held;
use crate::database::route;
use crate::database::state::TransactionState;
use crate::database::transaction::Transaction;
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::params::Dialect;
use crate::params::script::statements;

/// A run that finds another one at work looks again after this pause.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Whether SQLite looks after foreign keys in the session of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    /// Nobody has looked yet.
    Unasked,
    /// As the session has them anyway.
    Normal(bool),
    /// Switched off here; they were so before.
    Off(bool),
}

pub(super) struct Migrating<'m, C: Connector> {
    list: Vec<&'m Migration<C>>,
    words: Words,
    options: MigrateOptions,
    nests: bool,
    total: usize,
    report: MigrationReport,
    keys: Keys,
    /// Where PostgreSQL looked for names when this began.
    search_path: Option<String>,
    /// Since when it has done nothing itself, and may have waited for another run.
    since: Instant,
    /// Whether something began outside of transactions and is not done.
    begun: bool,
    /// While this run works outside of transactions in SQLite, where that holds no lock.
    at_work: Option<AtWork>,
}

impl<'m, C: Connector<Connection: Connection>> Migrating<'m, C> {
    pub(super) fn new(
        list: Vec<&'m Migration<C>>,
        words: Words,
        options: MigrateOptions,
        nests: bool,
        total: usize,
    ) -> Self {
        let report = MigrationReport::default();
        let (keys, since) = (Keys::Unasked, Instant::now());
        let search_path = None;
        Self { list, words, options, nests, total, report, keys, search_path, since, begun: false, at_work: None }
    }

    /// What was done.
    pub(super) fn report(self) -> MigrationReport {
        self.report
    }

    /// Runs what is left, and says whether that was all. It stops behind what ran outside of transactions: that may have
    /// left settings in its session, so what follows has another one.
    pub(super) async fn go(&mut self, held: Held<C>) -> Result<bool> {
        self.keys = Keys::Unasked;
        let mut held = self.lock(held).await?;
        loop {
            let mut tx = self.begin(held).await?;
            let left = self.left_in(&mut tx).await;
            if self.other_is_at_work(&mut tx, &left).await? {
                held = tx.rollback_and_keep().await?;
                self.wait(&mut held).await?;
                continue;
            }
            let left = left?;
            let Some(step) = left.steps.first() else {
                self.report.version = left.version;
                held = tx.commit_and(identity).await?;
                break;
            };
            if self.words.0 == Dialect::Sqlite && self.keys.must_change(step.is_without_foreign_keys()) {
                held = tx.rollback_and_keep().await?;
                self.keys = self.switch_keys(&mut held).await?;
                continue;
            }
            let migration = step.migration();
            held = match step {
                MigrationStep::TakeAsDone(_) => self.finish(tx, migration, None).await?,
                MigrationStep::Run(_) if step.is_outside() => {
                    let held = self.run_outside(tx, migration).await?;
                    self.unlock(held).await;
                    return Ok(false);
                }
                MigrationStep::Run(_) => self.run_inside(tx, migration).await?,
            };
            self.since = Instant::now();
        }
        self.unlock(held).await;
        Ok(true)
    }

    /// Whether another run is at work outside of transactions, where that holds no lock of the database. If not, and this
    /// one is about to be, or to judge what has become of the other, it is the one at work from here on.
    async fn other_is_at_work(&mut self, mut tx: &mut Transaction<C>, left: &Result<Left<'m, C>>) -> Result<bool> {
        self.at_work = None;
        let next = left.as_ref().ok().and_then(|left| left.steps.first());
        let matters = self.begun || next.is_some_and(MigrationStep::is_outside);
        if self.words.0 != Dialect::Sqlite || !matters {
            return Ok(false);
        }
        let Some(place) = AtWork::place(&mut tx).await? else { return Ok(false) };
        self.at_work = AtWork::begin(place)?;
        Ok(self.at_work.is_none())
    }

    /// What is left to do, as the transaction sees it. What is adopted is written down.
    async fn left_in(&mut self, mut tx: &mut Transaction<C>) -> Result<Left<'m, C>> {
        let history = history::open(tx, self.words).await?;
        self.begun = history.iter().any(|line| line.unfinished.is_some());
        let left = Left::of(&self.list, history, &mut tx, self.words, &self.options).await?;
        let origin = self.options.adopt.map(super::Adopt::origin);
        for Line { version, name, checksum, .. } in &left.adopted {
            let line = (*version, name.as_str(), checksum.as_deref(), None::<i64>, origin);
            tx.execute(&self.words.add_finished(), line).await?;
        }
        // It may be taken over once more, after a transaction that did not come to its end.
        if !left.adopted.is_empty() {
            self.report.adopted = left.adopted.len();
        }
        Ok(left)
    }

    /// Runs a migration and adds its line, in one transaction.
    async fn run_inside(&mut self, mut tx: Transaction<C>, migration: &Migration<C>) -> Result<Held<C>> {
        let began = self.begins(migration);
        let titled = |error: Error| in_migration(error, migration);
        match &migration.body {
            Body::Sql { text, .. } => tx.execute_script(text).await,
            Body::Code(work) => {
                let (limit, token) = (tx.closure_limit(), tx.token());
                let work = async { Ok(token.hold(work(&mut tx)).await) };
                within(limit, work).await.unwrap_or_else(Err)
            }
        }
        .map_err(titled)?;
        if migration.way == MigrationWay::WithoutForeignKeys {
            check_foreign_keys(&mut tx).await.map_err(titled)?;
        }
        let took = i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.search_again(&mut tx).await.map_err(titled)?;
        let line = (migration.version, migration.name(), migration.checksum(), took, None::<&str>);
        tx.execute(&self.words.add_finished(), line).await.map_err(titled)?;
        self.end_work().map_err(titled)?;
        let held = tx.commit_and(identity).await.map_err(titled)?;
        self.done(migration, began);
        Ok(held)
    }

    /// Notes that a migration begins, runs it, and notes that it has finished.
    async fn run_outside(&mut self, mut tx: Transaction<C>, migration: &Migration<C>) -> Result<Held<C>> {
        let began = self.begins(migration);
        let titled = |error: Error| in_migration(error, migration);
        let line = (migration.version, migration.name(), migration.checksum());
        tx.execute(&self.words.add_begun(), line).await.map_err(titled)?;
        let mut held = tx.commit_and(identity).await.map_err(titled)?;
        let Body::Sql { text, .. } = &migration.body else { return Ok(held) };
        // PostgreSQL takes a text of several statements for a transaction.
        let texts: Vec<&str> =
            if self.words.is_postgres() { statements(text, self.words.0).collect() } else { vec![text] };
        for text in texts {
            let limit = held.limit_stopping(Stage::Script);
            within(limit, route::run_script(&mut held, text.into())).await.map_err(titled)?;
        }
        let tx = self.begin(held).await?;
        let held = self.finish(tx, migration, Some(began)).await?;
        self.since = Instant::now();
        self.done(migration, began);
        Ok(held)
    }

    /// Before the commit, while nobody else can look.
    fn end_work(&mut self) -> Result<()> {
        self.at_work.take().map_or(Ok(()), AtWork::end)
    }

    async fn finish(
        &mut self,
        mut tx: Transaction<C>,
        migration: &Migration<C>,
        began: Option<Instant>,
    ) -> Result<Held<C>> {
        let took = began.map(|began| i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX));
        let titled = |error: Error| in_migration(error, migration);
        let line = (migration.version, migration.name(), migration.checksum(), took);
        tx.execute(&self.words.finish(), line).await.map_err(titled)?;
        self.end_work().map_err(titled)?;
        tx.commit_and(identity).await.map_err(titled)
    }

    /// Begins a transaction that keeps other runs away, and waits for theirs.
    async fn begin(&mut self, mut held: Held<C>) -> Result<Transaction<C>> {
        let since = Instant::now();
        loop {
            let begun = within(held.limit(Stage::Begin), held.begin(TransactionMode::WRITE)).await;
            match begun {
                Ok(()) => break,
                // It has waited within already.
                Err(error) if error.kind() == ErrorKind::Busy && since.elapsed() < self.options.patience => {
                    pause(held.limit(Stage::Begin)).await?;
                }
                Err(error) => return Err(error.during(Phase::Begin).context("migrating")),
            }
        }
        held.note_state();
        let mut tx = Transaction { state: TransactionState::new(held), nests: self.nests };
        if let Some(lock) = self.words.lock_step() {
            tx.fetch_all(lock, ()).await?;
        }
        if let (None, Some(searched)) = (&self.search_path, self.words.searched()) {
            self.search_path = tx.fetch_value(searched, ()).await?;
        }
        self.search_again(&mut tx).await?;
        Ok(tx)
    }

    /// Has the history found where it was, and each migration find the same as if it ran alone.
    async fn search_again(&self, tx: &mut Transaction<C>) -> Result<()> {
        match &self.search_path {
            Some(path) => tx.fetch_all(Words::SEARCH_AGAIN, (path,)).await.map(drop),
            None => Ok(()),
        }
    }

    /// Takes the lock of the whole run, where there is one.
    async fn lock(&mut self, mut held: Held<C>) -> Result<Held<C>> {
        let Some(lock) = self.words.lock_run() else { return Ok(held) };
        // Whatever happens from here on, nobody else gets this session, and its end is that of the lock.
        within(held.limit(Stage::Begin), held.run_script("SET client_min_messages = warning".into())).await?;
        loop {
            let limit = held.limit(Stage::Read);
            let rows = within(limit, held.run(Statement::new(lock, ())?)).await?;
            if rows.first().map_or(Ok(false), |row| row.get::<bool>(0))? {
                return Ok(held);
            }
            self.wait(&mut held).await?;
        }
    }

    /// Waits for the run of another process, as long as there is patience for that.
    async fn wait(&self, held: &mut Held<C>) -> Result<()> {
        if self.since.elapsed() >= self.options.patience {
            return Err(Error::new(ErrorKind::Busy, "another process has been migrating this database all the time")
                .hint("give it more time by MigrateOptions::patience()")
                .transient());
        }
        pause(held.limit(Stage::Begin)).await
    }

    async fn unlock(&self, mut held: Held<C>) {
        if let Some(unlock) = self.words.unlock_run()
            && let Ok(statement) = Statement::new(unlock, ())
            && let Err(error) =
                within(held.limit(Stage::Before("unlocking", Phase::Statement)), held.run(statement)).await
        {
            tracing::debug!(%error, "the lock of a migration ends with its connection");
        }
    }

    /// Switches foreign keys off, or back to what they were. Only outside of a transaction, where nothing else is open.
    async fn switch_keys(&self, held: &mut Held<C>) -> Result<Keys> {
        let (sql, keys) = match self.keys {
            Keys::Off(true) => ("PRAGMA foreign_keys = ON", Keys::Normal(true)),
            Keys::Off(false) => ("PRAGMA foreign_keys = OFF", Keys::Normal(false)),
            Keys::Normal(before) => ("PRAGMA foreign_keys = OFF", Keys::Off(before)),
            Keys::Unasked => {
                let asks = Statement::new("PRAGMA foreign_keys", ())?;
                let asked = within(held.limit(Stage::Read), held.run(asks)).await?;
                let before = asked.first().map_or(Ok(true), |row| row.get::<bool>(0))?;
                ("PRAGMA foreign_keys = OFF", Keys::Off(before))
            }
        };
        within(held.limit(Stage::Begin), held.run_script(sql.into())).await?;
        Ok(keys)
    }

    fn begins(&self, migration: &Migration<C>) -> Instant {
        self.tell(migration, MigrationState::Begins);
        Instant::now()
    }

    fn done(&mut self, migration: &Migration<C>, began: Instant) {
        let took = began.elapsed();
        self.tell(migration, MigrationState::Done(took));
        self.report.ran.push(MigrationRun { version: migration.version, name: migration.name.to_string(), took });
        tracing::info!(version = migration.version, name = %migration.name, ?took, "migrated");
    }

    fn tell(&self, migration: &Migration<C>, state: MigrationState) {
        let (number, name) = (self.report.ran.len() + 1, migration.name());
        let total = self.total.max(number);
        self.options.tell(MigrationProgress { version: migration.version, name, state, number, total });
    }
}

/// Waits before another look at what keeps the run.
async fn pause(limit: Limit) -> Result<()> {
    let looks_again = async {
        clock::sleep(LOOK_AGAIN).await;
        Ok(())
    };
    within(limit, looks_again).await
}

impl Keys {
    /// Whether they have to be switched before a migration that asks for `off`.
    fn must_change(self, off: bool) -> bool {
        matches!(self, Self::Off(_)) != off
    }
}

/// Looks at all foreign keys, and names the tables that break one.
async fn check_foreign_keys<C: Connector<Connection: Connection>>(tx: &mut Transaction<C>) -> Result<()> {
    let sql = "SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 5";
    let broken = tx.fetch_all(sql, ()).await?;
    if broken.is_empty() {
        return Ok(());
    }
    let named = broken.iter().map(|row| {
        let (table, parent, count): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(format!("{count} of {table} to {parent}"))
    });
    let named = named.collect::<Result<Vec<_>>>()?.join(", ");
    Err(Error::new(ErrorKind::Constraint, format!("rows refer to rows that are not there: {named}"))
        .because(Reason::ForeignKey)
        .hint("keep or mend these rows in the migration; PRAGMA foreign_key_check names them"))
}

/// An error of a migration, with its title, and with what helps there.
fn in_migration<C: Connector>(error: Error, migration: &Migration<C>) -> Error {
    let error = error.context(migration.title()).about(migration.title());
    // Both engines say so only in words.
    let outside = ["within a transaction", "inside a transaction"].iter().any(|words| error.message().contains(words));
    if migration.way != MigrationWay::Outside && (error.reason() == Reason::Control || outside) {
        return error.hint(
            "it runs in a transaction already: leave out BEGIN, COMMIT and pragmas of the session, or mark it \
             without_foreign_keys() or outside_transaction()",
        );
    }
    error
}
