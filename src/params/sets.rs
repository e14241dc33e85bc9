//! Many sets of parameters for one statement.

use std::borrow::Cow;
use std::fmt;

use super::Params;
use super::fields::{FieldNames, Fields};
use crate::error::Result;
use crate::value::Cells;
use crate::value::{IntoValue, ValueRef};

/// Many sets of parameters for one statement, in a few runs of memory: they cross to another thread at the cost of one
/// value. Made by [`execute_many`](crate::AsyncDatabase::execute_many) for
/// [`Connection::run_many`](crate::Connection::run_many).
///
/// ```
/// use strongroom::values::{IntoParams, ParamSets};
///
/// let sets: ParamSets = [(1, "a").into_params()?, (2, "b").into_params()?].into_iter().collect();
/// assert_eq!(sets.len(), 2);
/// assert_eq!(sets.iter().nth(1), Some((2, "b").into_params()?));
/// # Ok::<(), strongroom::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct ParamSets {
    values: Cells,
    runs: Vec<MemoryRun>,
    len: usize,
}

/// Sets that follow one another and bind in the same way.
#[derive(Clone)]
pub(super) struct MemoryRun {
    pub(super) sets: usize,
    pub(super) binds: Binds,
}

#[derive(Clone)]
pub(super) enum Binds {
    Position(usize),
    Names(Vec<Cow<'static, str>>),
    Fields(FieldNames),
}

impl Binds {
    fn of(params: &Params) -> Self {
        match params {
            Params::Named(pairs) => Self::Names(pairs.iter().map(|(name, _)| name.clone()).collect()),
            Params::Fields(fields) => Self::Fields((*fields.names).clone()),
            params => Self::Position(params.len()),
        }
    }

    fn is_of(&self, params: &Params) -> bool {
        match (self, params) {
            (Self::Names(names), Params::Named(pairs)) => names.iter().eq(pairs.iter().map(|(name, _)| name)),
            (Self::Fields(names), Params::Fields(fields)) => *names == *fields.names,
            (Self::Names(_) | Self::Fields(_), _) | (_, Params::Named(_) | Params::Fields(_)) => false,
            (Self::Position(count), params) => *count == params.len(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Position(count) => *count,
            Self::Names(names) => names.len(),
            Self::Fields(names) => names.bound.len(),
        }
    }
}

impl ParamSets {
    /// No sets yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a set.
    ///
    /// # Panics
    /// When a text or blob is longer than 4 GiB, which no supported engine can store.
    pub fn push(&mut self, params: &Params) {
        self.count(|binds| binds.is_of(params), || Binds::of(params));
        match params {
            Params::None => {}
            Params::Positional(values) => values.iter().for_each(|value| self.values.push(value.as_ref())),
            Params::Fields(fields) => fields.values.iter().for_each(|value| self.values.push(value.as_ref())),
            Params::Named(pairs) => pairs.iter().for_each(|(_, value)| self.values.push(value.as_ref())),
        }
    }

    /// Appends a set of `count` values by position; `fill` has to give so many.
    pub(super) fn append(&mut self, count: usize, fill: impl FnOnce(&mut Filling<'_>) -> Result<()>) -> Result<()> {
        let before = self.values.len();
        fill(&mut Filling(&mut self.values)).inspect_err(|_| self.values.truncate(before))?;
        debug_assert_eq!(self.values.len() - before, count);
        self.count(|binds| matches!(binds, Binds::Position(same) if *same == count), || Binds::Position(count));
        Ok(())
    }

    /// Counts a set to the last run if that binds alike, or to a new one.
    fn count(&mut self, alike: impl FnOnce(&Binds) -> bool, binds: impl FnOnce() -> Binds) {
        match self.runs.last_mut() {
            Some(run) if alike(&run.binds) => run.sets += 1,
            _ => self.runs.push(MemoryRun { sets: 1, binds: binds() }),
        }
        self.len += 1;
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the sets out, in order.
    pub fn iter(&self) -> impl Iterator<Item = Params> {
        self.each(0).map(|(run, first)| {
            let value = |index: usize| self.value(first + index).to_owned();
            match &self.runs[run].binds {
                Binds::Position(0) => Params::None,
                Binds::Position(count) => Params::Positional((0..*count).map(value).collect()),
                Binds::Fields(names) => {
                    let values = (0..names.bound.len()).map(value).collect();
                    Params::Fields(Fields { names: Box::new(names.clone()), values })
                }
                Binds::Names(names) => {
                    Params::Named(names.iter().enumerate().map(|(index, name)| (name.clone(), value(index))).collect())
                }
            }
        })
    }

    /// How much memory the values take.
    pub(crate) fn bytes(&self) -> usize {
        self.values.bytes()
    }

    pub(super) fn runs(&self) -> &[MemoryRun] {
        &self.runs
    }

    #[inline]
    pub(super) fn value(&self, index: usize) -> ValueRef<'_> {
        self.values.get(index)
    }

    /// Of each set from this number on: the run that it belongs to, and where its first value stands.
    pub(super) fn each(&self, from: usize) -> impl Iterator<Item = (usize, usize)> {
        let runs = self.runs.iter().enumerate().scan((0, from), |(first, skip), (number, run)| {
            let (width, skipped) = (run.binds.len(), run.sets.min(*skip));
            let begin = *first;
            *first += run.sets * width;
            *skip -= skipped;
            Some((skipped..run.sets).map(move |set| (number, begin + set * width)))
        });
        runs.flatten()
    }
}

/// A set on its way.
pub(super) struct Filling<'s>(&'s mut Cells);

impl Filling<'_> {
    pub(super) fn push(&mut self, value: impl IntoValue) -> Result<()> {
        value.with_ref(|value| self.0.push(value))
    }
}

impl FromIterator<Params> for ParamSets {
    fn from_iter<I: IntoIterator<Item = Params>>(sets: I) -> Self {
        let mut all = Self::new();
        sets.into_iter().for_each(|params| all.push(&params));
        all
    }
}

/// Parameters are data of users, so only their number is shown.
impl fmt::Debug for ParamSets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParamSets({})", self.len)
    }
}
