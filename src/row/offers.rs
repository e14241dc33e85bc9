//! In which form a cell is offered to serde.
//!
//! serde's types ask for what they know. A time asks for text and reads one form of it only; within `flatten` and
//! enums with tags, or without, serde keeps all values before it knows their types, and what was an integer then is
//! never a `bool`. So what is refused as it is stored has other forms.

use std::cell::{Cell, RefCell};

use super::View;
use super::mismatch::RefusedNumber;
use crate::value::Moment;
use crate::value::ValueRef;

/// What is offered for each column.
#[derive(Default)]
pub(super) struct Offers {
    /// Empty: everything as it is stored.
    columns: RefCell<Vec<Column>>,
    /// Whether a row of one column is its value, to who asks for neither a row nor a value.
    pub(super) bare: bool,
    /// The column that was refused in the last attempt, if serde said so at its value.
    pub(super) refused: Cell<Option<usize>>,
    /// What is replaced by integers that tell their column.
    pub(super) probing: Cell<Probing>,
}

/// serde does not say in which column a value was refused. An integer that stands for it is refused by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Probing {
    #[default]
    Nothing,
    /// Zeros and ones.
    Truths,
    /// The text or blob of this column. It is refused if serde comes as far.
    Column(usize),
}

#[derive(Clone, Copy, Default)]
struct Column {
    form: OfferedForm,
    /// serde asked for the value without a type.
    kept: bool,
    /// Every form of the kept value was refused, or it was not this value.
    given_up: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum OfferedForm {
    #[default]
    Stored,
    /// 0 and 1 as `bool`.
    Truth,
    /// Bytes as a list of numbers.
    List,
    /// A time with this separator, and an offset or none.
    Time { separator: char, offset: &'static str },
}

/// RFC 3339 in UTC, what chrono and jiff read as local, and the two forms of the crate `time`.
const TIMES: [OfferedForm; 4] = [
    OfferedForm::Time { separator: 'T', offset: "Z" },
    OfferedForm::Time { separator: 'T', offset: "" },
    OfferedForm::Time { separator: ' ', offset: " +00:00:00" },
    OfferedForm::Time { separator: ' ', offset: "" },
];

/// The number that stands for column 0 while probing. Up to 127, so that it fits into every integer type.
const PROBE: i64 = 2;

/// The number that stands for the text or blob of column 0. Types that read those refuse every integer.
const MARK: i64 = i64::MIN + 1;

/// A value in the form that is offered.
pub(super) enum Offered {
    Stored,
    Integer(i64),
    Truth(bool),
    Text(String),
    List,
}

impl Offers {
    /// The same with room for other forms.
    pub(super) fn of_each_column(self, row: View<'_>) -> Self {
        self.columns.replace(vec![Column::default(); row.len()]);
        self
    }

    pub(super) fn fit(&self, row: View<'_>) -> bool {
        self.columns.borrow().len() == row.len()
    }

    /// Whether each text that is offered in another form has to be. An enum may hold a time in one row, and in the next a
    /// text that looks like one. `decodes` tells whether the row can be decoded with what it is given.
    pub(super) fn are_needed(&mut self, row: View<'_>, decodes: impl Fn(&Self) -> bool) -> bool {
        let changed = |column: &Column| column.form != OfferedForm::Stored;
        // One alone is needed, as the row was not decoded without.
        if self.columns.get_mut().iter().filter(|column| changed(column)).count() < 2 {
            return true;
        }
        (0..row.len()).all(|index| {
            let column = self.columns.get_mut()[index];
            if !changed(&column) || !column.kept || !matches!(row.cell(index), ValueRef::Text(_)) {
                return true;
            }
            self.columns.get_mut()[index].form = OfferedForm::Stored;
            let is_needed = !decodes(self);
            self.columns.get_mut()[index].form = column.form;
            is_needed
        })
    }

    /// What to offer for a column.
    pub(super) fn look(&self, index: usize, value: ValueRef<'_>) -> Offered {
        let columns = self.columns.borrow();
        let Some(column) = columns.get(index) else { return Offered::Stored };
        if self.probing.get() == Probing::Column(index) {
            return Offered::Integer(MARK.saturating_add_unsigned(index as u64));
        }
        match (column.form, value) {
            (OfferedForm::Truth, ValueRef::Integer(truth @ 0..=1)) => Offered::Truth(truth == 1),
            (OfferedForm::List, ValueRef::Blob(_)) => Offered::List,
            (OfferedForm::Time { separator, offset }, ValueRef::Text(text)) => {
                spell(Moment::parse(text), separator, offset)
            }
            (OfferedForm::Time { separator, offset }, ValueRef::Integer(_) | ValueRef::Real(_)) => {
                spell(Moment::of_number(value), separator, offset)
            }
            (OfferedForm::Stored, ValueRef::Integer(0..=1)) if self.probing.get() == Probing::Truths => {
                match i64::try_from(index) {
                    Ok(index @ 0..126) => Offered::Integer(PROBE + index),
                    _ => Offered::Stored,
                }
            }
            _ => Offered::Stored,
        }
    }

    /// serde keeps this value.
    pub(super) fn keep(&self, index: usize) {
        if let Some(column) = self.columns.borrow_mut().get_mut(index) {
            column.kept = true;
        }
    }

    /// Changes the form of what was refused in the last attempt; `false` if there is no other.
    pub(super) fn next(&mut self, row: View<'_>, probe: impl Fn(&Self, Probing) -> Vec<RefusedNumber>) -> bool {
        let Some(index) = self.refused.get() else {
            let refusals = probe(self, Probing::Truths);
            return self.next_of_numbers(row, &refusals) || self.next_of_kept(row, probe) || self.next_is_bare(row);
        };
        let cell = row.cell(index);
        let of_a_time = is_number(cell) && probe(self, Probing::Truths).last().is_some_and(|refusal| refusal.of_a_time);
        let column = &mut self.columns.get_mut()[index];
        let form = following(column.form, cell, of_a_time);
        column.form = form.unwrap_or(column.form);
        form.is_some()
    }

    /// Zeros and ones as truth values, and the numbers that a time refused as times.
    fn next_of_numbers(&mut self, row: View<'_>, refusals: &[RefusedNumber]) -> bool {
        let mut found = false;
        for (index, column) in self.columns.get_mut().iter_mut().enumerate() {
            let cell = row.cell(index);
            let shown = match cell {
                ValueRef::Integer(0..=1) => ValueRef::Integer(PROBE.saturating_add_unsigned(index as u64)),
                other => other,
            };
            let Some(refusal) = refusals.iter().find(|refusal| refusal.number == shown) else { continue };
            let form = following(column.form, cell, refusal.of_a_time).filter(|_| column.form == OfferedForm::Stored);
            (column.form, found) = (form.unwrap_or(column.form), found || form.is_some());
        }
        found
    }

    fn next_is_bare(&mut self, row: View<'_>) -> bool {
        let before = std::mem::replace(&mut self.bare, row.len() == 1);
        self.columns.get_mut().fill(Column::default());
        before != self.bare
    }

    /// Changes the form of the value that was refused among those that serde kept: it takes them in the order of the row,
    /// so it is the last one that it comes to.
    fn next_of_kept(&mut self, row: View<'_>, probe: impl Fn(&Self, Probing) -> Vec<RefusedNumber>) -> bool {
        for index in (0..row.len()).rev() {
            let Some(Column { form, kept: true, given_up: false }) = self.columns.get_mut().get(index).copied() else {
                continue;
            };
            let cell = row.cell(index);
            if is_number(cell) && !TIMES.contains(&form) {
                continue;
            }
            let mark = ValueRef::Integer(MARK.saturating_add_unsigned(index as u64));
            if !probe(self, Probing::Column(index)).iter().any(|refusal| refusal.number == mark) {
                continue;
            }
            let next = following(form, cell, false);
            let column = &mut self.columns.get_mut()[index];
            (column.form, column.given_up) = (next.unwrap_or_default(), next.is_none());
            if next.is_some() {
                return true;
            }
        }
        false
    }
}

fn is_number(value: ValueRef<'_>) -> bool {
    matches!(value, ValueRef::Integer(_) | ValueRef::Real(_))
}

/// The form that follows for this value, which a time refused or something else.
fn following(form: OfferedForm, value: ValueRef<'_>, by_a_time: bool) -> Option<OfferedForm> {
    let stored = form == OfferedForm::Stored;
    let time = match value {
        ValueRef::Text(text) => Moment::parse(text),
        // Once it is spelled as a time, what is refused is the spelling.
        _ if is_number(value) && (by_a_time || TIMES.contains(&form)) => Moment::of_number(value),
        ValueRef::Integer(0..=1) => return stored.then_some(OfferedForm::Truth),
        ValueRef::Blob(_) => return stored.then_some(OfferedForm::List),
        _ => None,
    };
    time.and_then(|_| TIMES.get(TIMES.iter().position(|time| *time == form).map_or(0, |place| place + 1)).copied())
}

/// A spelling of a time. What is not said is that of SQLite: midnight, and UTC.
fn spell(moment: Option<Moment>, separator: char, offset: &str) -> Offered {
    let Some(mut moment) = moment else { return Offered::Stored };
    if moment.date.is_some() {
        moment.clock.get_or_insert_default();
    }
    Offered::Text(match moment.offset {
        None if moment.date.is_none() => moment.text(separator, ""),
        None | Some(0) if !offset.is_empty() => moment.text(separator, offset),
        None => moment.text(separator, ""),
        Some(east) => {
            let (sign, east) = (if east < 0 { '-' } else { '+' }, east.unsigned_abs());
            let (hours, minutes, seconds) = (east / 3600, east / 60 % 60, east % 60);
            let written = match separator {
                ' ' => format!(" {sign}{hours:02}:{minutes:02}:{seconds:02}"),
                // jiff's local types drop any other offset.
                _ if east == 0 => "Z".to_owned(),
                _ => format!("{sign}{hours:02}:{minutes:02}"),
            };
            moment.text(separator, &written)
        }
    })
}
