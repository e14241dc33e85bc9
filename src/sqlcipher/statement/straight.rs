//! Writes whose work does not grow with the number of rows: no step of their program is taken twice.
//!
//! SQLite undoes a whole transaction when a write is stopped in it, so what runs on a runtime's thread there must be
//! short without being stopped. SQLite tells the program of a statement; one that never goes on to a next row, calls no
//! trigger and asks no other statement has the length of its text.

use rusqlite::Connection;

/// The steps of which such programs are made. Whatever goes round needs another one: `Next`, `Yield`, `RowSetRead`,
/// `Program`, `Clear`, `VUpdate`. A step that is not known here counts as one of those.
///
/// Source: "The SQLite Bytecode Engine", section 3 ("The Opcodes"), in SQLite's documentation.
#[rustfmt::skip]
const STEPS: &[&str] = &[
    // The frame.
    "Explain", "Halt", "HaltIfNull", "Init", "Noop", "Once", "ReleaseReg", "ResultRow", "Transaction",
    // Values.
    "Add", "AddImm", "Affinity", "And", "BitAnd", "BitNot", "BitOr", "Blob", "Cast", "CollSeq", "Compare", "Concat",
    "Copy", "Divide", "ElseEq", "Eq", "Ge", "Gt", "If", "IfNot", "Int64", "IntCopy", "Integer", "IsNull", "IsTrue",
    "IsType", "Jump", "Le", "Lt", "MakeRecord", "Move", "Multiply", "MustBeInt", "Ne", "Not", "NotNull", "Null", "Or",
    "Permutation", "Real", "RealAffinity", "Remainder", "SCopy", "ShiftLeft", "ShiftRight", "SoftNull", "String",
    "String8", "Subtract", "TypeCheck", "Variable", "ZeroOrNull",
    // One row, and its entries in indexes.
    "Close", "Column", "CursorHint", "DeferredSeek", "Delete", "FinishSeek", "FkCheck", "FkCounter", "FkIfZero",
    "Found", "IdxDelete", "IdxGE", "IdxGT", "IdxInsert", "IdxLE", "IdxLT", "IdxRowid", "IfNoHope", "Insert",
    "NewRowid", "NoConflict", "NotExists", "NotFound", "NullRow", "OpenRead", "OpenWrite", "ReopenIdx", "ResetCount",
    "Rowid", "RowData", "SeekGE", "SeekGT", "SeekHit", "SeekLE", "SeekLT", "SeekRowid",
];

/// Functions whose time is that of reading what they are given.
const FUNCTIONS: &[&str] = &[
    "abs",
    "changes",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "julianday",
    "last_insert_rowid",
    "length",
    "lower",
    "ltrim",
    "max",
    "min",
    "random",
    "round",
    "rtrim",
    "strftime",
    "substr",
    "time",
    "total_changes",
    "trim",
    "typeof",
    "unixepoch",
    "upper",
];

/// Where a program begins, and the frame jumps back to.
const BEGINNING: i64 = 1;

/// Whether the program of `sql` goes straight to its end. What `RETURNING` collects may be gone through: no more rows
/// are in it than steps have put there.
pub(crate) fn goes(connection: &Connection, sql: &str) -> rusqlite::Result<bool> {
    let mut program = connection.prepare(&format!("EXPLAIN {sql}"))?;
    let mut steps = program.raw_query();
    let (mut collections, mut gone_through, mut jumps_back) = (Vec::new(), Vec::new(), false);
    while let Some(step) = steps.next()? {
        let (at, cursor, target): (i64, i64, i64) = (step.get("addr")?, step.get("p1")?, step.get("p2")?);
        match step.get_ref("opcode")?.as_str()? {
            "OpenEphemeral" => collections.push(cursor),
            "Rewind" | "Next" => gone_through.push(cursor),
            "Goto" => jumps_back |= target < at && target != BEGINNING,
            "Function" | "PureFunc" => {
                let called: String = step.get("p4")?;
                if !FUNCTIONS.contains(&called.split('(').next().unwrap_or_default()) {
                    return Ok(false);
                }
            }
            name if !STEPS.contains(&name) => return Ok(false),
            _ => {}
        }
    }
    // Around a collection, a program could go on as long as it puts in what it takes out.
    Ok(gone_through.iter().all(|cursor| collections.contains(cursor)) && (collections.is_empty() || !jumps_back))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_grows_with_nothing_goes_straight() {
        let connection = Connection::open_in_memory().unwrap();
        let schema = "
            CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER DEFAULT 0, at TEXT DEFAULT CURRENT_TIMESTAMP);
            CREATE INDEX t_n ON t (n);
            CREATE TABLE pairs (a, b, c, PRIMARY KEY (a, b)) WITHOUT ROWID;
            CREATE TABLE parent (id INTEGER PRIMARY KEY);
            CREATE TABLE child (id INTEGER PRIMARY KEY, parent REFERENCES parent ON DELETE CASCADE);
            CREATE TABLE watched (id INTEGER PRIMARY KEY, n);
            CREATE TRIGGER watching AFTER UPDATE ON watched BEGIN DELETE FROM t; END;
            CREATE VIRTUAL TABLE words USING fts5 (word);
            PRAGMA foreign_keys = ON;";
        connection.execute_batch(schema).unwrap();
        let straight = [
            "INSERT INTO t (name) VALUES (?1)",
            "INSERT INTO t (id, name) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
            "INSERT OR REPLACE INTO pairs VALUES (?1, ?2, ?3)",
            "INSERT OR IGNORE INTO t (id, name) VALUES (?1, lower(?2)) RETURNING id",
            "INSERT INTO child (parent) VALUES (?1)",
            "UPDATE t SET n = n + 1 WHERE id = ?1",
            "UPDATE t SET n = n + 1, at = datetime('now') WHERE name = ?1 AND n > 3",
            "UPDATE pairs SET c = ?3 WHERE a = ?1 AND b = ?2",
            "DELETE FROM t WHERE id = ?1 RETURNING name",
            "DELETE FROM child WHERE id = ?1",
        ];
        for sql in straight {
            assert!(goes(&connection, sql).unwrap(), "{sql}");
        }
        let around = [
            "UPDATE t SET n = n + 1",
            "UPDATE t SET name = ?2 WHERE n = ?1",
            "UPDATE t SET n = ?1 WHERE id > ?2",
            "UPDATE t SET n = (SELECT count(*) FROM child) WHERE id = ?1",
            "UPDATE t SET n = ?1 WHERE id IN (SELECT parent FROM child)",
            "DELETE FROM t",
            "DELETE FROM pairs WHERE a = ?1",
            "DELETE FROM parent WHERE id = ?1",
            "UPDATE watched SET n = 1 WHERE id = ?1",
            "INSERT INTO t (name) SELECT name FROM t",
            "INSERT INTO pairs WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 1000000) SELECT i, 1, 1 FROM n",
            "UPDATE t SET n = (WITH RECURSIVE c (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c) SELECT i FROM c WHERE i = 9) WHERE id = ?1",
            "UPDATE t SET n = 1 WHERE id = ?1 AND EXISTS (SELECT 1 FROM child WHERE parent = 3)",
            "INSERT INTO words VALUES (?1)",
            "INSERT INTO t (name) VALUES (hex(randomblob(?1)))",
            "CREATE TABLE other (a)",
        ];
        for sql in around {
            assert!(!goes(&connection, sql).unwrap(), "{sql}");
        }
    }
}
