//! mockall mocks of the contracts.
//!
//! A contract has methods that must be written and methods that are provided. A mock of mockall knows no provided bodies: it
//! panics where it is asked for what nobody expects. So connectors, connections and key sources are two things: what
//! mockall makes, with an expectation for each method, and around it the mock, which does what the contract provides until
//! something else is expected.

#![allow(missing_docs, missing_debug_implementations, reason = "what mockall generates")]

mod connection;
mod connector;
mod keys;

use std::time::Duration;

pub use connection::{MockBulk, MockConnection};
pub use connector::MockConnector;
pub use keys::MockKeySource;

use crate::connector::Resource;
use crate::error::Result;
use crate::health::HealthCheck;
use crate::retry::{Attempt, RetryPolicy};

/// The mock around what mockall makes: expectations are those of `$calls`, around which `$defaults` is the contract.
macro_rules! mock_around {
    ($(#[$doc:meta])* $mock:ident, $defaults:ident, $calls:ident) => {
        $(#[$doc])*
        #[derive(Default)]
        pub struct $mock {
            calls: $defaults,
            /// The provided methods of which something is expected.
            expected: Vec<&'static str>,
        }

        impl $mock {
            /// Expects nothing yet.
            pub fn new() -> Self {
                Self::default()
            }
        }

        impl std::fmt::Debug for $mock {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($mock)).field("expected", &self.expected).finish_non_exhaustive()
            }
        }

        impl std::ops::Deref for $mock {
            type Target = $calls;

            fn deref(&self) -> &$calls {
                &self.calls.0
            }
        }

        impl std::ops::DerefMut for $mock {
            fn deref_mut(&mut self) -> &mut $calls {
                &mut self.calls.0
            }
        }
    };
}

/// `expect_..` of provided methods.
macro_rules! expect_provided {
    ($mock:ident, $module:ident: $($(#[$doc:meta])* $method:ident $expectation:ident $expect:ident;)*) => {
        impl $mock {
            $($(#[$doc])*
            pub fn $expect(&mut self) -> &mut $module::$expectation::Expectation {
                self.expected.push(stringify!($method));
                self.calls.0.$expect()
            })*
        }
    };
}

/// What is expected of a provided method, or what the contract provides.
macro_rules! provided {
    ($mock:ident, $method:ident($($value:expr),*)$($wait:tt)*) => {
        match $mock.expected.contains(&stringify!($method)) {
            true => $mock.calls.0.$method($($value),*)$($wait)*,
            false => $mock.calls.$method($($value),*)$($wait)*,
        }
    };
}

use {expect_provided, mock_around, provided};

mockall::mock! {
    /// A mock of [`RetryPolicy`](crate::RetryPolicy).
    pub RetryPolicy {}

    impl RetryPolicy for RetryPolicy {
        fn next_delay<'a>(&self, attempt: Attempt<'a>) -> Option<Duration>;
    }
}

mockall::mock! {
    /// A mock of [`HealthCheck`](crate::HealthCheck) for resources of any type: expect `verdict`, which sees how long
    /// the resource was idle.
    ///
    /// ```
    /// use std::time::Duration;
    /// use strongroom::HealthCheck;
    /// use strongroom::testing::{MockConnection, MockHealthCheck};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let mut check = MockHealthCheck::new();
    /// check.expect_verdict().withf(|idle| *idle > Duration::from_secs(1)).returning(|_| Ok(()));
    /// check.check(&mut MockConnection::new(), Duration::from_secs(2)).await
    /// # }
    /// ```
    pub HealthCheck {
        /// The verdict on a resource that was idle for this long.
        pub fn verdict(&self, idle: Duration) -> Result<()>;
    }
}

#[async_trait::async_trait]
impl<R: Resource> HealthCheck<R> for MockHealthCheck {
    async fn check(&self, _: &mut R, idle: Duration) -> Result<()> {
        self.verdict(idle)
    }
}
