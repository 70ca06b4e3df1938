//! What the GPUs are at: use, memory, power, temperature, through NVIDIA's management library (NVML).
//!
//! - Without the library, without its driver or without a GPU there is nothing to sample and nothing wrong.
//! - What a GPU cannot tell is absent, never zero. What it can tell and just does not is absent too, and counted.
//! - A GPU that is lost stays in the list without figures, and is found again by its UUID when it comes back, whatever
//!   its number is by then.
//! - NVML's calls block, for seconds where a driver is in trouble: sampling has a thread of its own, and whoever reads
//!   the figures never waits for it. [`Library::inventory`] is for who has a thread to spare.
//!
//! Nothing is set on a GPU, and nothing is decided here.

mod choice;
mod library;
mod nvml;
mod peak;
mod sampler;

use serde::{Deserialize, Serialize};

pub use self::library::{Card, Inventory, Library};
pub use self::peak::Peak;
pub use self::sampler::{Sampler, SamplerSettings};

/// One GPU at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuSample {
    /// Its number as the engine counts, from 0: that of `engine.devices`.
    pub device: u32,
    /// What it is called, such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Share of the driver's last sample period (a sixth of a second to a second) in which it computed, 0 to 1.
    pub utilization: Option<f64>,
    /// Bytes of its memory in use, by all processes.
    pub memory_used_bytes: Option<u64>,
    /// Bytes of its memory.
    pub memory_total_bytes: Option<u64>,
    /// Watts it draws.
    pub power_watts: Option<f64>,
    /// Degrees Celsius of the chip.
    pub temperature_celsius: Option<f64>,
}

/// One look at all GPUs of the worker.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// In the order of their numbers.
    pub gpus: Vec<GpuSample>,
    /// How busy one of them is was not to be read, though it can be told.
    pub unreadable: bool,
    /// Calls that failed since the start. That a GPU does not have a figure is no failure.
    pub failures: u64,
}

/// What the sampler tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// There is nothing to sample, and will not be.
    Nothing,
    /// A look.
    Reading(Reading),
}
