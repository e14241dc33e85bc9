//! Parameters from the fields of a struct.

mod field;
mod record;

use std::borrow::Cow;
use std::fmt;

use serde::ser::{self, Serialize};

use self::field::{Field, Within};
use self::record::Record;
use super::Params;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::value::{Value, pointed_at};

/// Parameters by name from the fields of a struct, or the entries of a map.
///
/// Fields that the statement does not name are left out, so one struct serves many statements; a placeholder without a
/// field is an error that names it. Values are stored as those of the same types that are bound by themselves (times in
/// UTC, with nine digits; bytes as a BLOB; a unit variant as its name). Lists, maps and structs within the struct can be
/// bound as [`Json`](crate::Json); where they are not, they may be there, but not be bound.
///
/// ```
/// use strongroom::{AsyncDatabase, named};
///
/// #[derive(serde::Serialize)]
/// struct User {
///     id: i64,
///     name: String,
///     email: Option<String>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// # #[cfg(feature = "sqlite")] {
/// let db = AsyncDatabase::builder(":memory:").open().await?;
/// db.execute("CREATE TABLE users (id INTEGER, name TEXT, email TEXT)", ()).await?;
/// let user = User { id: 1, name: "alice".into(), email: None };
/// db.execute("INSERT INTO users VALUES (:id, :name, :email)", named(&user)).await?;
/// db.execute("UPDATE users SET name = upper(:name) WHERE id = :id", named(&user)).await?;
/// # }
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Reason::Type`] when `source` is neither a struct nor a map with texts as keys. What cannot be bound is told when a
/// statement asks for it, as [`Reason::Parameters`].
pub fn named(source: impl Serialize) -> Result<Params> {
    source.serialize(Record).map(Params::Fields).map_err(|Unfit(what)| {
        let error = Error::new(ErrorKind::Query, format!("cannot bind {what} by name")).because(Reason::Type);
        error.hint("named() takes a struct, or a map with texts as keys")
    })
}

/// The fields of a struct as parameters; see [`named`](crate::named()).
#[derive(Clone, Default, PartialEq)]
pub struct Fields {
    /// Boxed, because every statement that travels has room for it.
    pub(in crate::params) names: Box<FieldNames>,
    pub(in crate::params) values: Vec<Value>,
}

/// The names of those that can be bound, in the order of their values, and of the others, with the reason.
#[derive(Clone, Default, PartialEq)]
pub(in crate::params) struct FieldNames {
    pub(in crate::params) bound: Vec<Cow<'static, str>>,
    pub(in crate::params) unfit: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

impl Fields {
    /// How many fields can be bound.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.names.bound.iter().map(|name| &**name).zip(&self.values)
    }

    fn add<T: Serialize + ?Sized>(&mut self, name: impl Into<Cow<'static, str>>, value: &T, within: Within) {
        match Field::write(value, within) {
            Ok(value) => {
                self.names.bound.push(name.into());
                self.values.push(value);
            }
            Err(Unfit(what)) => self.names.unfit.push((name.into(), what)),
        }
    }
}

/// Data of users, so only the names are shown.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fields").field(&self.names.bound).finish()
    }
}

/// Whether a list of this type is one of bytes: it has none to tell it by when it is empty.
fn is_bytes<T: ?Sized>() -> bool {
    let element = pointed_at::<T>().split_once(['<', '[']).map_or("", |(_, inside)| inside);
    element.strip_prefix("u8").is_some_and(|rest| rest.is_empty() || rest.starts_with([']', ';', ',']))
}

/// Whether this type is a byte.
fn is_byte<T: ?Sized>() -> bool {
    pointed_at::<T>() == "u8"
}

/// What cannot be bound, in words about its type.
#[derive(Debug)]
struct Unfit(Cow<'static, str>);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

impl ser::Error for Unfit {
    /// What a type says of itself may hold its value.
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self("a value that its own type refuses to write".into())
    }
}

fn unfit<T>(what: &'static str) -> Result<T, Unfit> {
    Err(Unfit(what.into()))
}
