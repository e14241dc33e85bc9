//! What SQLite's hooks have told of the open transaction.
//!
//! Frames lie on each other as savepoints do: what a statement or a savepoint did is added to the frame below when it is
//! kept, and dropped when it is undone.

use std::sync::Arc;

use crate::feed::{Change, ChangeKind, TableChange};

/// So many names of tables are kept, so that not each commit makes its own.
const NAMES: usize = 64;

/// The notes of one connection. The hooks write here while SQLite runs.
#[derive(Debug)]
pub(super) struct Recording {
    /// Never empty; the first is the transaction.
    frames: Vec<Frame>,
    /// What the commit that is under way has changed; it has succeeded once the next transaction begins, or no
    /// transaction is open.
    committing: Option<Change>,
    /// What was committed, in its order.
    pub(super) committed: Vec<Change>,
    /// Those of them that may have failed, by their places.
    doubtful: Vec<usize>,
    /// How many commits that changed something have succeeded.
    pub(super) sealed: u32,
    /// How often the hook has told of a row.
    pub(super) told: i64,
    /// Each row is wanted.
    pub(super) rows: bool,
    names: Vec<Arc<str>>,
}

#[derive(Debug, Default)]
struct Frame {
    /// Of a savepoint.
    name: Option<String>,
    change: Change,
}

impl Recording {
    pub(super) fn new(rows: bool) -> Self {
        let (frames, committed, names) = (vec![Frame::default()], Vec::new(), Vec::new());
        Self { frames, committing: None, committed, doubtful: Vec::new(), sealed: 0, told: 0, rows, names }
    }

    /// The hook for rows.
    pub(super) fn row(&mut self, kind: ChangeKind, database: &str, table: &str, row_id: i64) {
        self.told += 1;
        if database != "main" || table.starts_with("sqlite_") {
            return;
        }
        self.seal();
        let rows = self.rows;
        let place = self.top().tables.iter().rposition(|change| *change.table == *table);
        let place = place.unwrap_or_else(|| {
            let entry = TableChange::new(self.name(table));
            let tables = &mut self.top().tables;
            tables.push(entry);
            tables.len() - 1
        });
        let entry = &mut self.top().tables[place];
        if rows {
            entry.row(kind, row_id);
        } else {
            entry.count(kind, 1);
        }
    }

    fn name(&mut self, table: &str) -> Arc<str> {
        if let Some(name) = self.names.iter().find(|name| ***name == *table) {
            return Arc::clone(name);
        }
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        let name = Arc::from(table);
        self.names.push(Arc::clone(&name));
        name
    }

    /// The hook for commits.
    pub(super) fn commit(&mut self) {
        self.seal();
        let mut change = Change::default();
        for frame in &mut self.frames {
            change.absorb(std::mem::take(&mut frame.change));
        }
        self.committing = Some(change);
    }

    /// The hook for rollbacks. It comes after a commit that failed too, which looks the same as what a closure does after
    /// one that has succeeded.
    pub(super) fn rollback(&mut self) {
        if let Some(change) = self.committing.take().filter(|change| !change.is_empty()) {
            self.doubtful.push(self.committed.len());
            self.committed.push(change);
        }
        self.forget();
    }

    /// Whether any commit was written since work began that may have made several of them.
    pub(super) fn settle_doubts(&mut self, any: bool) {
        for place in std::mem::take(&mut self.doubtful).into_iter().rev() {
            if any {
                self.committed[place].tables.iter_mut().for_each(|table| table.exact = false);
                self.sealed += 1;
            } else {
                self.committed.remove(place);
            }
        }
    }

    /// Nothing is left of what the frames have.
    fn forget(&mut self) {
        self.frames.clear();
        self.frames.push(Frame::default());
    }

    /// A commit has succeeded.
    fn seal(&mut self) {
        if let Some(change) = self.committing.take().filter(|change| !change.is_empty()) {
            self.committed.push(change);
            self.sealed += 1;
        }
    }

    fn top(&mut self) -> &mut Change {
        if self.frames.is_empty() {
            self.frames.push(Frame::default());
        }
        let top = self.frames.len() - 1;
        &mut self.frames[top].change
    }

    /// A statement begins.
    pub(super) fn begin(&mut self) {
        self.settle_doubts(false);
        self.frames.push(Frame::default());
    }

    /// It has ended: what it did, so far as it is not committed.
    pub(super) fn end(&mut self) -> Change {
        if self.frames.len() > 1 {
            self.frames.pop().map(|frame| frame.change).unwrap_or_default()
        } else {
            Change::default()
        }
    }

    /// What a commit during the statement is about to change, for what is known only at the end of that.
    pub(super) fn committing(&mut self) -> Option<&mut Change> {
        self.committing.as_mut()
    }

    /// The same where the hook has told of none.
    pub(super) fn committing_anew(&mut self) -> &mut Change {
        self.committing.insert(Change::default())
    }

    /// Keeps what a statement did.
    pub(super) fn keep(&mut self, change: Change) {
        match &mut self.committing {
            Some(committing) => committing.absorb(change),
            None => self.top().absorb(change),
        }
    }

    /// No statement runs: `open` is whether a transaction is open.
    pub(super) fn settle(&mut self, open: bool) {
        self.settle_doubts(false);
        match self.committing.take() {
            // The commit met a lock, and can be tried again.
            Some(change) if open => {
                let first = &mut self.frames[0].change;
                let later = std::mem::replace(first, change);
                first.absorb(later);
            }
            change => {
                self.committing = change;
                self.seal();
            }
        }
        if !open {
            self.forget();
        }
    }

    pub(super) fn savepoint(&mut self, name: &str) {
        self.frames.push(Frame { name: Some(name.to_ascii_lowercase()), change: Change::default() });
    }

    fn place(&self, name: &str) -> Option<usize> {
        let is_it = |frame: &Frame| frame.name.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(name));
        self.frames.iter().rposition(is_it)
    }

    pub(super) fn release(&mut self, name: &str) {
        let Some(place) = self.place(name).filter(|place| *place > 0) else { return };
        let released = self.frames.split_off(place);
        for frame in released {
            self.top().absorb(frame.change);
        }
    }

    pub(super) fn roll_back_to(&mut self, name: &str) {
        let Some(place) = self.place(name) else { return };
        self.frames.truncate(place + 1);
        self.frames[place].change = Change::default();
    }
}
