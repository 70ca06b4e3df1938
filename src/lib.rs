//! maitred reads restaurant reviews: jobs in, one shared llama.cpp context busy with many sequences, checked
//! results out. `docs/ARCHITECTURE.md` is the map.

pub mod analysis;
pub mod analyst;
pub mod bench;
pub mod broker;
pub mod checkup;
pub mod cli;
pub mod config;
pub mod digest;
pub mod doctor;
pub mod embedded;
pub mod engine;
pub mod eval;
pub mod gpu;
pub mod input;
pub mod job;
pub mod model;
pub mod output;
pub mod report;
pub mod result;
pub mod runtime;
pub mod scheduler;
pub mod selection;
pub mod stats;
pub mod store;
pub mod telemetry;
pub mod text;
pub mod watchdog;
pub mod worker;
