//! Every call to NVML.
//!
//! The wrapper loads the library and, one by one, the functions that it knows; one that an old driver lacks fails when it
//! is called, and only that.

use std::path::Path;

use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::choice::{Handle, Wanted};
use super::{Card, GpuSample};

/// Milliwatts in a watt.
const MILLI: f64 = 1000.0;

/// The library, initialized; released when dropped.
pub(super) struct Management {
    nvml: Nvml,
}

/// Why there is no library to ask.
#[derive(Debug)]
pub(super) enum Closed {
    /// It is not installed, or there is no driver for it: there is no GPU.
    Absent(String),
    /// It is there and does not work.
    Failing(String),
}

/// What was seen of one GPU.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Its figures.
    pub sample: GpuSample,
    /// What failed, and how.
    pub faults: Vec<(&'static str, String)>,
    /// The GPU fell off the bus, or the library lost the driver: it must be initialized again to see it again.
    pub lost: bool,
    /// How busy it is was not to be read, though it can be told.
    pub unreadable: bool,
}

impl Management {
    /// Loads and initializes it; without a path, the driver's own.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Closed> {
        let mut builder = Nvml::builder();
        if let Some(path) = path {
            builder.lib_path(path.as_os_str());
        }
        match builder.init() {
            Ok(nvml) => Ok(Self { nvml }),
            Err(
                error @ (NvmlError::LibloadingError(_) | NvmlError::DriverNotLoaded | NvmlError::NotFound),
            ) => Err(Closed::Absent(error.to_string())),
            Err(error) => Err(Closed::Failing(error.to_string())),
        }
    }

    /// The UUIDs of all GPUs, in NVML's order.
    pub(super) fn uuids(&self) -> Result<Vec<Option<String>>, String> {
        let count = self.nvml.device_count().map_err(|error| error.to_string())?;
        let uuid = |index| self.nvml.device_by_index(index).and_then(|device| device.uuid()).ok();
        Ok((0..count).map(uuid).collect())
    }

    /// The driver's version.
    pub(super) fn driver(&self) -> Result<String, String> {
        self.nvml.sys_driver_version().map_err(|error| format!("the driver's version: {error}"))
    }

    /// Asks one GPU what it is and what fits on it.
    pub(super) fn card(&self, wanted: &Wanted) -> Result<Card, String> {
        let ask = || -> Result<Card, NvmlError> {
            let device = self.find(&wanted.handle)?;
            let memory = device.memory_info()?;
            Ok(Card {
                device: wanted.device,
                name: device.name()?,
                memory_total_bytes: memory.total,
                memory_free_bytes: memory.free,
            })
        };
        ask().map_err(|error| format!("GPU {}: {error}", wanted.device))
    }

    fn find(&self, handle: &Handle) -> Result<Device<'_>, NvmlError> {
        match handle {
            Handle::Index(index) => self.nvml.device_by_index(*index),
            Handle::Uuid(uuid) => self.nvml.device_by_uuid(uuid.as_str()),
        }
    }

    /// Asks one GPU for everything that changes.
    pub(super) fn look(&self, wanted: &Wanted) -> Look {
        let mut look = Look::default();
        look.sample.device = wanted.device;
        let device = match self.find(&wanted.handle) {
            Ok(device) => device,
            Err(error) => {
                // Whatever the reason: it was there once, and is looked for anew.
                look.fail("the GPU", &error);
                (look.lost, look.unreadable) = (true, true);
                return look;
            }
        };
        look.sample.name = look.figure("name", device.name()).unwrap_or_default();
        let failed = look.faults.len();
        let utilization = look.figure("utilization", device.utilization_rates());
        look.unreadable = look.lost || look.faults.len() > failed;
        look.sample.utilization = utilization.map(|percent| f64::from(percent.gpu) / 100.0);
        let memory = look.figure("memory", device.memory_info());
        look.sample.memory_used_bytes = memory.as_ref().map(|memory| memory.used);
        look.sample.memory_total_bytes = memory.map(|memory| memory.total);
        let power = look.figure("power", device.power_usage());
        look.sample.power_watts = power.map(|milliwatts| f64::from(milliwatts) / MILLI);
        let temperature = look.figure("temperature", device.temperature(TemperatureSensor::Gpu));
        look.sample.temperature_celsius = temperature.map(f64::from);
        look
    }
}

impl Look {
    /// The figure, if there is one. That this GPU or this driver does not have it is no fault.
    fn figure<T>(&mut self, what: &'static str, found: Result<T, NvmlError>) -> Option<T> {
        match found {
            Ok(value) => return Some(value),
            Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound) => {
            }
            Err(error) => {
                self.lost |= is_loss(&error);
                self.fail(what, &error);
            }
        }
        None
    }

    fn fail(&mut self, what: &'static str, error: &NvmlError) {
        self.faults.push((what, error.to_string()));
    }
}

/// Whether only a new start of the library can help.
fn is_loss(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::GpuLost | NvmlError::ResetRequired | NvmlError::Uninitialized | NvmlError::DriverNotLoaded
    )
}
