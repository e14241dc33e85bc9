//! Tables from one database into another, of whatever engines.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;

use super::handle::AsyncDatabase;
use super::own_columns::{OwnColumns, quoted};
use super::transaction::Transaction;
use crate::connector::{Access, Connection, Connector, Isolation, TransactionMode};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::row::Row;
use crate::value::{Value, ValueRef};

/// How many rows are read before they are written.
const AT_A_TIME: usize = 4096;

/// How many bytes of them.
const BYTES_AT_A_TIME: usize = 2 << 20;

type Tell = Box<dyn FnMut(TableProgress<'_>) + Send>;

/// How [`AsyncDatabase::copy_rows`] goes.
///
/// ```
/// use strongroom::database::CopyRows;
///
/// let what = CopyRows::of(["customers", "orders"])
///     .on_progress(|now| println!("{}: {} of {}", now.table, now.done, now.total));
/// # let _ = what;
/// ```
#[must_use = "it does nothing until it is given to `copy_rows`"]
pub struct CopyRows {
    tables: Vec<String>,
    compare: bool,
    progress: Tell,
}

/// How far a copy is, after each piece.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TableProgress<'a> {
    /// The table.
    pub table: &'a str,
    /// Its rows that were copied.
    pub done: u64,
    /// How many it has.
    pub total: u64,
}

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyRowsReport {
    /// Each table with its rows, in the order in which they were copied.
    pub tables: Vec<(String, u64)>,
    /// How long all of it took, the comparison included.
    pub duration: Duration,
}

/// What a table holds, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    hashes: u64,
}

impl CopyRows {
    /// Copies these tables, in this order: what others refer to first. One in another schema is written `schema.table`.
    pub fn of<T: Into<String>>(tables: impl IntoIterator<Item = T>) -> Self {
        Self { tables: tables.into_iter().map(Into::into).collect(), compare: true, progress: Box::new(|_| {}) }
    }

    /// Whether all values are read again from the target and compared, before anything is committed; true by default.
    /// Types that change what they are given (`jsonb`, `numeric(8, 2)`, `char(10)`, times in other words) make a
    /// difference; without the comparison, only rows are counted.
    pub fn compare(self, compare: bool) -> Self {
        Self { compare, ..self }
    }

    /// Tells how far it is. Called on the task that copies; it must not block.
    pub fn on_progress(self, progress: impl FnMut(TableProgress<'_>) + Send + 'static) -> Self {
        Self { progress: Box::new(progress), ..self }
    }
}

impl fmt::Debug for CopyRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyRows").field("tables", &self.tables).field("compare", &self.compare).finish_non_exhaustive()
    }
}

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// Copies the rows of some tables into another database, of any engine: as they are at one moment, in one transaction,
    /// and compares both sides before it commits. The tables must be there; their columns are found by name, whatever the
    /// case of its letters. What else stands in them stays. Columns that the target computes (`GENERATED ALWAYS AS (..)`) are
    /// left to it; identity columns get the values of the source. Triggers of the target run as for any insert; where one
    /// writes to a table that is copied too, nothing is copied, and the error says so.
    ///
    /// **Sequences of PostgreSQL stay where they are**: a copy says the numbers of `serial` and identity columns itself, so the next
    /// insert that leaves them out may meet one that is taken. Set them behind the highest:
    /// `SELECT setval(pg_get_serial_sequence('users', 'id'), max(id)) FROM users`. SQLite does so by itself.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    /// use strongroom::database::CopyRows;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let (one, other) = (AsyncDatabase::builder(":memory:").open().await?, AsyncDatabase::builder(":memory:").open().await?);
    /// for db in [&one, &other] {
    ///     db.execute_script("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)").await?;
    /// }
    /// one.execute_many("INSERT INTO users (name) VALUES ($1)", [("alice",), ("bob",)]).await?;
    /// let report = one.copy_rows(&other, CopyRows::of(["users"])).await?;
    /// assert_eq!(report.tables, [("users".to_owned(), 2)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Reason::Damaged`] when what was written reads otherwise, as of types that cannot hold the values; a table or a
    /// column that is missing; what the target refuses. Nothing was changed then.
    ///
    /// # Cancel safety
    /// Dropping the future rolls everything back, unless the commit was on its way.
    pub async fn copy_rows<D>(&self, to: &AsyncDatabase<D>, mut what: CopyRows) -> Result<CopyRowsReport>
    where
        D: Connector<Connection: Connection>,
    {
        let began = Instant::now();
        let mode = TransactionMode { access: Access::Read, isolation: Isolation::Snapshot };
        let (mut from, mut into) = (self.begin_with(mode).await?, to.begin().await?);
        let (mut report, mut copies) = (CopyRowsReport::default(), Vec::new());
        let titled = |table: &str, error: Error| error.context(format_args!("table {table}"));
        for table in &what.tables {
            let own = OwnColumns::of(&mut into, to.capabilities().dialect, table).await;
            let copy = match own {
                Ok(own) => TableCopy::of(&mut from, &mut into, table, &own, what.compare).await,
                Err(error) => Err(error),
            };
            copies.push(copy.map_err(|error| titled(table, error))?);
        }
        for (table, copy) in what.tables.iter().zip(&mut copies) {
            let copied = copy.run(&mut from, &mut into, table, &mut what.progress).await;
            copied.map_err(|error| titled(table, error))?;
        }
        // What is left may take long, and needs the source no more.
        from.rollback().await?;
        // After all are copied: triggers of one table may have written to another.
        for (table, copy) in what.tables.iter().zip(&copies) {
            let rows = copy.compare(&mut into, table).await.map_err(|error| titled(table, error))?;
            report.tables.push((table.clone(), rows));
        }
        into.commit().await?;
        report.duration = began.elapsed();
        Ok(report)
    }
}

