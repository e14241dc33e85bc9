//! What is left to do: the migrations of the program beside those that the database has had.

use super::history::{Line, Reads, Words};
use super::migration::{Migration, MigrationWay, title};
use super::options::MigrateOptions;
use crate::connector::Connector;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::params::Dialect;

/// One thing that is left to do.
pub(super) enum MigrationStep<'m, C: Connector> {
    Run(&'m Migration<C>),
    /// It began and did not finish, and the caller says that it is done.
    TakeAsDone(&'m Migration<C>),
}

impl<'m, C: Connector> MigrationStep<'m, C> {
    pub(super) fn migration(&self) -> &'m Migration<C> {
        match self {
            Self::Run(migration) | Self::TakeAsDone(migration) => migration,
        }
    }

    pub(super) fn is_outside(&self) -> bool {
        self.migration().way == MigrationWay::Outside
    }

    pub(super) fn is_without_foreign_keys(&self) -> bool {
        matches!(self, Self::Run(migration) if migration.way == MigrationWay::WithoutForeignKeys)
    }
}

/// What is left to do.
pub(super) struct Left<'m, C: Connector> {
    pub(super) steps: Vec<MigrationStep<'m, C>>,
    /// What our history gets first from that of another tool.
    pub(super) adopted: Vec<Line>,
    pub(super) version: Option<i64>,
}

impl<'m, C: Connector> Left<'m, C> {
    pub(super) async fn of(
        list: &[&'m Migration<C>],
        mut history: Vec<Line>,
        db: &mut impl Reads,
        words: Words,
        options: &MigrateOptions,
    ) -> Result<Self> {
        let mut adopted = Vec::new();
        if let Some(adopt) = options.adopt.filter(|_| history.is_empty()) {
            adopted = adopt.lines(db, words, list).await?;
            history.clone_from(&adopted);
        }
        let steps = steps(list, &history, options)?;
        let foreign = |step: &&MigrationStep<'_, C>| step.is_without_foreign_keys() && words.0 != Dialect::Sqlite;
        if let Some(step) = steps.iter().find(foreign) {
            let title = step.migration().title();
            let message = format!("{title} asks for foreign keys to be off, which this engine does not need");
            return Err(Error::new(ErrorKind::Unsupported, message)
                .hint("alter the table in place, in a list of migrations for this engine")
                .about(title));
        }
        let version = history.iter().filter(|line| line.unfinished.is_none()).map(|line| line.version).max();
        Ok(Self { steps, adopted, version })
    }
}

/// What is left to do, in its order. `list` is in order and has no number twice.
///
/// # Errors
/// When the two do not fit together: [`ErrorKind::Migration`], with the reason.
fn steps<'m, C: Connector>(
    list: &[&'m Migration<C>],
    history: &[Line],
    options: &MigrateOptions,
) -> Result<Vec<MigrationStep<'m, C>>> {
    let find = |version| list.iter().copied().find(|migration| migration.version == version);
    let named = options.up_to.iter().map(|version| (version, "stop at"));
    let named = named.chain(options.again.iter().map(|version| (version, "run again")));
    for (version, what) in named.chain(options.done.iter().map(|version| (version, "take as done"))) {
        if find(*version).is_none() {
            return Err(Error::new(ErrorKind::Config, format!("there is no migration {version} to {what}"))
                .hint("give the number of a migration of the list"));
        }
    }
    for line in history {
        let Some(migration) = find(line.version) else {
            return Err(unknown(list, line, history));
        };
        // The text of one that did not finish may be what was wrong with it.
        if line.unfinished.is_none() {
            same(migration, line)?;
        }
    }
    let newest = history.last();
    let mut steps = Vec::new();
    for migration in list.iter().copied().filter(|migration| options.up_to.is_none_or(|last| migration.version <= last))
    {
        match history.iter().find(|line| line.version == migration.version) {
            Some(line) if line.unfinished.is_none() => {}
            Some(_) if options.done.contains(&migration.version) => steps.push(MigrationStep::TakeAsDone(migration)),
            Some(_) if migration.repeatable || options.again.contains(&migration.version) => {
                steps.push(MigrationStep::Run(migration));
            }
            Some(_) => return Err(unfinished(migration)),
            None => match newest.filter(|newest| newest.version > migration.version && !options.any_order) {
                None => steps.push(MigrationStep::Run(migration)),
                Some(newest) => return Err(out_of_order(migration, newest)),
            },
        }
    }
    Ok(steps)
}

fn error(reason: Reason, about: String, message: String) -> Error {
    Error::new(ErrorKind::Migration, message).because(reason).about(about)
}

/// Of a migration that only the database knows.
fn unknown<C: Connector>(list: &[&Migration<C>], line: &Line, history: &[Line]) -> Error {
    let title_of = |line: &Line| title(line.version, &line.name);
    match list.last() {
        Some(newest) if newest.version > line.version => {
            let had = title_of(line);
            let message = format!("the database has had {had}, which the program does not have");
            error(Reason::MigrationMissing, had, message)
                .hint("put it back into the list: a migration that ran anywhere stays as it is")
        }
        newest => {
            let had = title_of(history.last().unwrap_or(line));
            let last = newest.map_or_else(|| "no migration at all".into(), |newest| newest.title());
            let message = format!("the database has had {had}, which is newer than the program, whose last is {last}");
            error(Reason::NewerSchema, had, message).hint("use the newer version of the program")
        }
    }
}

/// Whether a migration is still what ran.
fn same<C: Connector>(migration: &Migration<C>, line: &Line) -> Result<()> {
    let ran = title(line.version, &line.name);
    let (changed, message) = match (migration.checksum(), &line.checksum) {
        (Some(now), Some(then)) => (now != then, format!("the text of {ran} has changed since it ran")),
        // Of a closure only the name can be compared.
        (None, None) => (migration.name != line.name, format!("{ran} is called {} now", migration.name)),
        (Some(_), None) => (true, format!("{ran} was a closure when it ran, and is a text now")),
        (None, Some(_)) => (true, format!("{ran} was a text when it ran, and is a closure now")),
    };
    if !changed {
        return Ok(());
    }
    let message = if migration.name == line.name {
        message
    } else {
        format!("{message}, and the program has ({}) under its number", migration.name)
    };
    Err(error(Reason::MigrationChanged, ran, message)
        .hint("put back what ran, and make the change in a migration with a number of its own"))
}

fn unfinished<C: Connector>(migration: &Migration<C>) -> Error {
    let message = format!("{} began outside of a transaction and did not finish", migration.title());
    error(Reason::MigrationUnfinished, migration.title(), message).hint(
        "look at what is done of it, mend its text if that is wrong, and say run_again() or take_as_done() in \
             MigrateOptions",
    )
}

fn out_of_order<C: Connector>(migration: &Migration<C>, newest: &Line) -> Error {
    let message = format!(
        "{} comes before {}, which the database has had",
        migration.title(),
        title(newest.version, &newest.name)
    );
    error(Reason::MigrationOutOfOrder, migration.title(), message)
        .hint("give it a higher number, or allow this by MigrateOptions::any_order()")
}
