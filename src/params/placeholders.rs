//! Reading the placeholders of a statement.
//!
//! SQLite hides mixtures (`$2 || ?1` is one parameter to it) and numbers `$N` by first appearance, so the text itself
//! has to be read: just far enough to tell placeholders from strings, comments and quoted names.

use std::borrow::Cow;
use std::ops::Range;

use super::arranged::{Arranged, ArrangedSets};
use super::fields::FieldNames;
use super::lexer::{Token, Tokens};
use super::role::{Role, Surroundings};
use super::sets::Binds;
use super::{ParamSets, Params, list};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::value::{Value, ValueRef};

/// How SQL is written, as far as placeholders go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// `"name"`, `` `name` ``, `[name]`; `/* comments */` do not nest.
    Sqlite,
    /// `"name"`, `E'\''`, `$tag$text$tag$`; `/* comments /* nest */ */`.
    Postgres,
    /// Only what both have in common.
    Other,
}

/// The one style of placeholders that a statement uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Style {
    /// `$1`: the number is in the name.
    Dollar,
    /// `?1`.
    Numbered,
    /// `?`: numbered by order.
    Question,
    /// `:name` or `@name`.
    Named,
}

/// The placeholders of one statement.
///
/// ```
/// use strongroom::engine::{Dialect, Placeholders};
/// use strongroom::values::IntoParams;
/// use strongroom::Value;
///
/// let found = Placeholders::scan("SELECT $2 || $1, '$3'", Dialect::Sqlite)?;
/// assert_eq!(found.count(), 2);
/// let values = found.arrange(("A", "B").into_params()?)?;
/// assert_eq!(values, [Value::Text("A".into()), Value::Text("B".into())]);
/// # Ok::<(), strongroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholders {
    style: Option<Style>,
    spots: Vec<Spot>,
    /// The names, in order of first appearance; empty for the other styles.
    names: Vec<Box<str>>,
    count: usize,
    dialect: Dialect,
}

/// One occurrence of a placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spot {
    /// Where it stands; of a list, from `IN` or `NOT IN` on.
    span: Range<usize>,
    /// Which value (from 0) it takes.
    index: usize,
    role: Role,
    /// The placeholder alone.
    placeholder: Range<usize>,
}

impl Placeholders {
    /// Reads `sql`.
    ///
    /// # Errors
    /// [`Reason::Parameters`] when styles are mixed, a number is 0 or too large, or numbers are left out;
    /// [`Reason::Syntax`] when the text contains a NUL byte.
    pub fn scan(sql: &str, dialect: Dialect) -> Result<Self> {
        refuse_nul(sql)?;
        let mut found = Self { style: None, spots: Vec::new(), names: Vec::new(), count: 0, dialect };
        let (mut tokens, mut around) = (Tokens::of(sql, dialect), Surroundings::default());
        while let Some(token) = tokens.next() {
            let span = tokens.span();
            if let Token::Placeholder(style, name) = token {
                found.add(style, name, span.clone(), around.role())?;
            }
            around.follow(token, span.start, dialect);
        }
        found.refuse_gaps()?;
        Ok(found)
    }

    /// The style in use; `None` without placeholders.
    pub fn style(&self) -> Option<Style> {
        self.style
    }

    /// How many values the statement takes.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The names, in the order in which [`arrange`](Placeholders::arrange) gives their values.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// Puts parameters into the order of the placeholders' numbers; named ones in order of first appearance.
    ///
    /// # Errors
    /// [`Reason::Parameters`] when the count is wrong, a name has no value or a value no placeholder, or values by
    /// position meet names.
    pub fn arrange(&self, params: Params) -> Result<Vec<Value>> {
        let order = self.order(&params)?;
        let mut values = match params {
            Params::None => Vec::new(),
            Params::Positional(values) => values,
            Params::Named(mut pairs) => {
                order.into_iter().map(|index| std::mem::replace(&mut pairs[index].1, Value::Null)).collect()
            }
            Params::Fields(mut fields) => {
                order.into_iter().map(|index| std::mem::replace(&mut fields.values[index], Value::Null)).collect()
            }
        };
        if self.dialect == Dialect::Postgres {
            for index in self.lists() {
                if let Value::Text(list) | Value::List(list) = &values[index] {
                    values[index] = Value::Text(list::to_array(list));
                }
            }
        }
        Ok(values)
    }

