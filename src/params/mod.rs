//! Parameters: what is bound to the placeholders of a statement.
//!
//! Floor 0. A tuple, array, slice or vector of values binds by position; pairs of name and value bind by name.

mod arranged;
mod fields;
pub(crate) mod lexer;
pub(crate) mod list;
mod literals;
pub(crate) mod placeholders;
mod role;
#[cfg(any(feature = "migrations", feature = "postgres"))]
pub(crate) mod script;
mod sets;
mod subject;

pub use arranged::{Arranged, ArrangedSets};
pub use fields::{Fields, named};
pub use list::list;
pub(crate) use literals::without_literals;
pub use placeholders::{Dialect, Placeholders, Style};
pub use sets::ParamSets;
pub(crate) use subject::subject;

use std::borrow::Cow;
use std::fmt;

use crate::error::Result;
use crate::value::{IntoValue, Value};

/// The parameters of one statement.
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub enum Params {
    /// No parameters.
    #[default]
    None,
    /// Values for `$1`, `?1` and `?`, the first for number 1.
    Positional(Vec<Value>),
    /// Values for `:name` and `@name`; the names stand without their sign.
    Named(Vec<(Cow<'static, str>, Value)>),
    /// The same from the fields of a struct, of which the statement may leave some out; see [`named`](crate::named()).
    Fields(Fields),
}

impl Params {
    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Positional(values) => values.len(),
            Self::Named(values) => values.len(),
            Self::Fields(fields) => fields.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Parameters are data of users, so only their number is shown.
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Params({})", self.len())
    }
}

/// What can stand as the parameters of a statement.
///
/// | written | binds |
/// |---|---|
/// | `()` | nothing |
/// | `(1, "a")`, up to 16 values | by position |
/// | `[1, 2]`, `&[1, 2]`, `vec![1, 2]`, `&vec` | by position, values of one type |
/// | `params![1, "a", Null]` | by position, any number and types |
/// | `[("id", 1), ("n", 2)]`, `named![id: 1, name: "a"]` | by name |
/// | `named(&user)` | by name, the fields of a struct |
/// | `(list([1, 2]),)` | one list, for `IN $1` |
///
/// # Errors
/// [`Reason::Type`](crate::Reason::Type) when a value does not fit, such as a `u64` above `i64::MAX`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used as parameters",
    note = "write a tuple such as `(1, \"a\")`; for a single value `(1,)` or `[1]`"
)]
pub trait IntoParams {
    /// Converts into parameters.
    ///
    /// # Errors
    /// When a value does not fit.
    fn into_params(self) -> Result<Params>;

    /// Appends the parameters to `sets`. Values by position are not collected before, and borrowed texts not copied
    /// twice.
    ///
    /// # Errors
    /// When a value does not fit; `sets` is then as before.
    fn append_to(self, sets: &mut ParamSets) -> Result<()>
    where
        Self: Sized,
    {
        sets.push(&self.into_params()?);
        Ok(())
    }
}

#[diagnostic::do_not_recommend]
impl IntoParams for Params {
    fn into_params(self) -> Result<Params> {
        Ok(self)
    }
}

/// Lets an error of [`params!`](crate::params!) surface where the statement runs.
#[diagnostic::do_not_recommend]
impl IntoParams for Result<Params> {
    fn into_params(self) -> Result<Params> {
        self
    }
}

#[diagnostic::do_not_recommend]
impl IntoParams for () {
    fn into_params(self) -> Result<Params> {
        Ok(Params::None)
    }
}

fn append<T: IntoValue>(values: impl ExactSizeIterator<Item = T>, sets: &mut ParamSets) -> Result<()> {
    sets.append(values.len(), |set| values.into_iter().try_for_each(|value| set.push(value)))
}

fn positional<T: IntoValue>(values: impl IntoIterator<Item = T>) -> Result<Params> {
    values.into_iter().map(T::into_value).collect::<Result<_>>().map(Params::Positional)
}

impl<T: IntoValue, const N: usize> IntoParams for [T; N] {
    fn into_params(self) -> Result<Params> {
        positional(self)
    }

    fn append_to(self, sets: &mut ParamSets) -> Result<()> {
        append(self.into_iter(), sets)
    }
}

impl<T: IntoValue> IntoParams for Vec<T> {
    fn into_params(self) -> Result<Params> {
        positional(self)
    }

