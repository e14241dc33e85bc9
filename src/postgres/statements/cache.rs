//! Prepared statements of one connection, the least recently used one leaving first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::collect::ColumnHeader;
use super::words::Shape;
use crate::error::Result;
use crate::lock::Lock;
use crate::params::Placeholders;
use crate::postgres::values::{Parameter, base, loses, loses_digits};
use crate::value::ValueRef;

/// A statement that the server has prepared, and what has been found out about it.
pub(crate) struct Prepared {
    pub(crate) shape: Shape,
    pub(crate) placeholders: Placeholders,
    pub(crate) statement: tokio_postgres::Statement,
    /// The types of its parameters.
    pub(crate) types: Vec<Type>,
    pub(crate) header: ColumnHeader,
    /// What does not fit the type of its parameter goes as a literal.
    pub(crate) lenient: bool,
    /// When it was prepared.
    pub(crate) since: Instant,
    /// The COPY that many of it travelled as last, in binary form; and its text without that.
    pub(crate) copy: Lock<Option<(Arc<str>, tokio_postgres::Statement)>>,
}

/// How many sets of a statement travel as one COPY.
#[derive(Debug)]
pub(crate) struct CopyPlan {
    pub(crate) copy: Arc<str>,
    /// Of the columns; none is a domain.
    pub(crate) types: Vec<Type>,
}

impl CopyPlan {
    /// Whether the columns have the types that the values are fitted to: eight bytes are as good a float as an integer to
    /// the server.
    pub(crate) fn fits(&self, prepared: &Prepared) -> bool {
        self.types.iter().eq(prepared.types.iter().map(base))
    }
}

/// For so long, a statement that binds a `double precision` is not asked whether that has become a `numeric`. To ask each
/// time would double the cost of such a write, and whoever changes a column has cut what stood there to fifteen digits.
const TRUSTED: Duration = Duration::from_secs(1);

impl Prepared {
    /// Whether one of the values would lose something in the type that its parameter had when this was prepared.
    pub(crate) fn loses<'v>(&self, values: impl IntoIterator<Item = ValueRef<'v>>, utc: bool) -> bool {
        let is_old = self.since.elapsed() >= TRUSTED;
        let mut typed = values.into_iter().zip(&self.types);
        typed.any(|(value, ty)| loses(value, ty, utc) || is_old && loses_digits(value, ty))
    }

    /// Fits a value to parameter number `number` of type `ty`, which is no domain.
    pub(crate) fn fit<'v>(&self, value: ValueRef<'v>, ty: &Type, number: usize) -> Result<Parameter<'v>> {
        if self.lenient { Parameter::fit_or_literal(value, ty, number) } else { Parameter::fit(value, ty, number) }
    }
}

/// Prepared statements by their text.
pub(crate) struct Cache {
    entries: HashMap<Arc<str>, Entry, foldhash::fast::RandomState>,
    capacity: usize,
    /// Counts lookups, to tell which entry was used last.
    clock: u64,
}

struct Entry {
    prepared: Arc<Prepared>,
    used: u64,
}

impl Cache {
    /// Keeps up to `capacity` statements; with 0, nothing may be prepared by name.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::default(), capacity, clock: 0 }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.capacity == 0
    }

    pub(crate) fn get(&mut self, sql: &str) -> Option<Arc<Prepared>> {
        self.clock += 1;
        let entry = self.entries.get_mut(sql)?;
        entry.used = self.clock;
        Some(Arc::clone(&entry.prepared))
    }

    /// What is known of a statement that has been prepared; this is not a use of it.
    pub(crate) fn peek(&self, sql: &str) -> Option<Shape> {
        Some(self.entries.get(sql)?.prepared.shape)
    }

    pub(crate) fn insert(&mut self, sql: Arc<str>, prepared: Prepared) -> Arc<Prepared> {
        if self.entries.len() >= self.capacity {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(sql, _)| Arc::clone(sql));
            oldest.map(|sql| self.entries.remove(&sql));
        }
        let prepared = Arc::new(prepared);
        self.entries.insert(sql, Entry { prepared: Arc::clone(&prepared), used: self.clock });
        prepared
    }

    /// Where nothing may be kept, forgets what was prepared for the while.
    pub(crate) fn tidy(&mut self) {
        if self.is_off() {
            self.entries.clear();
        }
    }

    /// Forgets a statement that the server no longer accepts.
    pub(crate) fn remove(&mut self, sql: &str) {
        self.entries.remove(sql);
    }
}
