//! What is known of a statement after preparing it once: its kind, and which value goes to which of SQLite's slots.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, StatementStatus};

use super::cost::Cost;
use super::seen::Seen;
use super::slots::{slots, unnamed};
use super::watch::Watch;
use super::{halfway, straight};
use crate::connector::{StatementEffort, StatementKind, StatementSummary};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::params::lexer::{Token, Tokens};
use crate::params::placeholders::refuse_nul;
use crate::params::{Arranged, ArrangedSets, Dialect, ParamSets, Params, Placeholders};
use crate::row::Changes;
use crate::sqlcipher::errors::classify_refused;
use crate::sqlcipher::ffi::last_id::Forgotten;
use crate::value::ValueRef;

/// One statement's plan.
#[derive(Debug)]
pub(crate) struct Plan {
    kind: StatementKind,
    seen: Seen,
    placeholders: Placeholders,
    /// For each of SQLite's parameters, which value it takes.
    slots: Vec<usize>,
    /// What is prepared in place of the text, if that would take too long.
    text: Option<String>,
    header: Arc<[Arc<str>]>,
    /// When the header was read.
    header_read: Option<PreparedAt>,
    /// Only spaces and comments: there is nothing to run.
    empty: bool,
    /// It may fail and keep what it did until then.
    halfway: bool,
    /// It would change what is stored.
    writes: bool,
    /// Whether each step of its program is taken once; found out when it is first asked for.
    straight: Option<bool>,
    identity: Identity,
    cost: Cost,
    summary: Option<StatementSummary>,
    /// What its last run cost, if that was measured.
    pub(crate) effort: Option<StatementEffort>,
}

/// Which state of which prepared statement one is: how many the connection has prepared until now, and how often SQLite had
/// prepared this one anew by itself. Of two texts that come to the same one, each prepares it for the other too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PreparedAt {
    statements: u64,
    again: i32,
}

/// What SQLite tells of the row that a statement inserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    /// It inserts none.
    Never,
    /// What the connection knows is of this statement, once what it knew before is forgotten.
    Told,
    /// The statement itself asks for what was inserted before, so that must not be forgotten: every row that it changes
    /// is a row with a rowid that it inserts.
    Certain,
}

/// How many statements are remembered before all are forgotten: programs have tens; a program that builds its texts
/// from values has no end of them.
const PLANS: usize = 512;

/// The same in bytes of their texts.
const PLANNED: usize = 4 << 20;

/// The plans of one connection, by text.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    places: HashMap<Arc<str>, usize, foldhash::fast::RandomState>,
    known: Vec<(Arc<str>, Plan)>,
    /// Where the last one was found: a call asks several times for the same.
    last: usize,
    /// How long the texts are.
    bytes: usize,
    /// They were made since something was defined, in a transaction that may be undone.
    defined: bool,
    /// How many statements were prepared to run.
    prepared: u64,
}

impl Plans {
    /// Where the plan of a text is, until another one is remembered.
    pub(crate) fn find(&mut self, sql: &str) -> Option<usize> {
        if self.known.get(self.last).is_none_or(|(text, _)| **text != *sql) {
            self.last = *self.places.get(sql)?;
        }
        Some(self.last)
    }

    pub(crate) fn at(&mut self, place: usize) -> &mut Plan {
        &mut self.known[place].1
    }

    pub(crate) fn get(&mut self, sql: &str) -> Option<&mut Plan> {
        self.find(sql).map(|place| self.at(place))
    }

    /// What `sql` was prepared from to run; several texts may come to the same.
    pub(crate) fn prepared_text<'s>(&'s mut self, sql: &'s str) -> &'s str {
        self.get(sql).map_or(sql, |plan| plan.text(sql)).trim()
    }

    pub(crate) fn remember(&mut self, sql: Arc<str>, plan: Plan) -> usize {
        if self.known.len() >= PLANS || self.bytes > PLANNED {
            self.forget();
        }
        self.bytes += sql.len();
        let place = self.known.len();
        self.places.insert(Arc::clone(&sql), place);
        self.known.push((sql, plan));
        place
    }

    pub(crate) fn forget(&mut self) {
        *self = Self { defined: self.defined, prepared: self.prepared, ..Self::default() };
    }

    /// A statement was looked for; says how many were prepared until now, be it anew.
    pub(crate) fn prepared(&mut self, anew: bool) -> u64 {
        self.prepared += u64::from(anew);
        self.prepared
    }

    /// What they say of the tables may not be so any more: something was defined.
    pub(crate) fn defined(&mut self) {
        self.forget();
        self.defined = true;
    }

    /// A transaction was rolled back, in part or as a whole, and with it what it defined.
    pub(crate) fn undone(&mut self) {
        if self.defined {
            self.forget();
        }
    }

    /// What was defined stays so.
    pub(crate) fn committed(&mut self) {
        self.defined = false;
    }
}

