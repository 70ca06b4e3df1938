//! How well the work goes, for people and for scaling: metrics, traces, goodput.
//!
//! - [`goodput`], [`trace`]: pure trackers, of which everybody may know.
//! - [`names`]: the catalogue of metrics, and [`document`], which writes `docs/METRICS.md` from it.
//! - [`instruments`]: what is counted and measured; [`gauges`]: what is read when somebody asks.
//! - [`spans`]: the traces of jobs.
//! - [`Account`]: what is told, by both, of a job that has its result.
//! - [`running`]: all of it for one process; [`export`]: sending it.

mod account;
pub mod document;
mod export;
mod gauges;
pub mod goodput;
mod instruments;
pub mod names;
mod running;
mod size;
pub mod spans;
#[cfg(test)]
mod tests;
pub mod trace;

pub use account::Account;
pub use export::ExportError;
pub use gauges::Reading;
pub use goodput::{Goodput, JobSample, Sla, TtftQuantiles, Window};
pub use instruments::{Instruments, JobRecord, Operation};
pub use running::{Telemetry, TelemetryError};
pub use size::SizeClass;
pub use spans::Traces;
pub use trace::TraceContext;
