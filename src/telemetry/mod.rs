//! How well the work goes, for people and for scaling. Pure trackers here; what exports them stands beside them.

pub mod goodput;
pub mod trace;

pub use goodput::{Goodput, JobSample, Sla, TtftQuantiles, Window};
pub use trace::TraceContext;