/// One table on its way.
struct TableCopy {
    columns: Vec<String>,
    insert: String,
    /// The columns as the target writes them.
    targets: Vec<String>,
    total: u64,
    /// What the target has to hold at the end: what it has now, and what is read of the source.
    expected: Sum,
    rows: u64,
    compares: bool,
}

impl TableCopy {
    async fn of<C, D>(
        from: &mut Transaction<C>,
        into: &mut Transaction<D>,
        table: &str,
        own: &OwnColumns,
        compares: bool,
    ) -> Result<Self>
    where
        C: Connector<Connection: Connection>,
        D: Connector<Connection: Connection>,
    {
        let name = quoted(table);
        let columns = columns(from, &name).await?;
        let targets = matching(&columns, &self::columns(into, &name).await?)?;
        let pairs = columns.into_iter().zip(targets).filter(|(_, target)| !own.computed.contains(target));
        let (columns, targets): (Vec<_>, Vec<_>) = pairs.unzip();
        let places: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
        let overriding = if own.numbers { "OVERRIDING SYSTEM VALUE " } else { "" };
        let insert = format!("INSERT INTO {name} ({}) {overriding}VALUES ({})", list(&targets), places.join(", "));
        let (total, expected) = (count(from, &name).await?, held(into, &name, &targets, compares).await?);
        Ok(Self { columns, insert, targets, total, expected, rows: 0, compares })
    }

    async fn run<C, D>(
        &mut self,
        from: &mut Transaction<C>,
        into: &mut Transaction<D>,
        table: &str,
        progress: &mut Tell,
    ) -> Result<()>
    where
        C: Connector<Connection: Connection>,
        D: Connector<Connection: Connection>,
    {
        let (mut read, select) = (Sum::default(), format!("SELECT {} FROM {}", list(&self.columns), quoted(table)));
        let mut rows = from.fetch_stream(&select, ());
        let (mut batch, mut bytes) = (Vec::new(), 0);
        loop {
            let row = rows.try_next().await?;
            let at_the_end = row.is_none();
            if let Some(row) = row {
                read.add(&row);
                bytes += row.iter().map(|(_, value)| size(value)).sum::<usize>();
                batch.push(row.iter().map(|(_, value)| value.to_owned()).collect::<Vec<Value>>());
            }
            let is_full = batch.len() == AT_A_TIME || bytes >= BYTES_AT_A_TIME;
            if is_full || (at_the_end && !batch.is_empty()) {
                bytes = 0;
                into.execute_many(&self.insert, std::mem::take(&mut batch)).await?;
                progress(TableProgress { table, done: read.rows, total: self.total });
            }
            if at_the_end {
                break;
            }
        }
        self.rows = read.rows;
        self.expected.rows += read.rows;
        self.expected.hashes = self.expected.hashes.wrapping_add(read.hashes);
        Ok(())
    }

