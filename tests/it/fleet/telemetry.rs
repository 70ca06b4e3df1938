//! Metrics, traces and the log line of real workers over real servers.

mod log;
mod metrics;
mod outage;
pub mod scrape;
mod traces;
