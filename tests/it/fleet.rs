//! The fleet over its real servers: nats-server, Redis and Postgres as child processes, and the real program.
//!
//! Nothing here needs llama.cpp. A server that is not installed skips its tests, visibly (`make servers` installs).

mod backfill;
mod contract;
mod dlq;
mod faults;
pub mod ground;
mod harness;
mod kill;
mod scaling;
mod security;
mod server_faults;
mod standin;
mod status;
mod stores;
mod submit;
mod telemetry;
mod topology;
mod worker_faults;
