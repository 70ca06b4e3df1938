//! The scenarios: each takes its options, measures, prints a table, and saves a report.

pub mod fleet;
#[cfg(feature = "llama")]
pub mod ablation;
#[cfg(feature = "llama")]
pub mod growth;
#[cfg(feature = "llama")]
pub mod peers;
#[cfg(feature = "llama")]
pub mod profile;
#[cfg(feature = "llama")]
pub mod scheduler;
#[cfg(feature = "llama")]
pub mod stress;
#[cfg(feature = "llama")]
pub mod sweep;
