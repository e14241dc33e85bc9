//! Metrics by the names of OpenTelemetry's conventions, for two crates that carry them on.
//!
//! One table of names (`names.rs`), one observer that knows what is measured of what (`series.rs`), and two sinks.

#[cfg(feature = "metrics")]
mod facade;
#[cfg(feature = "opentelemetry")]
mod meter;
mod names;
mod series;
mod table;

#[cfg(feature = "metrics")]
pub use facade::MetricsFacade;
#[cfg(feature = "opentelemetry")]
pub use meter::MeterMetrics;
