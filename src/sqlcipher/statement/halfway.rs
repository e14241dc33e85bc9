//! Statements that stop at an error and keep what they have done: `OR FAIL`, `ON CONFLICT FAIL`, `RAISE(FAIL, ..)`.
//!
//! A statement that fails is to have changed nothing, so these get a transaction or a savepoint of their own. That would
//! slow all others down, so SQLite is asked which they are: its program of a statement says what happens at each error.

use rusqlite::Connection;

use crate::error::{Phase, Result};
use crate::sqlcipher::running::engine::Engine;

/// SQLite's `OE_Fail`: the number that stands for it in programs.
const FAIL: i64 = 3;

/// Whether a statement that writes can stop half-way.
pub(crate) fn may_stop(connection: &Connection, sql: &str) -> bool {
    // Asked first, because a program can be long.
    (mentions_fail(sql) || schema_mentions_fail(connection).unwrap_or(true))
        && program_fails(connection, sql).unwrap_or(true)
}

fn mentions_fail(sql: &str) -> bool {
    sql.as_bytes().windows(4).any(|word| word.eq_ignore_ascii_case(b"fail"))
}

fn schema_mentions_fail(connection: &Connection) -> rusqlite::Result<bool> {
    // Temporary triggers too; the schemas of attached files are not read, their programs are.
    let sql = "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'trigger') AND sql LIKE '%fail%'
               UNION ALL SELECT 1 FROM sqlite_temp_schema WHERE type IN ('table', 'trigger') AND sql LIKE '%fail%'
               UNION ALL SELECT 1 FROM pragma_database_list WHERE seq > 1";
    connection.prepare_cached(sql)?.exists(())
}

fn program_fails(connection: &Connection, sql: &str) -> rusqlite::Result<bool> {
    let mut program = connection.prepare(&format!("EXPLAIN {sql}"))?;
    let mut steps = program.raw_query();
    while let Some(step) = steps.next()? {
        let reaction = match step.get_ref("opcode")?.as_str()? {
            "Halt" | "HaltIfNull" => step.get("p2")?,
            "VUpdate" => step.get("p5")?,
            _ => 0,
        };
        if reaction == FAIL {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Engine {
    /// Runs what may stop half-way, and undoes what it did if it fails.
    pub(crate) fn whole_or_not_at_all<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let alone = !self.in_transaction();
        self.control(if alone { "BEGIN IMMEDIATE" } else { "SAVEPOINT strongroom_statement" }, Phase::Begin)?;
        let outcome = work(self);
        match &outcome {
            Ok(_) if alone => self.commit()?,
            Err(_) if alone => self.rollback()?,
            Ok(_) => self.control("RELEASE strongroom_statement", Phase::Statement)?,
            // `OR ROLLBACK` has undone it already, with all the rest.
            Err(_) if !self.in_transaction() => {}
            Err(_) => {
                self.control("ROLLBACK TO strongroom_statement", Phase::Statement)?;
                self.control("RELEASE strongroom_statement", Phase::Statement)?;
            }
        }
        outcome
    }
}