    fn append_to(self, sets: &mut ParamSets) -> Result<()> {
        append(self.into_iter(), sets)
    }
}

impl<'a, T> IntoParams for &'a [T]
where
    &'a T: IntoValue,
{
    fn into_params(self) -> Result<Params> {
        positional(self)
    }
}

impl<'a, T> IntoParams for &'a Vec<T>
where
    &'a T: IntoValue,
{
    fn into_params(self) -> Result<Params> {
        positional(self)
    }
}

impl<'a, T, const N: usize> IntoParams for &'a [T; N]
where
    &'a T: IntoValue,
{
    fn into_params(self) -> Result<Params> {
        positional(self)
    }
}

fn pairs<'n, V: IntoValue>(given: impl IntoIterator<Item = (&'n str, V)>) -> Result<Params> {
    let bare = |name: &str| name.trim_start_matches([':', '@']).to_owned();
    let pair = |(name, value): (&str, V)| Ok((Cow::Owned(bare(name)), value.into_value()?));
    given.into_iter().map(pair).collect::<Result<_>>().map(Params::Named)
}

impl<V: IntoValue, const N: usize> IntoParams for [(&str, V); N] {
    fn into_params(self) -> Result<Params> {
        pairs(self)
    }
}

impl<V: IntoValue> IntoParams for Vec<(&str, V)> {
    fn into_params(self) -> Result<Params> {
        pairs(self)
    }
}

impl<'a, V> IntoParams for &'a [(&str, V)]
where
    &'a V: IntoValue,
{
    fn into_params(self) -> Result<Params> {
        pairs(self.iter().map(|(name, value)| (*name, value)))
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: IntoValue),+> IntoParams for ($($name,)+) {
            #[allow(non_snake_case, reason = "the type's name names the field too")]
            fn into_params(self) -> Result<Params> {
                let ($($name,)+) = self;
                Ok(Params::Positional(vec![$($name.into_value()?),+]))
            }

            #[allow(non_snake_case, reason = "the type's name names the field too")]
            fn append_to(self, sets: &mut ParamSets) -> Result<()> {
                let ($($name,)+) = self;
                sets.append([$(stringify!($name)),+].len(), |set| {
                    $(set.push($name)?;)+
                    Ok(())
                })
            }
        }
    };
}

tuples! { A }
tuples! { A B }
tuples! { A B C }
tuples! { A B C D }
tuples! { A B C D E }
tuples! { A B C D E F }
tuples! { A B C D E F G }
tuples! { A B C D E F G H }
tuples! { A B C D E F G H I }
tuples! { A B C D E F G H I J }
tuples! { A B C D E F G H I J K }
tuples! { A B C D E F G H I J K L }
tuples! { A B C D E F G H I J K L M }
tuples! { A B C D E F G H I J K L M N }
tuples! { A B C D E F G H I J K L M N O }
tuples! { A B C D E F G H I J K L M N O P }

/// Parameters by position, of any number and mixture of types.
///
/// ```
/// use strongroom::values::{IntoParams, Null};
/// use strongroom::params;
///
/// assert_eq!(params![1, "a", Null].into_params()?.len(), 3);
/// # Ok::<(), strongroom::Error>(())
/// ```
#[macro_export]
macro_rules! params {
    () => { $crate::values::Params::None };
    ($($value:expr),+ $(,)?) => {
        (|| -> $crate::Result<$crate::values::Params> {
            Ok($crate::values::Params::Positional(::std::vec![$($crate::values::IntoValue::into_value($value)?),+]))
        })()
    };
}

/// Parameters by name.
///
/// ```
/// use strongroom::values::IntoParams;
/// use strongroom::named;
///
/// // SELECT name FROM users WHERE id = :id AND city = @city
/// assert_eq!(named![id: 1, city: "Oslo"].into_params()?.len(), 2);
/// # Ok::<(), strongroom::Error>(())
/// ```
#[macro_export]
macro_rules! named {
    ($($name:ident: $value:expr),+ $(,)?) => {
        (|| -> $crate::Result<$crate::values::Params> {
            Ok($crate::values::Params::Named(::std::vec![$((
                ::std::borrow::Cow::Borrowed(::core::stringify!($name)),
                $crate::values::IntoValue::into_value($value)?,
            )),+]))
        })()
    };
}
