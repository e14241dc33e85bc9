//! By what errors are told apart.

/// The class of an [`Error`](super::Error); match on this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The database could not be reached, refused the login, or the connection broke.
    Connection,
    /// The engine could not use the key: wrong key, not encrypted, no key given, no cipher in the engine.
    Encryption,
    /// No connection became free within `pool_timeout`, or waiting could never end.
    PoolExhausted,
    /// The transaction cannot go on or could not commit; its work was rolled back.
    Transaction,
    /// The statement is wrong: syntax, unknown names, parameters, types of values or columns.
    Query,
    /// A constraint of the schema refused the data.
    Constraint,
    /// Somebody else holds a lock of the database.
    Busy,
    /// The transaction collided with another one and was rolled back; running it again may succeed.
    Serialization,
    /// A deadline passed.
    Timeout,
    /// The work was stopped on request.
    Cancelled,
    /// A commit was sent and its answer lost: it may or may not have happened. Run again by this crate only
    /// where the caller has called the work [`idempotent`](crate::database::TransactionOptions::idempotent).
    OutcomeUnknown,
    /// The file or the disk: full, damaged, moved, unreadable.
    Storage,
    /// The key could not be obtained or is not usable as a key.
    Key,
    /// A setting or an argument is wrong.
    Config,
    /// The migrations of the program and those that the database has had do not fit together.
    Migration,
    /// The pool or the database was closed.
    Closed,
    /// The engine, or this build of the crate, cannot do this.
    Unsupported,
}

/// The finer cause behind an [`ErrorKind`], for programs; people read the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing finer than the kind is known.
    Unspecified,
    // Connection
    /// The connection broke, or the engine behind it went away.
    Broken,
    /// The server or file accepts no writes here.
    NotWritable,
    /// The server refused the credentials.
    AuthRefused,
    /// The server could not prove who it is: no TLS, or a certificate that is not trusted.
    Untrusted,
    /// The file, or the directory it should stand in, does not exist.
    NotFound,
    /// The path names something that cannot be a database, such as a directory.
    NotAFile,
    /// The operating system refused access.
    NotPermitted,
    /// The process or the system has no file descriptors left.
    TooManyOpenFiles,
    /// A connector, key source, health check or hook panicked.
    Panicked,
    // Encryption
    /// The key does not open this file (or its first 16 bytes are damaged: the two cannot be told apart).
    WrongKey,
    /// A key was given, but the file is plaintext.
    NotEncrypted,
    /// The file is encrypted (or not a database), and no key was given.
    KeyMissing,
    /// The key is right, but the file was written with other cipher settings.
    OtherCipherSettings,
    /// A key was given, but the engine has no cipher.
    NoCipher,
    /// The file is empty although it exists; any key would seem to open it.
    EmptyFile,
    // PoolExhausted
    /// Everyone who could give a connection back waits for this very call.
    WouldDeadlock,
    /// Every connection stayed in use.
    AllInUse,
    /// Connections were still lent when all of them had to be let go of.
    StillLent,
    // Migration
    /// The text of a migration is not the one that ran.
    MigrationChanged,
    /// The database has had a migration that the program does not have.
    MigrationMissing,
    /// A migration of the program comes before one that the database has had already.
    MigrationOutOfOrder,
    /// A migration that runs outside of transactions began and did not finish.
    MigrationUnfinished,
    /// The database has had a migration that is newer than all of the program.
    NewerSchema,
    // Constraint
    /// A unique or primary key constraint.
    Unique,
    /// A foreign key constraint.
    ForeignKey,
    /// A NOT NULL constraint.
    NotNull,
    /// A CHECK constraint.
    Check,
    // Query
    /// The engine does not understand the statement.
    Syntax,
    /// Number, names or style of the parameters do not fit the placeholders.
    Parameters,
    /// A value or column does not have the type asked for, or does not fit into it.
    Type,
    /// There is no such column in the row.
    NoSuchColumn,
    /// The statement controls a transaction or a session and may not run here.
    Control,
    // Transaction
    /// An earlier statement of this transaction failed.
    Doomed,
    // Timeout
    /// Nothing had begun: the time went by in a queue.
    NotStarted,
    /// What had begun was stopped, and what it had done is undone.
    RolledBack,
    // Storage
    /// The disk, or the quota on it, is full.
    DiskFull,
    /// Reading or writing the file failed.
    Io,
    /// The file is damaged.
    Damaged,
    /// The file is something else than a database.
    NotADatabase,
    /// The file was moved, replaced or deleted while open.
    Moved,
    /// The process was forked after the database was opened; only the parent may use it.
    Forked,
    // Key
    /// The place where the key should be holds nothing.
    Missing,
    /// A key is there already, where a new one should be made.
    KeyPresent,
    /// The key is empty.
    Empty,
    /// The key has a form that cannot be used.
    Malformed,
    /// The key was altered, or fails its integrity check.
    Tampered,
    /// Others may read the key.
    Exposed,
    /// No identity or credential at hand unlocks the key.
    Locked,
    // any
    /// The program that was asked is not installed.
    ProgramMissing,
    /// The program that was asked failed.
    ProgramFailed,
    /// Something is larger or deeper than the bound allows.
    TooLarge,
}

/// What was being done when an [`Error`](super::Error) arose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for a connection.
    Acquire,
    /// Resolving the key.
    Key,
    /// Opening a connection.
    Connect,
    /// Checking a connection before lending it.
    Health,
    /// Beginning a transaction.
    Begin,
    /// Running a statement.
    Statement,
    /// Reading the answer of a statement that has taken effect: what it wrote stands, and to run it again would do it
    /// twice. Inside a transaction, which it dooms, nothing stands.
    Answer,
    /// Committing a transaction.
    Commit,
    /// Rolling a transaction back.
    Rollback,
    /// Closing.
    Close,
}
