//! The write-ahead log: how it is copied into the file, and the read transactions that keep it from starting over.
//!
//! `checkpoint` copies, `snapshot` knows the readers that keep a transaction, `sweeper` is the thread that ends those
//! which nobody uses, `alone` keeps them away for a moment. `syncs` puts commits of
//! several callers on the disk at once; `doubts` counts what failed there.

pub(crate) mod alone;
pub(crate) mod checkpoint;
mod doubts;
pub(crate) mod snapshot;
pub(crate) mod sweeper;
pub(crate) mod syncs;
