//! `strongroom sql`

use std::io::{self, BufWriter, IsTerminal as _, Read as _};

use clap::Args;
use strongroom::{Error, Reason};

use strongroom::rusqlite::fallible_iterator::FallibleIterator as _;
use strongroom::rusqlite::{self, Batch, Connection, types::ValueRef};

use crate::failure::ExitCause;
use crate::keys::Target;
use crate::print::{Form, Printer};
use crate::words::{count, note};

#[derive(Args, Debug)]
pub(crate) struct Sql {
    #[command(flatten)]
    target: Target,
    /// The statements; from standard input if left out
    #[arg(value_name = "SQL")]
    statements: Option<String>,
    /// Lets them write: all of them are committed together, or none
    #[arg(long)]
    write: bool,
    /// Each statement commits by itself, as for VACUUM and for scripts with a BEGIN of their own
    #[arg(long, requires = "write")]
    no_transaction: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Args, Clone, Copy, Debug)]
struct Output {
    /// Prints comma-separated values, with a header
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Prints an array of objects for each statement that answers rows
    #[arg(long)]
    json: bool,
}

/// What a run came to.
enum SqlOutcome {
    /// So many rows were changed.
    Done(u64),
    /// The output could not be written.
    NotTaken(io::Error),
    /// The form of the output cannot hold a value, or would lose it: what, and the way out.
    Unfit(String, &'static str),
    /// A statement that would have ended the transaction around all of them; it was not run.
    Ends(&'static str),
    /// The statements leave a transaction of their own open, which is rolled back.
    LeavesOpen,
}

impl Sql {
    pub(crate) fn prepare(self) -> Result<impl Future<Output = Result<(), ExitCause>>, ExitCause> {
        let sql = match &self.statements {
            Some(sql) => sql.clone(),
            None => from_input()?,
        };
        if sql.contains('\0') {
            let message = "the SQL has a NUL byte, behind which SQLite reads nothing: nothing was run".into();
            return Err(ExitCause::Said(message, "take it out; char(0) makes one within a text"));
        }
        let key = self.target.key()?;
        let form = match (self.output.csv, self.output.json) {
            (true, _) => Form::Csv,
            (_, true) => Form::Json,
            _ => Form::Table,
        };
        Ok(async move {
            let builder = self.target.builder(key).create_if_missing(false);
            let db = if self.write { builder.open().await? } else { builder.read_only().open().await? };
            let (write, whole) = (self.write, self.write && !self.no_transaction);
            let work = move |connection: &mut Connection| run(connection, &sql, form, write, whole);
            let outcome = if write { db.interact(work).await } else { db.read_interact(work).await };
            let closed = db.close().await;
            let rows = match outcome.map_err(|error| explained(error, write, whole))? {
                SqlOutcome::Done(rows) => rows,
                SqlOutcome::NotTaken(error) if write => return Err(not_taken(&error, whole)),
                SqlOutcome::NotTaken(error) => return Err(error.into()),
                SqlOutcome::Unfit(message, hint) => return Err(ExitCause::Said(message, hint)),
                SqlOutcome::Ends(word) => {
                    let message =
                        format!("{word} would end the transaction around all of the SQL: nothing was written");
                    return Err(ExitCause::Said(message, "leave it out, or let it count with --no-transaction"));
                }
                SqlOutcome::LeavesOpen => {
                    let message = "the SQL has left a transaction open, which is rolled back".into();
                    return Err(ExitCause::Said(message, "end it with COMMIT; what was committed before it stands"));
                }
            };
            closed?;
            if write && form == Form::Table {
                note(format_args!("{} changed", count(rows, "row")));
            }
            Ok(())
        })
    }
}

fn from_input() -> Result<String, ExitCause> {
    if io::stdin().is_terminal() {
        note("type SQL, and end it with Ctrl-D:");
    }
    let mut sql = String::new();
    io::stdin().read_to_string(&mut sql).map_err(|error| {
        ExitCause::Said(format!("standard input cannot be read: {error}"), "it has to be SQL, as UTF-8")
    })?;
    Ok(sql)
}

fn explained(error: Error, write: bool, whole: bool) -> ExitCause {
    let hint = match error.reason() {
        Reason::NotWritable if !write => Some("this program only reads unless --write is given"),
        _ if whole && error.message().contains("within a transaction") => {
            Some("--no-transaction has each statement commit by itself")
        }
        Reason::Parameters => {
            let message = "the SQL has placeholders, and there is nothing here that they could get".into();
            return ExitCause::Said(message, "write the values into the SQL");
        }
        _ => None,
    };
    ExitCause::Engine(error, hint)
}

/// Rows that a write answers are a part of it: without them nobody knows what it did.
fn not_taken(error: &io::Error, whole: bool) -> ExitCause {
    let came_of_it =
        if whole { "nothing was written" } else { "what was committed before stands, and no later statement was run" };
    let message = format!("the output was not taken ({error}): {came_of_it}");
    ExitCause::Said(message, "send the output to a file, or to a program that reads all of it")
}

/// Runs all statements, and prints what they answer. Blocks.
fn run(connection: &mut Connection, sql: &str, form: Form, write: bool, whole: bool) -> rusqlite::Result<SqlOutcome> {
    if whole {
        connection.execute_batch("BEGIN IMMEDIATE")?;
    }
    let before = connection.total_changes();
    let mut statements = Batch::new(connection, sql);
    while let Some(mut statement) = statements.next()? {
        if statement.parameter_count() > 0 {
            return Err(rusqlite::Error::InvalidParameterCount(0, statement.parameter_count()));
        }
        // What was begun is rolled back with this.
        if let Some(word) = statement.expanded_sql().as_deref().and_then(ending).filter(|_| whole) {
            return Ok(SqlOutcome::Ends(word));
        }
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        if columns.is_empty() {
            statement.raw_execute()?;
            continue;
        }
        // The same when nobody takes the rest.
        if let Err(outcome) = print(&mut statement, columns, form)? {
            return Ok(outcome);
        }
    }
    if whole {
        connection.execute_batch("COMMIT")?;
    }
    if write && !connection.is_autocommit() {
        return Ok(SqlOutcome::LeavesOpen);
    }
    Ok(SqlOutcome::Done(connection.total_changes() - before))
}

/// The word by which a statement ends a transaction, if it does.
fn ending(sql: &str) -> Option<&'static str> {
    let (first, rest) = word(sql);
    let ends = ["COMMIT", "END", "ROLLBACK"].into_iter().find(|ends| first.eq_ignore_ascii_case(ends))?;
    let (mut second, rest) = word(rest);
    if second.eq_ignore_ascii_case("TRANSACTION") {
        second = word(rest).0;
    }
    // To a savepoint, which does not end it.
    (!second.eq_ignore_ascii_case("TO")).then_some(ends)
}

/// The first word, behind white space, comments and empty statements, and what follows it.
fn word(mut sql: &str) -> (&str, &str) {
    loop {
        sql = sql.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ';' || c == '\u{feff}');
        sql = match (sql.strip_prefix("--"), sql.strip_prefix("/*")) {
            (Some(comment), _) => comment.split_once('\n').map_or("", |(_, rest)| rest),
            (_, Some(comment)) => comment.split_once("*/").map_or("", |(_, rest)| rest),
            _ => break,
        };
    }
    sql.split_at(sql.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(sql.len()))
}

