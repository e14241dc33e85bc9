//! How an engine runs a statement, as a tree for people and for tests.

use std::fmt;

use crate::error::Result;
use crate::row::Rows;

/// How the engine runs a statement; see [`AsyncDatabase::explain`](crate::AsyncDatabase::explain). Printed, it is a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueryPlan {
    /// The steps, each before those that are parts of it.
    pub steps: Vec<PlanStep>,
}

/// What a run of a statement cost the engine, by the engine's own counts; see [`Observer::slow`](crate::database::Observer::slow).
///
/// SQLite's counts are those of `sqlite3_stmt_status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatementEffort {
    /// How the engine runs it, without the values that it ran with.
    pub plan: Option<QueryPlan>,
    /// How often it stepped forward in a scan of a whole table. Many: an index is missing.
    pub full_scan_steps: u64,
    /// How many sorts it made. An index in that order would make it without.
    pub sorts: u64,
    /// How many rows it put into an index that it made for this run alone.
    pub automatic_index_rows: u64,
    /// How many steps of the engine's virtual machine it took.
    pub machine_steps: u64,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanStep {
    /// How deep it lies in the tree; 0 at the top.
    pub depth: usize,
    /// What is done, in the engine's words.
    pub detail: String,
    /// Every row of a table, or every entry of an index, is looked at.
    pub full_scan: bool,
}

impl QueryPlan {
    /// The steps that look at every row of a table.
    ///
    /// An engine chooses a scan for a small table even where there is an index; in SQLite only statistics (`ANALYZE`) make
    /// it know that a table is small.
    pub fn full_scans(&self) -> impl Iterator<Item = &PlanStep> {
        self.steps.iter().filter(|step| step.full_scan)
    }

    /// From the rows of SQLite's `EXPLAIN QUERY PLAN`: an id, that of the step above, and words.
    pub(crate) fn of_sqlite(rows: &Rows) -> Result<Self> {
        let (mut steps, mut above): (Vec<PlanStep>, Vec<i64>) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            let (id, parent, detail) = (row.get::<i64>(0)?, row.get::<i64>(1)?, row.get::<String>(3)?);
            while above.last().is_some_and(|last| *last != parent) {
                above.pop();
            }
            let scans = detail.strip_prefix("SCAN ").is_some_and(|of| !is_of_values(of));
            let virtual_index = detail.split_once(" VIRTUAL TABLE INDEX ").map(|(_, index)| index);
            let full_scan = scans && !virtual_index.is_some_and(finds);
            steps.push(PlanStep { depth: above.len(), detail, full_scan });
            above.push(id);
        }
        Ok(Self { steps })
    }

    /// From the lines of PostgreSQL's `EXPLAIN`: nodes are marked by an arrow, and what belongs to them stands below.
    pub(crate) fn of_postgres(rows: &Rows) -> Result<Self> {
        let (mut steps, mut above): (Vec<PlanStep>, Vec<usize>) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            let line: String = row.get(0)?;
            let (indent, detail) = (line.len() - line.trim_start().len(), line.trim_start().trim_start_matches("->  "));
            // Nodes are indented by six, what belongs to a subplan by two.
            while above.last().is_some_and(|last| *last >= indent) {
                above.pop();
            }
            let full_scan = detail.starts_with("Seq Scan on ") || detail.starts_with("Parallel Seq Scan on ");
            steps.push(PlanStep { depth: above.len(), detail: detail.to_owned(), full_scan });
            above.push(indent);
        }
        Ok(Self { steps })
    }
}

/// Whether the rows of `VALUES` are scanned, and no table.
fn is_of_values(scanned: &str) -> bool {
    let row = scanned.trim_start_matches(|c: char| c.is_ascii_digit());
    ["CONSTANT ROW", " CONSTANT ROW", "-ROW VALUES CLAUSE"].iter().any(|words| row.starts_with(words))
}

/// Whether a virtual table finds what it is asked for by an index of its own: it has a number for that, and words. Without
/// words, 1 is a row by its number (R*Tree, FTS), or the elements of a JSON text, and 3 the same with a path in it.
fn finds(index: &str) -> bool {
    !index.ends_with(':') || matches!(index, "1:" | "3:")
}

impl fmt::Display for QueryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, PlanStep { depth, detail, .. }) in self.steps.iter().enumerate() {
            let line = if number == 0 { "" } else { "\n" };
            write!(f, "{line}{:indent$}{detail}", "", indent = 2 * depth)?;
        }
        Ok(())
    }
}
