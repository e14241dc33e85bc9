//! Integrity checks.
//!
//! SQLite says nothing of its progress inside a pragma, so a thorough check is cut into as many of them as possible.

use super::engine::Engine;
use crate::connector::{CheckDepth, CheckStep};
use crate::error::Result;
use crate::sqlcipher::errors::{self, classify};
use crate::sqlcipher::ffi::system;
use crate::sqlcipher::opening::cut_off;
use crate::sqlcipher::os::is_of_the_disk;
use crate::sqlcipher::statement::watch::Mode;

/// What a step of a check runs.
enum CheckPiece {
    /// The seal of every page in the file.
    Pages,
    Structure,
    Table(String),
    ForeignKeys,
}

impl Engine {
    /// Runs one step of a check; its problems are at most `limit`.
    pub(crate) fn check_step(&mut self, depth: CheckDepth, number: usize, limit: usize) -> Result<CheckStep> {
        self.start_afresh()?;
        let steps = self.check_steps(depth);
        let Some(step) = steps.get(number) else { return Ok(CheckStep::new("nothing is left", steps.len())) };
        let (name, problems) = match step {
            CheckPiece::Pages => ("pages".to_owned(), self.sealed_wrongly(limit)?),
            CheckPiece::Structure => {
                ("structure".to_owned(), self.complaints(&format!("PRAGMA quick_check({limit})"), limit)?)
            }
            CheckPiece::Table(table) => {
                let quoted = table.replace('\'', "''");
                (format!("table {table}"), self.complaints(&format!("PRAGMA integrity_check('{quoted}')"), limit)?)
            }
            CheckPiece::ForeignKeys => ("foreign keys".to_owned(), self.dangling(limit)?),
        };
        // A page that the disk does not give is no damage.
        let failed = if problems.is_empty() { None } else { system::failure(&self.connection) };
        if let Some(why) = failed.filter(is_of_the_disk) {
            return Err(errors::failed(&why));
        }
        let mut done = CheckStep::new(name, steps.len());
        done.problems = problems;
        self.retire_if_given_up();
        Ok(done)
    }

    /// Has SQLite read the schema anew, and with it all that its virtual tables keep from earlier calls: an FTS5 table
    /// that was searched on this connection takes what others did to its index since for corruption. A connection of its
    /// own would do that too, but not know the functions and collations that the user has registered.
    fn start_afresh(&mut self) -> Result<()> {
        self.watch.look(Mode::Open);
        self.connection.execute_batch("PRAGMA writable_schema = RESET").map_err(classify)
    }

    fn check_steps(&mut self, depth: CheckDepth) -> Vec<CheckPiece> {
        if depth == CheckDepth::Quick {
            return vec![CheckPiece::Structure];
        }
        let mut steps = Vec::new();
        if self.watch.is_encrypted() && !self.watch.is_in_memory() {
            steps.push(CheckPiece::Pages);
        }
        steps.push(CheckPiece::Structure);
        // A schema that cannot be read is what the steps before complain of.
        steps.extend(self.tables().unwrap_or_default().into_iter().map(CheckPiece::Table));
        steps.push(CheckPiece::ForeignKeys);
        steps
    }

    fn tables(&mut self) -> Result<Vec<String>> {
        self.watch.look(Mode::Open);
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name";
        let mut statement = self.connection.prepare(sql).map_err(classify)?;
        let names = statement.query_map((), |row| row.get(0)).map_err(classify)?;
        names.collect::<rusqlite::Result<_>>().map_err(classify)
    }

    /// The pages whose seal is wrong. They are read without a lock, so a checkpoint may be writing one of them at that
    /// moment: only what is wrong twice is wrong.
    fn sealed_wrongly(&mut self, limit: usize) -> Result<Vec<String>> {
        let sql = "PRAGMA cipher_integrity_check";
        let first = self.complaints(sql, limit)?;
        if first.is_empty() {
            return Ok(first);
        }
        // After a change of key that was cut off, the file has pages under the old one, and the log has them anew; a power
        // failure in a checkpoint may have torn pages that the log has whole.
        self.watch.look(Mode::Open);
        let newer = cut_off::newer_pages(&self.connection).map_err(classify)?;
        let is_newer = |problem: &str| {
            let page =
                ["HMAC verification failed for page ", "page "].iter().find_map(|start| problem.strip_prefix(start));
            let number = page.and_then(|page| page.split(' ').next()?.parse().ok());
            number.is_some_and(|page: u32| newer.contains_key(&page))
        };
        let second = self.complaints(sql, usize::MAX)?;
        Ok(first.into_iter().filter(|problem| second.contains(problem) && !is_newer(problem)).collect())
    }

    /// What a pragma complains of, which answers with lines of text, or with "ok".
    fn complaints(&mut self, sql: &str, limit: usize) -> Result<Vec<String>> {
        self.watch.look(Mode::Open);
        let mut statement = self.connection.prepare(sql).map_err(classify)?;
        let mut rows = statement.query(()).map_err(classify)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(classify)? {
            let text: String = row.get(0).map_err(classify)?;
            // The format of SQLCipher 1 has no seals.
            let lines = text.lines().filter(|line| {
                *line != "ok" && !line.starts_with("*** in database") && !line.starts_with("HMAC is not enabled")
            });
            found.extend(lines.map(str::to_owned).take(limit - found.len()));
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }

    fn dangling(&mut self, limit: usize) -> Result<Vec<String>> {
        self.watch.look(Mode::Open);
        let mut statement = self.connection.prepare("PRAGMA foreign_key_check").map_err(classify)?;
        let rows = statement.query_map((), |row| {
            let (table, rowid, parent) =
                (row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, String>(2)?);
            let at = rowid.map_or_else(String::new, |rowid| format!(" (row {rowid})"));
            Ok(format!("{table}{at} refers to a row of {parent} that does not exist"))
        });
        rows.map_err(classify)?.take(limit).collect::<rusqlite::Result<_>>().map_err(classify)
    }
}