impl Plan {
    /// Prepares `sql` and reads its placeholders. Whatever fails, `watch` has seen what preparing it did.
    pub(crate) fn prepare(sql: &str, connection: &Connection, watch: &Watch) -> Result<Self> {
        refuse_nul(sql)?;
        let placeholders = Placeholders::scan(sql, Dialect::Sqlite);
        let (text, order) = placeholders.as_ref().ok().and_then(|found| unnamed(found, sql)).unzip();
        let with_lists = || match placeholders.as_ref().ok()?.with_lists(sql) {
            Cow::Owned(text) => Some(text),
            Cow::Borrowed(_) => None,
        };
        let text = text.or_else(with_lists);
        watch.look_anew();
        let statement = connection.prepare(text.as_deref().unwrap_or(sql));
        let seen = watch.seen();
        let summary = if seen.defines() { None } else { watch.summary() };
        let statement = statement.map_err(|error| classify_refused(error, seen))?;
        let placeholders = placeholders?;
        let slots = slots(&placeholders, order.as_deref(), &statement)?;
        let explains = statement.is_explain() != 0;
        // Of what finds nothing to do the authorizer is not told, either. It may find something the next time.
        let idle = !explains && !seen.anything() && statement.expanded_sql().is_some();
        let seen = if idle { seen.as_defining() } else { seen };
        let kind = match seen.kind(statement.readonly()) {
            StatementKind::Write if explains => StatementKind::Read,
            StatementKind::Write if idle && begins_with(sql, "VACUUM") => StatementKind::OutsideTransaction,
            kind => kind,
        };
        let writes = !explains && seen.writes(statement.readonly());
        let empty = !idle && !explains && !seen.anything();
        let changes_rows = !explains && seen.changes_rows();
        let halfway = changes_rows && halfway::may_stop(connection, text.as_deref().unwrap_or(sql));
        let identity = if changes_rows { Identity::of(seen, connection, watch) } else { Identity::Never };
        let summary = if explains { Some(StatementSummary::new("EXPLAIN", None)) } else { summary };
        let seen = if explains { seen.without_changes() } else { seen };
        let (header, cost) = (Arc::from([]), Cost::default());
        Ok(Self {
            kind,
            seen,
            placeholders,
            slots,
            text,
            header,
            header_read: None,
            empty,
            halfway,
            writes,
            straight: None,
            identity,
            cost,
            summary,
            effort: None,
        })
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    /// What it does, in a few words.
    pub(crate) fn summary(&self) -> Option<StatementSummary> {
        self.summary.clone()
    }

    /// Whether it is a pragma, which reads no rows of tables, and tells of damage in words if it looks for any.
    pub(super) fn is_pragma(&self) -> bool {
        self.summary.as_ref().is_some_and(|summary| summary.operation == "PRAGMA")
    }

    /// Whether there is nothing to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.empty
    }

    /// Whether it may fail and keep what it did until then.
    pub(crate) fn may_stop_halfway(&self) -> bool {
        self.halfway
    }

    /// Whether it would change what is stored.
    pub(crate) fn writes(&self) -> bool {
        self.writes
    }

    /// The text to prepare for what the user wrote as `sql`.
    pub(crate) fn text<'s>(&'s self, sql: &'s str) -> &'s str {
        self.text.as_deref().unwrap_or(sql)
    }

    pub(crate) fn kind(&self) -> StatementKind {
        self.kind
    }

    /// Whether it may be run a second time if the first attempt is stopped: what user functions do outside of the
    /// database would happen twice.
    pub(crate) fn may_run_twice(&self) -> bool {
        !self.seen.calls_user_functions()
    }

    /// Whether to try it on the caller's own task.
    pub(crate) fn try_inline(&mut self) -> bool {
        self.cost.is_short() && self.may_run_twice() && !self.halfway && !self.seen.walks()
    }

    /// How many steps it took at most of late.
    pub(crate) fn cost(&self) -> u32 {
        self.cost.steps()
    }

    /// It has run to its end, in so many steps.
    pub(super) fn learn(&mut self, steps: u32) {
        self.cost.learn(steps);
    }

    /// It was stopped on the caller's task, and runs on a thread next.
    pub(crate) fn was_stopped(&mut self) {
        self.cost = Cost::STOPPED;
    }

    /// Whether it held the caller's task for long, for reasons that its steps do not show. Once, that may have been
    /// another program's turn on the processor.
    pub(crate) fn took_long(&mut self, long: bool) {
        self.cost.took_long(long);
    }

    /// Whether it is a write whose work does not grow with the number of rows.
    pub(crate) fn goes_straight(&mut self, connection: &Connection, sql: &str) -> bool {
        let Self { straight, text, seen, .. } = self;
        *straight.get_or_insert_with(|| {
            seen.only_inserts() || straight::goes(connection, text.as_deref().unwrap_or(sql)).unwrap_or(false)
        })
    }

