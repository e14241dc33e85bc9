//! Rows into structs, tuples and scalars through serde, without a tree in between.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::deserialize::Columns;
use super::mismatch::{Mismatch, RefusedNumber, refused_numbers};
use super::offers::{Offers, Probing};
use super::{Row, Rows, View};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::value::NUMBERS;

impl Row {
    /// Decodes the row: a struct or map by column names, a tuple by order, a scalar from the first column.
    ///
    /// ```
    /// use strongroom::engine::RowsBuilder;
    /// use strongroom::values::ValueRef;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct User {
    ///     id: u32,
    ///     name: Option<String>,
    /// }
    ///
    /// let mut builder = RowsBuilder::new(["id", "name"]);
    /// builder.push(ValueRef::Integer(7));
    /// builder.push(ValueRef::Null);
    /// let row = builder.finish().first().unwrap();
    /// let user: User = row.decode()?;
    /// assert_eq!((user.id, user.name), (7, None));
    /// let pair: (i64, Option<String>) = row.decode()?;
    /// assert_eq!(pair, (7, None));
    /// # Ok::<(), strongroom::Error>(())
    /// ```
    ///
    /// Times are read from every form that SQLite's date functions write, numbers among them, 0 and 1 as `bool`, also within
    /// `#[serde(flatten)]` and enums with tags or without. There, serde keeps the values before it knows the types: where
    /// an integer fits, as in an untagged enum with both, 0 and 1 stay integers; and a flattened `Option` becomes `None`
    /// where something inside does not fit. `#[serde(deserialize_with = "..")]` on a field decides by itself.
    ///
    /// # Errors
    /// [`Reason::Type`] when a column is missing, repeated where one of its values would be lost, of another type, or does
    /// not fit.
    pub fn decode<T: for<'de> Deserialize<'de>>(&self) -> Result<T> {
        Decoder::default().decode(self.view())
    }
}

impl Rows {
    /// Decodes every row as [`Row::decode`] does.
    ///
    /// # Errors
    /// [`Reason::Type`] for the first row that does not fit.
    pub fn decode<T: for<'de> Deserialize<'de>>(&self) -> Result<Vec<T>> {
        let mut all = Vec::with_capacity(self.len());
        let mut decoder = Decoder::default();
        for index in 0..self.len() {
            all.push(decoder.decode(self.0.view(index))?);
        }
        Ok(all)
    }
}

/// Decodes rows of one result.
///
/// A value is offered to serde as it is stored. If the row cannot be decoded so, what was refused is offered in another
/// form (see [`Offers`]), and the row decoded again: until it fits, or there is no other form.
#[derive(Default)]
pub(super) struct Decoder {
    /// Everything as it is stored, for the first attempt with each row.
    stored: Offers,
    /// What the last row that needed other forms was decoded with.
    known: Option<Offers>,
}

impl Decoder {
    pub(super) fn decode<T: DeserializeOwned>(&mut self, row: View<'_>) -> Result<T> {
        match Self::attempt(row, &self.stored) {
            Ok(value) => Ok(value),
            Err(mismatch) => self.decode_in_other_forms(row, mismatch),
        }
    }

    #[cold]
    fn decode_in_other_forms<T: DeserializeOwned>(&mut self, row: View<'_>, mismatch: Mismatch) -> Result<T> {
        let stored = std::mem::take(&mut self.stored);
        let refused = stored.refused.get();
        if let Some(mut known) = self.known.take().filter(|known| known.fit(row))
            && let Ok(value) = Self::attempt(row, &known)
            && known.are_needed(row, |fewer| Self::attempt::<T>(row, fewer).is_ok())
        {
            self.known = Some(known);
            return Ok(value);
        }
        let mut offers = stored.of_each_column(row);
        while offers.next(row, |offers, probing| Self::probe::<T>(row, offers, probing)) {
            if let Ok(value) = Self::attempt(row, &offers) {
                self.known = Some(offers);
                return Ok(value);
            }
        }
        let suspects = refused.map_or(0..row.len(), |column| column..column + 1);
        let mismatch = suspects.fold(mismatch, |mismatch, column| mismatch.without(row.cell(column)));
        let error = Error::new(ErrorKind::Query, format!("cannot decode the row: {mismatch}")).because(Reason::Type);
        Err(if mismatch.is_of_a_time() { error.hint(NUMBERS) } else { error })
    }

    fn attempt<T: DeserializeOwned>(row: View<'_>, offers: &Offers) -> Result<T, Mismatch> {
        offers.refused.set(None);
        T::deserialize(Columns::new(row, offers))
    }

    /// The numbers that were refused for their type, with some that stand for other values.
    fn probe<T: DeserializeOwned>(row: View<'_>, offers: &Offers, probing: Probing) -> Vec<RefusedNumber> {
        let refused = offers.refused.get();
        offers.probing.set(probing);
        let numbers = refused_numbers(|| drop(Self::attempt::<T>(row, offers)));
        offers.probing.set(Probing::Nothing);
        offers.refused.set(refused);
        numbers
    }
}
