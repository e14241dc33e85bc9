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

/// What a run came to: rows changed, or an output that could not be written.
type Printed = io::Result<u64>;

impl Sql {
    pub(crate) fn prepare(self) -> Result<impl Future<Output = Result<(), ExitCause>>, ExitCause> {
        let sql = match &self.statements {
            Some(sql) => sql.clone(),
            None => from_input()?,
        };
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
            let work = move |connection: &mut Connection| run(connection, &sql, form, whole);
            let outcome = if write { db.interact(work).await } else { db.read_interact(work).await };
            let closed = db.close().await;
            let rows = match outcome.map_err(|error| explained(error, write, whole))? {
                Err(error) if write => return Err(not_taken(&error, whole)),
                rows => rows?,
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
fn run(connection: &mut Connection, sql: &str, form: Form, whole: bool) -> rusqlite::Result<Printed> {
    if whole {
        connection.execute_batch("BEGIN IMMEDIATE")?;
    }
    let before = connection.total_changes();
    let mut statements = Batch::new(connection, sql);
    while let Some(mut statement) = statements.next()? {
        if statement.parameter_count() > 0 {
            return Err(rusqlite::Error::InvalidParameterCount(0, statement.parameter_count()));
        }
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        if columns.is_empty() {
            statement.raw_execute()?;
            continue;
        }
        // What it had begun is rolled back when nobody takes the rest.
        if let Err(error) = print(&mut statement, columns, form)? {
            return Ok(Err(error));
        }
    }
    if whole {
        connection.execute_batch("COMMIT")?;
    }
    Ok(Ok(connection.total_changes() - before))
}

fn print(
    statement: &mut rusqlite::Statement<'_>,
    columns: Vec<String>,
    form: Form,
) -> rusqlite::Result<io::Result<()>> {
    let width = columns.len();
    let mut printer = match Printer::begin(form, columns, BufWriter::new(io::stdout().lock())) {
        Ok(printer) => printer,
        Err(error) => return Ok(Err(error)),
    };
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        let values = (0..width).map(|column| row.get_ref(column)).collect::<rusqlite::Result<Vec<ValueRef<'_>>>>()?;
        if let Err(error) = printer.row(&values) {
            return Ok(Err(error));
        }
    }
    Ok(printer.end())
}
