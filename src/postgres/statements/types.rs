//! Types that are not built in, by their numbers.
//!
//! The driver is not told of them (`wire/described.rs`); the catalog is asked here, once for each, by a query that leaves
//! nothing prepared.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;

use tokio_postgres::types::{Kind, Type};
use tokio_postgres::{Column, SimpleQueryMessage, SimpleQueryRow, Statement};

use crate::error::Result;
use crate::postgres::connection::PostgresConnection;
use crate::postgres::wire::{SessionCall, stranger};

/// What a session knows of types that are not built in.
#[derive(Default)]
pub(crate) struct Types(HashMap<u32, Type>);

impl Types {
    pub(crate) fn knows(&self, number: u32) -> bool {
        self.0.contains_key(&number)
    }

    /// The types of columns, in their order.
    pub(crate) fn of<'c>(&self, columns: impl IntoIterator<Item = &'c Column>) -> Vec<Type> {
        let each = columns.into_iter();
        each.map(|column| stranger(column).map_or_else(|| column.type_().clone(), |number| self.get(number))).collect()
    }

    /// One that the catalog does not show, as it was made since a transaction began that sees no changes, is read as text.
    fn get(&self, number: u32) -> Type {
        let unknown = || Type::new(format!("number {number}"), number, Kind::Simple, "pg_catalog".to_owned());
        self.0.get(&number).cloned().unwrap_or_else(unknown)
    }

    fn add(&mut self, rows: &[SimpleQueryMessage]) {
        let mut found: HashMap<_, _> = rows.iter().filter_map(read).collect();
        while let Some(&number) = found.keys().next() {
            self.build(number, &mut found);
        }
    }

    /// Takes each out of `found` before what it is made of, so that no circle has no end.
    fn build(&mut self, number: u32, found: &mut HashMap<u32, Found<'_>>) -> Option<Type> {
        if let Some(known) = Type::from_oid(number).or_else(|| self.0.get(&number).cloned()) {
            found.remove(&number);
            return Some(known);
        }
        let Found { name, schema, kind, element, base } = found.remove(&number)?;
        let kind = match kind {
            "e" => Some(Kind::Enum(Vec::new())),
            "d" => self.build(base, found).map(Kind::Domain),
            "b" if element != 0 => self.build(element, found).map(Kind::Array),
            _ => None,
        };
        let built = Type::new(name.to_owned(), number, kind.unwrap_or(Kind::Simple), schema.to_owned());
        self.0.insert(number, built.clone());
        Some(built)
    }
}

struct Found<'r> {
    name: &'r str,
    schema: &'r str,
    kind: &'r str,
    element: u32,
    base: u32,
}

fn read(message: &SimpleQueryMessage) -> Option<(u32, Found<'_>)> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    let number = |column| SimpleQueryRow::get(row, column)?.parse::<u32>().ok();
    let found =
        Found { name: row.get(1)?, schema: row.get(2)?, kind: row.get(3)?, element: number(4)?, base: number(5)? };
    Some((number(0)?, found))
}

impl PostgresConnection {
    /// Has the server prepare a text, with these types of its first parameters.
    pub(crate) async fn parse(&mut self, sql: &str, types: &[Type]) -> Result<Statement> {
        self.session.link.described.ask();
        let answer = pin!(async { Ok(self.client.prepare_typed(sql, types).await?) });
        self.session.during(SessionCall::Statement { reads: true }, answer).await
    }

    /// The types of a prepared statement's columns.
    pub(crate) async fn column_types(&mut self, statement: &Statement) -> Result<Vec<Type>> {
        self.learn(statement.columns().iter().filter_map(stranger)).await?;
        Ok(self.types.of(statement.columns()))
    }

    /// The types of the parameters of a statement that was prepared just now.
    pub(crate) async fn parameter_types(&mut self, statement: &Statement) -> Result<Vec<Type>> {
        let numbers = self.session.link.described.parameters();
        self.learn(numbers.iter().copied().filter(|number| *number != 0)).await?;
        let told = statement.params().iter().zip(numbers);
        Ok(told.map(|(ty, number)| if number == 0 { ty.clone() } else { self.types.get(number) }).collect())
    }

    /// Asks the catalog about types that are not known yet.
    pub(crate) async fn learn(&mut self, numbers: impl Iterator<Item = u32>) -> Result<()> {
        let unknown: BTreeSet<u32> = numbers.filter(|number| !self.types.knows(*number)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let unknown = unknown.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "WITH RECURSIVE seen AS (\
               SELECT oid, typname, typnamespace, typtype, typelem, typbasetype FROM pg_catalog.pg_type \
               WHERE oid IN ({unknown}) \
             UNION \
               SELECT t.oid, t.typname, t.typnamespace, t.typtype, t.typelem, t.typbasetype \
               FROM seen s JOIN pg_catalog.pg_type t ON t.oid IN (s.typelem, s.typbasetype)) \
             SELECT s.oid, s.typname, n.nspname, s.typtype, s.typelem, s.typbasetype \
             FROM seen s JOIN pg_catalog.pg_namespace n ON n.oid = s.typnamespace"
        );
        let answer = pin!(async { Ok(self.client.simple_query(&sql).await?) });
        let rows = self.session.during(SessionCall::Statement { reads: true }, answer).await?;
        self.types.add(&rows);
        Ok(())
    }
}
