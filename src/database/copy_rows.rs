//! Tables from one database into another, of whatever engines.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;

use super::handle::AsyncDatabase;
use super::transaction::Transaction;
use crate::connector::{Access, Connection, Connector, Isolation, TransactionMode};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::params::Dialect;
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
    /// left to it; identity columns get the values of the source.
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
        let mut report = CopyRowsReport::default();
        for table in &what.tables {
            let own = OwnColumns::of(&mut into, to.capabilities().dialect, table).await;
            let copied = match own {
                Ok(own) => copy(&mut from, &mut into, table, own, what.compare, &mut what.progress).await,
                Err(error) => Err(error),
            };
            report.tables.push((table.clone(), copied.map_err(|error| error.context(format_args!("table {table}")))?));
        }
        from.rollback().await?;
        into.commit().await?;
        report.duration = began.elapsed();
        Ok(report)
    }
}

/// Copies one table, and says how many rows it has.
async fn copy<C, D>(
    from: &mut Transaction<C>,
    into: &mut Transaction<D>,
    table: &str,
    own: OwnColumns,
    compare: bool,
    progress: &mut Tell,
) -> Result<u64>
where
    C: Connector<Connection: Connection>,
    D: Connector<Connection: Connection>,
{
    let name = quoted(table);
    let columns = columns(from, &name).await?;
    let targets = matching(&columns, &self::columns(into, &name).await?)?;
    let pairs = columns.into_iter().zip(targets).filter(|(_, target)| !own.computed.contains(target));
    let (columns, targets): (Vec<_>, Vec<_>) = pairs.unzip();
    let total = count(from, &name).await?;
    let before =
        if compare { sum(into, &name, &targets).await? } else { Sum { rows: count(into, &name).await?, hashes: 0 } };
    let places: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
    let overriding = if own.numbers { "OVERRIDING SYSTEM VALUE " } else { "" };
    let insert = format!("INSERT INTO {name} ({}) {overriding}VALUES ({})", list(&targets), places.join(", "));
    let (mut read, select) = (Sum::default(), format!("SELECT {} FROM {name}", list(&columns)));
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
            into.execute_many(&insert, std::mem::take(&mut batch)).await?;
            progress(TableProgress { table, done: read.rows, total });
        }
        if at_the_end {
            break;
        }
    }
    drop(rows);
    let now =
        if compare { sum(into, &name, &targets).await? } else { Sum { rows: count(into, &name).await?, hashes: 0 } };
    let expected = Sum { rows: before.rows + read.rows, hashes: before.hashes.wrapping_add(read.hashes) };
    if now.rows == expected.rows && (!compare || now.hashes == expected.hashes) {
        return Ok(read.rows);
    }
    let error = Error::new(ErrorKind::Storage, "what was written reads otherwise, and was rolled back");
    Err(error
        .because(Reason::Damaged)
        .about(table.to_owned())
        .hint("compare the types of the columns; where they are meant to change the values, call .compare(false)"))
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

/// Columns of the target that do not take every value that they are given.
#[derive(Debug, Default)]
struct OwnColumns {
    /// Those that it computes.
    computed: Vec<String>,
    /// Whether it numbers rows itself, unless told otherwise.
    numbers: bool,
}

impl OwnColumns {
    async fn of<C: Connector<Connection: Connection>>(
        transaction: &mut Transaction<C>,
        dialect: Dialect,
        table: &str,
    ) -> Result<Self> {
        let rows = match dialect {
            Dialect::Sqlite => {
                let (schema, table) =
                    table.split_once('.').map_or((None, table), |(schema, table)| (Some(schema), table));
                let sql = "SELECT name, 1 FROM pragma_table_xinfo($1, $2) WHERE hidden IN (2, 3)";
                transaction.fetch_all(sql, (table, schema)).await?
            }
            Dialect::Postgres => {
                let sql = "SELECT CAST(attname AS text), attgenerated <> '' FROM pg_catalog.pg_attribute \
                           WHERE attrelid = to_regclass(CAST($1 AS text)) AND NOT attisdropped \
                           AND (attgenerated <> '' OR attidentity = 'a')";
                transaction.fetch_all(sql, (quoted(table),)).await?
            }
            _ => return Ok(Self::default()),
        };
        let mut own = Self::default();
        for row in &rows {
            if row.get::<bool>(1)? {
                own.computed.push(row.get(0)?);
            } else {
                own.numbers = true;
            }
        }
        Ok(own)
    }
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

/// A name that may have a schema before it.
fn quoted(table: &str) -> String {
    table.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(".")
}
