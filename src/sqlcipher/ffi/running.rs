//! Whether a statement is still under way when SQLite asks whether to stop it.
//!
//! SQLite also asks when a statement has ended, after its commit. A handler that says yes then gets "interrupted" for what has
//! in fact been done, takes it for undone, and does it again.

use std::ptr;

use rusqlite::{Connection, ffi};

/// A connection as seen from its own progress handler.
struct Handle(*mut ffi::sqlite3);

// SAFETY: the pointer is used only inside a callback of the connection, on the thread that has it at that moment.
unsafe impl Send for Handle {}

/// Has SQLite ask `should_stop` about every `steps` steps of its machine, while there is something to stop.
pub(in super::super) fn ask(
    connection: &mut Connection,
    steps: i32,
    mut should_stop: impl FnMut() -> bool + Send + 'static,
) -> rusqlite::Result<()> {
    // SAFETY: the pointer goes into a handler that the connection itself owns and calls.
    let handle = Handle(unsafe { connection.handle() });
    connection.progress_handler(steps, Some(move || should_stop() && any_under_way(&handle)))
}

/// Whether any statement has been started and has not come to its end.
fn any_under_way(Handle(connection): &Handle) -> bool {
    let mut statement = ptr::null_mut();
    loop {
        // SAFETY: called by the connection from inside its own step, so it is open, and this thread holds its mutex;
        // `statement` is null or one of its statements. Both functions only read.
        unsafe {
            statement = ffi::sqlite3_next_stmt(*connection, statement);
            if statement.is_null() {
                return false;
            }
            if ffi::sqlite3_stmt_busy(statement) != 0 {
                return true;
            }
        }
    }
}
