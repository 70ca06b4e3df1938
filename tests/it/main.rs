//! The program and its parts over what they really meet: models, servers, browsers, GPUs' libraries.
//!
//! One binary: each of these would link llama.cpp and compile the same generic code once more. Whatever is not installed
//! skips its tests, visibly (`make models` and `make servers` install).

#[cfg(feature = "llama")]
mod analyze;
mod common;
mod compose;
mod config;
mod deploy;
mod doctor;
mod embedded;
mod fleet;
mod gpu;
#[cfg(feature = "llama")]
mod model;
mod page;
