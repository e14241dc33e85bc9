//! Tools for testing what is built on this crate (feature `testing`).
//!
//! A wing on floors 0 and 1: it knows nothing of pools and engines.
//!
//! | to test | take |
//! |---|---|
//! | a service that uses a database | [`ScriptedConnector`]: answers from memory, and a log of the calls |
//! | what happens when a database fails | [`FaultyConnector`]: any engine, with failures where you want them |
//! | something that needs a real database | `sqlcipher::TemplateDatabase`, `postgres::PostgresTemplate`: set up once, copied for each test |
//! | how many statements a request makes | [`StatementRecorder`], an observer |
//! | that statements use an index | [`assert_no_full_scan`] on what `db.explain` answers |
//! | a single strategy against expectations | the mocks: [`MockConnector`], [`MockConnection`], [`MockKeySource`], [`MockHealthCheck`], [`MockRetryPolicy`] |
//! | a connector, key source, health check or retry policy of your own | the suites of [`conformance`] |

pub mod conformance;
mod fault;
mod faults;
mod mock;
mod plans;
mod recorder;
mod scripted;

pub use fault::{FaultyBulk, FaultyConnection, FaultyConnector};
pub use faults::{Fault, Faults, Point};
pub use mock::{MockBulk, MockConnection, MockConnector, MockHealthCheck, MockKeySource, MockRetryPolicy};
pub use plans::assert_no_full_scan;
pub use recorder::{RecordedBlock, RecordedStatement, RecordedStatements, StatementRecorder};
pub use scripted::{Call, ScriptedConnection, ScriptedConnector};