    /// The same without taking the values.
    ///
    /// # Errors
    /// As [`arrange`](Placeholders::arrange).
    pub fn look_up<'p>(&self, params: &'p Params) -> Result<Arranged<'p>> {
        Ok(Arranged::one(params, self.order(params)?))
    }

    /// The same for many sets at once.
    ///
    /// # Errors
    /// As [`arrange`](Placeholders::arrange), with the number of the first set that does not fit.
    pub fn look_up_all<'p>(&self, sets: &'p ParamSets) -> Result<ArrangedSets<'p>> {
        let mut number = 1;
        let orders = sets.runs().iter().map(|run| {
            let order = match &run.binds {
                Binds::Position(given) => self.check_count(*given),
                Binds::Names(names) => self.order_names(names.iter().map(|name| &**name)),
                Binds::Fields(names) => self.order_fields(names),
            };
            let order = order.map_err(|error| error.context(format_args!("set {number} of parameters")));
            number += run.sets;
            order
        });
        let arranged = ArrangedSets::new(sets, orders.collect::<Result<_>>()?);
        if self.spots.iter().any(|spot| spot.role != Role::Value) {
            for (number, set) in arranged.iter().enumerate() {
                let checked = self.check_lists(&set);
                checked.map_err(|error| error.context(format_args!("set {} of parameters", number + 1)))?;
            }
        }
        Ok(arranged)
    }

    /// Rewrites the statement with `$1..$N` in place of whatever it uses, for engines that know nothing else.
    pub fn rewrite<'s>(&self, sql: &'s str) -> Cow<'s, str> {
        if matches!(self.style, None | Some(Style::Dollar)) {
            return self.with_lists(sql);
        }
        Cow::Owned(self.replace(sql, |out, spot| {
            out.push('$');
            out.push_str(&(spot.index + 1).to_string());
        }))
    }

    /// Rewrites `IN $1` into what the engine knows to do with a list, and nothing else.
    pub fn with_lists<'s>(&self, sql: &'s str) -> Cow<'s, str> {
        if self.lists().next().is_none() {
            return Cow::Borrowed(sql);
        }
        Cow::Owned(self.replace(sql, |out, spot| {
            out.push_str(&sql[spot.placeholder.clone()]);
        }))
    }

    /// Which values are lists.
    fn lists(&self) -> impl Iterator<Item = usize> {
        self.spots.iter().filter(|spot| matches!(spot.role, Role::List { .. })).map(|spot| spot.index)
    }

    /// Rewrites the statement with `?` in place of whatever it uses, and says which value (from 0) each of them takes.
    /// For engines to which many names are expensive.
    ///
    /// ```
    /// use strongroom::engine::{Dialect, Placeholders};
    ///
    /// let (sql, order) = Placeholders::scan("SELECT $2 || $1 || $2", Dialect::Sqlite)?.unnamed("SELECT $2 || $1 || $2");
    /// assert_eq!((sql.as_str(), order.as_slice()), ("SELECT ? || ? || ?", [1, 0, 1].as_slice()));
    /// # Ok::<(), strongroom::Error>(())
    /// ```
    pub fn unnamed(&self, sql: &str) -> (String, Vec<usize>) {
        (self.replace(sql, |out, _| out.push('?')), self.spots.iter().map(|spot| spot.index).collect())
    }

    fn replace(&self, sql: &str, mut write: impl FnMut(&mut String, &Spot)) -> String {
        let mut out = String::with_capacity(sql.len() + self.spots.len());
        let mut done = 0;
        for spot in &self.spots {
            out.push_str(&sql[done..spot.span.start]);
            // `+` takes the affinity of its column from the value: a text is compared with a number as `k = $1` does.
            let (before, behind) = match (spot.role, self.dialect) {
                (Role::List { negated: false, .. }, Dialect::Sqlite) => ("IN (SELECT +value FROM json_each(", "))"),
                (Role::List { negated: true, .. }, Dialect::Sqlite) => ("NOT IN (SELECT +value FROM json_each(", "))"),
                (Role::List { negated: false, .. }, Dialect::Postgres) => ("= ANY(", ")"),
                (Role::List { negated: true, .. }, Dialect::Postgres) => ("<> ALL(", ")"),
                (Role::List { negated: false, .. }, Dialect::Other) => ("IN ", ""),
                (Role::List { negated: true, .. }, Dialect::Other) => ("NOT IN ", ""),
                (Role::Value | Role::Element, _) => ("", ""),
            };
            out.push_str(before);
            write(&mut out, spot);
            out.push_str(behind);
            done = spot.span.end;
        }
        out.push_str(&sql[done..]);
        out
    }

    /// Checks that parameters and placeholders fit.
    fn order(&self, params: &Params) -> Result<Vec<usize>> {
        let order = match params {
            Params::Named(pairs) => self.order_names(pairs.iter().map(|(name, _)| &**name)),
            Params::Fields(fields) => self.order_fields(&fields.names),
            params => self.check_count(params.len()),
        }?;
        let given = Arranged::one(params, order);
        self.check_lists(&given)?;
        Ok(given.into_order())
    }

    /// Checks that lists stand where lists are asked for: between parentheses, an engine would compare with the text of
    /// the list.
    fn check_lists(&self, given: &Arranged<'_>) -> Result<()> {
        for Spot { index, role, .. } in &self.spots {
            let number = index + 1;
            match role {
                Role::List { .. } if !list::is_list(given.get(*index)) => {
                    return Err(unfit(format!("placeholder {number} behind IN takes a list"))
                        .hint("bind strongroom::list(..), or write IN ($1) for a single value"));
                }
                Role::Element if matches!(given.get(*index), ValueRef::List(_)) => {
                    return Err(unfit(format!(
                        "placeholder {number} stands between the parentheses of IN and takes one value, not a list"
                    ))
                    .hint("write IN $1, without parentheses"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Which of the fields belongs to which placeholder; others are left out.
    fn order_fields(&self, given: &FieldNames) -> Result<Vec<usize>> {
        if self.style != Some(Style::Named) {
            return Err(unfit("parameters by name need placeholders such as :name"));
        }
        let field = |name: &str| {
            if let Some(place) = given.bound.iter().position(|known| **known == *name) {
                return Ok(place);
            }
            let Some((_, what)) = given.unfit.iter().find(|(known, _)| **known == *name) else {
                let fields = given.bound.join(", ");
                return Err(
                    unfit(format!("no field for placeholder :{name}")).hint(format!("the fields are: {fields}"))
                );
            };
            let (what, way) = what.split_once("; ").unwrap_or((what, NO_VALUE));
            Err(unfit(format!("the field {name} is {what}, which cannot be bound to :{name}")).hint(way.to_owned()))
        };
        self.names.iter().map(|name| field(name)).collect()
    }

    fn check_count(&self, given: usize) -> Result<Vec<usize>> {
        if self.style == Some(Style::Named) {
            let error = unfit("placeholders by name need parameters by name");
            return Err(error.hint("write named![id: 1] or [(\"id\", 1)]"));
        }
        if given != self.count {
            let takes = self.count;
            let message = format!("the statement takes {takes} parameter{}, {given} given", plural(takes));
            return Err(unfit(message).hint("give one value for each placeholder"));
        }
        Ok(Vec::new())
    }

    /// Which of the parameters with these names belongs to which placeholder.
    fn order_names<'n>(&self, given: impl ExactSizeIterator<Item = &'n str>) -> Result<Vec<usize>> {
        if self.style != Some(Style::Named) && !(self.style.is_none() && given.len() == 0) {
            return Err(unfit("parameters by name need placeholders such as :name"));
        }
        let mut order: Vec<Option<usize>> = vec![None; self.names.len()];
        for (place, name) in given.enumerate() {
            let Some(index) = self.names.iter().position(|known| **known == *name) else {
                return Err(unfit(format!("the statement has no placeholder :{name}")));
            };
            if order[index].replace(place).is_some() {
                return Err(unfit(format!("the parameter :{name} was given twice")));
            }
        }
        let named = order.into_iter().zip(&self.names);
        named.map(|(place, name)| place.ok_or_else(|| unfit(format!("no value for placeholder :{name}")))).collect()
    }

    fn add(&mut self, style: Style, text: &str, placeholder: Range<usize>, role: Role) -> Result<()> {
        if *self.style.get_or_insert(style) != style {
            let message = "the statement mixes styles of placeholders";
            return Err(unfit(message).hint("use only $1, $2 or only ?1, ?2 or only ? or only :name"));
        }
        let index = match style {
            Style::Question => self.count,
            Style::Dollar | Style::Numbered => number(text)? - 1,
            Style::Named => self.names.iter().position(|name| **name == *text).unwrap_or_else(|| {
                self.names.push(text.into());
                self.names.len() - 1
            }),
        };
        self.count = self.count.max(index + 1);
        let start = if let Role::List { start, .. } = role { start } else { placeholder.start };
        self.spots.push(Spot { span: start..placeholder.end, index, role, placeholder });
        Ok(())
    }

    /// `$1, $3`: nobody could say what the second value is for.
    fn refuse_gaps(&self) -> Result<()> {
        let mut used = vec![false; self.count];
        for spot in &self.spots {
            used[spot.index] = true;
        }
        match used.iter().position(|used| !used) {
            None => Ok(()),
            Some(gap) => {
                let message = format!("the statement uses parameter {} but not {}", self.count, gap + 1);
                Err(unfit(message))
            }
        }
    }
}

/// No engine takes more; a larger number would only make room for values that cannot come.
const LARGEST: usize = u16::MAX as usize;

fn number(digits: &str) -> Result<usize> {
    match digits.parse() {
        Ok(number @ 1..=LARGEST) => Ok(number),
        _ => Err(unfit(format!("placeholder number {digits} is not between 1 and {LARGEST}"))),
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cold]
fn unfit(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Query, message).because(Reason::Parameters)
}

/// The way out for fields that are no value.
const NO_VALUE: &str = "wrap it in strongroom::Json, or give it a form that can be stored with serialize_with";
/// Engines take a text up to its NUL byte for the whole of it, or cannot send it.
pub(crate) fn refuse_nul(sql: &str) -> Result<()> {
    if sql.contains('\0') {
        return Err(Error::new(ErrorKind::Query, "the statement contains a NUL byte").because(Reason::Syntax));
    }
    Ok(())
}
