//! GPUs.

use std::ffi::OsStr;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::doctor::judge::machine::GpuBuild;
use crate::engine::fit::{Device, DeviceKind};

/// What this program can drive beside the CPU.
pub const BUILD: GpuBuild = if cfg!(feature = "cuda") {
    GpuBuild::Cuda
} else if cfg!(any(feature = "vulkan", feature = "metal")) {
    GpuBuild::Other
} else {
    GpuBuild::None
};

/// Whoever sees GPUs.
pub trait Gpus {
    /// Those it sees, and the version of their driver; else why it sees nothing.
    fn look(&self) -> Result<(Vec<Device>, String), String>;
}

/// NVIDIA's management library: of the driver, or in this file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nvidia {
    /// The library, if it is not that of the driver.
    pub library: Option<String>,
}

impl Gpus for Nvidia {
    fn look(&self) -> Result<(Vec<Device>, String), String> {
        let library = match &self.library {
            Some(library) => Nvml::builder().lib_path(OsStr::new(library)).init(),
            None => Nvml::init(),
        };
        let library = library.map_err(|error| error.to_string())?;
        see(&library).map_err(|error| error.to_string())
    }
}

fn see(library: &Nvml) -> Result<(Vec<Device>, String), NvmlError> {
    let driver = library.sys_driver_version()?;
    let mut devices = Vec::new();
    for number in 0..library.device_count()? {
        let device = library.device_by_index(number)?;
        let memory = device.memory_info()?;
        devices.push(Device {
            number: number as usize,
            name: device.name()?,
            backend: "CUDA".to_owned(),
            kind: DeviceKind::Discrete,
            total: memory.total,
            free: memory.free,
        });
    }
    Ok((devices, driver))
}