    /// How many bytes of text and blobs it is given by these parameters.
    pub(crate) fn bytes(&self, params: &Params) -> usize {
        let size = |value: ValueRef<'_>| match value {
            ValueRef::Text(text) | ValueRef::List(text) => text.len(),
            ValueRef::Blob(blob) => blob.len(),
            _ => 0,
        };
        // Those that do not fit are an error in any case.
        self.values(params).map_or(0, |values| self.slots.iter().map(|index| size(values.get(*index))).sum())
    }

    /// Checks that parameters and placeholders fit, before anything runs.
    pub(crate) fn values<'p>(&self, params: &'p Params) -> Result<Arranged<'p>> {
        self.placeholders.look_up(params)
    }

    /// The same for many sets.
    pub(crate) fn all_values<'p>(&self, sets: &'p ParamSets) -> Result<ArrangedSets<'p>> {
        self.placeholders.look_up_all(sets)
    }

    pub(crate) fn bind(&self, statement: &mut rusqlite::Statement<'_>, values: &Arranged<'_>) -> Result<()> {
        for (slot, index) in self.slots.iter().enumerate() {
            bind(statement, slot + 1, values.get(*index), *index)?;
        }
        Ok(())
    }

    /// The names of the columns; shared between runs as long as they stay the same. They can change when SQLite
    /// prepares the statement anew, or we did, which `statements` counts for all of the connection.
    pub(crate) fn header(&mut self, statement: &rusqlite::Statement<'_>, statements: u64) -> Arc<[Arc<str>]> {
        let now = PreparedAt { statements, again: statement.get_status(StatementStatus::RePrepare) };
        if self.header_read != Some(now) {
            self.header_read = Some(now);
            let names = (0..statement.column_count()).map(|index| statement.column_name(index).unwrap_or_default());
            if !names.clone().eq(self.header.iter().map(|name| &**name)) {
                self.header = names.map(Arc::from).collect();
            }
        }
        Arc::clone(&self.header)
    }

    /// Whether it does nothing but insert given values.
    pub(crate) fn only_inserts(&self) -> bool {
        self.seen.only_inserts()
    }

    pub(crate) fn changes_rows(&self) -> bool {
        self.seen.changes_rows()
    }

    /// Has the connection forget what was inserted before this statement runs, if that could be taken for its own.
    pub(crate) fn forget_last_id<'c>(&self, connection: &'c Connection) -> Option<Forgotten<'c>> {
        (self.identity == Identity::Told).then(|| Forgotten::new(connection))
    }

    /// What it changed, given how many rows SQLite counted.
    pub(crate) fn changes(&self, connection: &Connection, rows: u64, forgotten: Option<&Forgotten<'_>>) -> Changes {
        if !self.changes_rows() {
            return Changes::default();
        }
        let id = match forgotten {
            Some(forgotten) => forgotten.inserted(),
            None => (self.identity == Identity::Certain).then(|| connection.last_insert_rowid()),
        };
        Changes::new(rows, id.filter(|_| rows > 0))
    }

    /// The values that SQLite was given, with the numbers of their placeholders.
    pub(crate) fn bound<'p>(&self, values: &Arranged<'p>) -> Vec<(usize, ValueRef<'p>)> {
        let mut numbers = self.slots.clone();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().map(|index| (index + 1, values.get(index))).collect()
    }
}

impl Identity {
    fn of(seen: Seen, connection: &Connection, watch: &Watch) -> Self {
        match (seen.inserts(), seen.asks_last_id()) {
            (true, false) => Self::Told,
            (true, true) if !seen.updates() && has_rowid(connection, &watch.target()) => Self::Certain,
            (false, _) | (true, true) => Self::Never,
        }
    }
}

fn has_rowid(connection: &Connection, table: &str) -> bool {
    let found =
        connection.prepare_cached("SELECT 1 FROM pragma_table_list WHERE schema = 'main' AND name = ?1 AND NOT wr");
    found.and_then(|mut found| found.exists([table])).unwrap_or(false)
}

fn begins_with(sql: &str, word: &str) -> bool {
    Tokens::of(sql, Dialect::Sqlite).find(|token| *token != Token::Symbol(b';')).is_some_and(|token| token.is(word))
}

/// Binds `value`, which is number `index` from 0, to one of SQLite's parameters.
fn bind(statement: &mut rusqlite::Statement<'_>, slot: usize, value: ValueRef<'_>, index: usize) -> Result<()> {
    let bound = match value {
        ValueRef::Null => statement.raw_bind_parameter(slot, rusqlite::types::Null),
        ValueRef::Bool(value) => statement.raw_bind_parameter(slot, i64::from(value)),
        ValueRef::Integer(value) => statement.raw_bind_parameter(slot, value),
        ValueRef::Real(value) if value.is_nan() => {
            let message = format!("parameter {} is NaN, which SQLite would store as NULL", index + 1);
            return Err(Error::new(ErrorKind::Query, message).because(Reason::Type).hint("bind Null if that is meant"));
        }
        ValueRef::Real(value) => statement.raw_bind_parameter(slot, value),
        ValueRef::Text(value) | ValueRef::List(value) => statement.raw_bind_parameter(slot, value),
        ValueRef::Blob(value) => statement.raw_bind_parameter(slot, value),
    };
    bound.map_err(crate::sqlcipher::errors::classify)
}
