//! The contracts of floor 1 as suites: run them against what you wrote.
//!
//! Each suite panics with a sentence that names the clause that is broken. They need a Tokio runtime with I/O and time,
//! on real time (a paused clock would run ahead of the database).

mod cancel;
mod drops;
mod errors;
mod lab;
mod parameters;
mod policies;
mod statements;
mod streams;
mod transactions;
mod values;

use lab::run;
pub use policies::{health_check, key_source, retry_policy};

use crate::connector::{Connection, Connector};

/// Checks a connector and its connections against the rustdoc of [`Connector`], [`Resource`](crate::engine::Resource) and
/// [`Connection`].
///
/// `make` is called once for each check and must give a connector to a database that is there and writable; it may be
/// the same each time. Each check makes tables of its own, named `conformance_...`, and drops them at the end. The SQL
/// is portable (no identity columns, `cast` instead of `::`); what the [`Capabilities`](crate::Capabilities) exclude is
/// not asked for.
///
/// ```no_run
/// # #[cfg(feature = "sqlite")]
/// # async fn example() {
/// use strongroom::SqlCipherConnector;
/// use strongroom::testing::conformance;
///
/// conformance::connector(|| SqlCipherConnector::new("conformance.db")).await;
/// # }
/// ```
///
/// # Panics
/// When a clause is broken, or a check takes longer than a minute.
pub async fn connector<C: Connector>(make: impl Fn() -> C)
where
    C::Connection: Connection,
{
    macro_rules! checks {
        ($($room:ident: $($check:ident)*;)*) => {
            $($(run(stringify!($check), make(), $room::$check).await;)*)*
        };
    }
    checks! {
        statements: lifecycle one_database headers changes one_statement_at_a_time many_sets scripts
            tables classification groups closing;
        parameters: by_number by_name counts mixtures many;
        values: stored_exactly stored_or_refused;
        errors: constraints mistakes no_effect;
        transactions: commits_and_rollbacks failures_inside resets savepoints;
        streams: chunks early_ends failing_streams;
        cancel: idle_cancels running_cancels;
        drops: every_await long_statements;
    }
}
