//! Parameters in the order of their placeholders.

use std::borrow::Cow;

use super::{ParamSets, Params};
use crate::value::ValueRef;

/// One set of parameters in the order of the placeholders; see [`Placeholders::look_up`](crate::engine::Placeholders::look_up).
///
/// ```
/// use strongroom::engine::{Dialect, Placeholders};
/// use strongroom::values::ValueRef;
/// use strongroom::named;
///
/// let found = Placeholders::scan("SELECT :b || :a", Dialect::Sqlite)?;
/// let params = named![a: "A", b: "B"]?;
/// assert_eq!(found.look_up(&params)?.get(0), ValueRef::Text("B"));
/// # Ok::<(), strongroom::Error>(())
/// ```
#[derive(Debug)]
pub struct Arranged<'p> {
    source: ValueSource<'p>,
    /// For parameters by name: which of them each placeholder takes.
    order: Cow<'p, [usize]>,
}

#[derive(Debug)]
enum ValueSource<'p> {
    One(&'p Params),
    /// The set whose first value stands there.
    OfMany(&'p ParamSets, usize),
}

impl<'p> Arranged<'p> {
    pub(super) fn one(params: &'p Params, order: Vec<usize>) -> Self {
        Self { source: ValueSource::One(params), order: order.into() }
    }

    pub(super) fn into_order(self) -> Vec<usize> {
        self.order.into_owned()
    }

    /// The value of the placeholder with this number, from 0.
    ///
    /// # Panics
    /// When there is no such placeholder.
    #[inline]
    pub fn get(&self, index: usize) -> ValueRef<'p> {
        match self.source {
            ValueSource::One(Params::None) => ValueRef::Null,
            ValueSource::One(Params::Positional(values)) => values[index].as_ref(),
            ValueSource::One(Params::Fields(fields)) => fields.values[self.order[index]].as_ref(),
            ValueSource::One(Params::Named(pairs)) => pairs[self.order[index]].1.as_ref(),
            ValueSource::OfMany(sets, first) if self.order.is_empty() => sets.value(first + index),
            ValueSource::OfMany(sets, first) => sets.value(first + self.order[index]),
        }
    }
}

/// Many sets of parameters in the order of the placeholders; see
/// [`Placeholders::look_up_all`](crate::engine::Placeholders::look_up_all).
#[derive(Debug)]
pub struct ArrangedSets<'p> {
    sets: &'p ParamSets,
    /// The order of each run of sets that bind alike.
    orders: Vec<Vec<usize>>,
}

impl<'p> ArrangedSets<'p> {
    pub(super) fn new(sets: &'p ParamSets, orders: Vec<Vec<usize>>) -> Self {
        Self { sets, orders }
    }

    /// The sets, in order.
    pub fn iter(&self) -> impl Iterator<Item = Arranged<'_>> {
        self.iter_from(0)
    }

    /// The sets from this number on, which counts from 0.
    pub fn iter_from(&self, first: usize) -> impl Iterator<Item = Arranged<'_>> {
        self.sets.each(first).map(|(run, first)| Arranged {
            source: ValueSource::OfMany(self.sets, first),
            order: Cow::Borrowed(&self.orders[run]),
        })
    }
}
