//! Metrics, traces and the log line of real workers over real servers.

mod collector;
mod log;
mod metrics;
mod outage;
mod scrape;
mod traces;
