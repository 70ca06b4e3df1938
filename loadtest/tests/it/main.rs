//! The load test's own parts together: studies from file to picture, a small fleet, peers.

mod autoscale;
mod fleet;
mod model_peers;
mod simulate;
mod simulate_study;