fn print(
    statement: &mut rusqlite::Statement<'_>,
    columns: Vec<String>,
    form: Form,
) -> rusqlite::Result<Result<(), SqlOutcome>> {
    let repeated = (1..columns.len()).find(|&index| columns[..index].contains(&columns[index]));
    if let Some(index) = repeated.filter(|_| form == Form::Json) {
        let message = format!("two columns are named {}, and an object of JSON would keep one of them", columns[index]);
        return Ok(Err(SqlOutcome::Unfit(message, "give one of them another name with AS")));
    }
    let width = columns.len();
    let mut printer = match Printer::begin(form, columns, BufWriter::new(io::stdout().lock())) {
        Ok(printer) => printer,
        Err(error) => return Ok(Err(SqlOutcome::NotTaken(error))),
    };
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        let values = (0..width).map(|column| row.get_ref(column));
        let values = values.collect::<rusqlite::Result<Vec<ValueRef<'_>>>>()?;
        // A person sees in a table that something is missing; a program does not.
        let is_broken = |value: &ValueRef<'_>| matches!(value, ValueRef::Text(text) if str::from_utf8(text).is_err());
        if let Some(index) = values.iter().position(is_broken).filter(|_| form != Form::Table) {
            let message = format!("column {} holds text that is not UTF-8", row.as_ref().column_name(index)?);
            return Ok(Err(SqlOutcome::Unfit(message, "print its bytes with hex(..)")));
        }
        if let Err(error) = printer.row(&values) {
            return Ok(Err(SqlOutcome::NotTaken(error)));
        }
    }
    Ok(printer.end().map_err(SqlOutcome::NotTaken))
}
