//! What a connection commits, told to those who listen; nothing of it is there while nobody does.
//!
//! `recorder` stands between SQLite's hooks and the feed, `recording` is what it has noted of the open transaction, `touched` what the
//! authorizer sees of the tables of a statement, `prepared` keeps that of statements that stay prepared, `kinds` what the schema says of a table, `others` notices what other
//! processes commit, `following` holds for all connections together.
//!
//! SQLite's update hook tells each row of ordinary tables, and is silent about tables `WITHOUT ROWID`, virtual tables, and
//! a `DELETE` that empties a whole table. So each statement is also known by the tables that the authorizer saw when it
//! was prepared, and by SQLite's count of rows: what the count says and the hook did not, happened in one of these.
//! Source: "Data Change Notification Callbacks" and `sqlite3_total_changes` in SQLite's C interface.

pub(crate) mod following;
mod kinds;
pub(crate) mod others;
mod prepared;
pub(crate) mod recorder;
mod recording;
pub(crate) mod touched;
