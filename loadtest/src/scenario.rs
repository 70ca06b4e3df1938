//! The scenarios: each takes its options, measures, prints a table, and saves a report.

#[cfg(feature = "llama")]
pub mod ablation;
pub mod autoscale;
pub mod fleet;
#[cfg(feature = "llama")]
pub mod growth;
#[cfg(feature = "llama")]
pub mod peers;
#[cfg(feature = "llama")]
pub mod profile;
#[cfg(feature = "llama")]
pub mod scheduler;
pub mod simulate;
#[cfg(feature = "llama")]
pub mod smoke;
#[cfg(feature = "llama")]
pub mod stress;
#[cfg(feature = "llama")]
pub mod sweep;
pub mod telemetry;