    /// Whether the target holds what it should; how many rows were copied.
    async fn compare<D>(&self, into: &mut Transaction<D>, table: &str) -> Result<u64>
    where
        D: Connector<Connection: Connection>,
    {
        let now = held(into, &quoted(table), &self.targets, self.compares).await?;
        if now.rows == self.expected.rows && (!self.compares || now.hashes == self.expected.hashes) {
            return Ok(self.rows);
        }
        let (message, hint) = if now.rows == self.expected.rows {
            (
                "what was written reads otherwise, and was rolled back".to_owned(),
                "compare the types of the columns, and look at the triggers of the target; where they are meant to change \
                 the values, call .compare(false)",
            )
        } else {
            (
                format!("the target has {} rows and should have {}; all was rolled back", now.rows, self.expected.rows),
                "triggers of the target write or delete rows there: drop them for the copy, or leave out the table that they \
                 fill; name no table twice",
            )
        };
        Err(Error::new(ErrorKind::Storage, message).because(Reason::Damaged).about(table.to_owned()).hint(hint))
    }
}

/// What a table holds; without the values only how many rows.
async fn held<C: Connector<Connection: Connection>>(
    transaction: &mut Transaction<C>,
    name: &str,
    columns: &[String],
    compares: bool,
) -> Result<Sum> {
    if compares {
        sum(transaction, name, columns).await
    } else {
        Ok(Sum { rows: count(transaction, name).await?, hashes: 0 })
    }
}

/// How much memory a value takes.
fn size(value: ValueRef<'_>) -> usize {
    let beside = match value {
        ValueRef::Text(text) => text.len(),
        ValueRef::Blob(bytes) => bytes.len(),
        _ => 0,
    };
    size_of::<Value>() + beside
}

impl Sum {
    /// Rows come in any order, and engines sort texts in different ways.
    fn add(&mut self, row: &Row) {
        let mut hasher = DefaultHasher::new();
        for (_, value) in row.iter() {
            add(&mut hasher, value);
        }
        self.rows += 1;
        self.hashes = self.hashes.wrapping_add(hasher.finish());
    }
}

/// Truth values are numbers to some engines, and whole numbers may stand in columns of fractions.
fn add(hasher: &mut DefaultHasher, value: ValueRef<'_>) {
    #[allow(clippy::cast_possible_truncation, reason = "whole, and within the range in which all are exact")]
    match value {
        ValueRef::Bool(truth) => (1_u8, i64::from(truth)).hash(hasher),
        ValueRef::Integer(number) => (1_u8, number).hash(hasher),
        ValueRef::Real(number) if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 => {
            (1_u8, number as i64).hash(hasher);
        }
        ValueRef::Real(number) => (2_u8, number.to_bits()).hash(hasher),
        ValueRef::Text(text) => (3_u8, text).hash(hasher),
        ValueRef::Blob(bytes) => (4_u8, bytes).hash(hasher),
        _ => 0_u8.hash(hasher),
    }
}

async fn sum<C: Connector<Connection: Connection>>(
    transaction: &mut Transaction<C>,
    name: &str,
    columns: &[String],
) -> Result<Sum> {
    let select = format!("SELECT {} FROM {name}", list(columns));
    let (mut found, mut rows) = (Sum::default(), transaction.fetch_stream(&select, ()));
    while let Some(row) = rows.try_next().await? {
        found.add(&row);
    }
    Ok(found)
}

async fn count<C: Connector<Connection: Connection>>(transaction: &mut Transaction<C>, name: &str) -> Result<u64> {
    let count: Option<i64> = transaction.fetch_value(&format!("SELECT count(*) FROM {name}"), ()).await?;
    Ok(u64::try_from(count.unwrap_or(0)).unwrap_or(0))
}

async fn columns<C: Connector<Connection: Connection>>(
    transaction: &mut Transaction<C>,
    name: &str,
) -> Result<Vec<String>> {
    let none = transaction.fetch_all(&format!("SELECT * FROM {name} LIMIT 0"), ()).await?;
    Ok(none.columns().iter().map(ToString::to_string).collect())
}

/// The columns as the target writes them.
fn matching(columns: &[String], there: &[String]) -> Result<Vec<String>> {
    let find = |column: &String| {
        let exactly = there.iter().find(|name| *name == column);
        exactly.or_else(|| there.iter().find(|name| name.eq_ignore_ascii_case(column))).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Query, format!("the target has no column \"{column}\""))
                .because(Reason::NoSuchColumn)
                .about(column.clone())
                .hint("add it there first")
        })
    };
    columns.iter().map(find).collect()
}

fn list(columns: &[String]) -> String {
    columns.iter().map(|column| format!("\"{}\"", column.replace('"', "\"\""))).collect::<Vec<_>>().join(", ")
}
