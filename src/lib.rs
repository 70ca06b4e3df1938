//! maitred reads restaurant reviews: jobs in, one shared llama.cpp context busy with many sequences, checked
//! results out. `docs/ARCHITECTURE.md` is the map.

pub mod job;
pub mod result;
pub mod store;
pub mod telemetry;
