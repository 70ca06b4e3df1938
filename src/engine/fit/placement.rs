//! Which GPUs take the models, or why none does.

use super::{Bytes, Need};

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// With memory of its own.
    Discrete,
    /// Shares the machine's memory.
    Integrated,
}

/// A GPU that the library found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The library's number for it, which counts CPUs too.
    pub number: usize,
    /// Its name and what it is, such as `CUDA0 (NVIDIA L4)`.
    pub name: String,
    /// What drives it, such as `CUDA`.
    pub backend: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Bytes of memory.
    pub total: u64,
    /// Bytes that are free now.
    pub free: u64,
}

/// What is asked of the GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gpu {
    /// Layers to put there; more than the model has means all of it, 0 leaves them alone.
    pub layers: u32,
    /// Which of those found, counted from 0; `None`: all discrete ones, or all integrated ones if there are no others.
    pub devices: Option<Vec<u32>>,
    /// Whether the CPU will do where the GPUs do not.
    pub cpu_fallback: bool,
}

/// Why the GPUs cannot be used as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Shortfall {
    /// The program cannot use any.
    #[error("this program was built without GPU support, build it with the feature cuda, vulkan or metal")]
    NoSupport,
    /// None is there, or its driver is not.
    #[error("none was found, check that its driver is installed and that this process may use it")]
    NoDevice,
    /// Fewer are there.
    #[error("engine.devices names GPU {asked}, but there are {found}, counted from 0")]
    UnknownDevice {
        /// The one asked for.
        asked: u32,
        /// How many there are.
        found: usize,
    },
    /// What is asked for does not fit.
    #[error(
        "{needed} are needed on {devices}, where {free} are free, so lower engine.context_cells (at most {cells} \
         would fit) or engine.gpu_layers, choose a smaller cache type, or free memory there"
    )]
    TooSmall {
        /// What is needed.
        needed: Bytes,
        /// What is free on all of them.
        free: Bytes,
        /// Their names.
        devices: String,
        /// Cells that would fit; 0 if not even the weights do.
        cells: u64,
    },
}

/// Where the models go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// The GPUs that take layers; empty: all runs on the CPU.
    pub devices: Vec<Device>,
    /// Layers that go there.
    pub layers: u32,
    /// Why the CPU stands in for the GPUs asked for.
    pub instead: Option<Shortfall>,
}

impl Placement {
    /// Decides. `support`: whether this build can drive GPUs at all; `found`: those that the library sees.
    pub fn decide(asked: &Gpu, support: bool, found: &[Device], need: &Need) -> Result<Self, Shortfall> {
        if asked.layers == 0 {
            return Ok(Self::default());
        }
        match choose(asked, support, found).and_then(|devices| hold(devices, need)) {
            Ok(devices) => Ok(Self { devices, layers: asked.layers, instead: None }),
            Err(shortfall) if asked.cpu_fallback => Ok(Self { instead: Some(shortfall), ..Self::default() }),
            Err(shortfall) => Err(shortfall),
        }
    }

    /// Bytes free on each of its GPUs.
    pub fn free(&self) -> Vec<u64> {
        self.devices.iter().map(|device| device.free).collect()
    }
}

fn choose(asked: &Gpu, support: bool, found: &[Device]) -> Result<Vec<Device>, Shortfall> {
    if found.is_empty() {
        return Err(if support { Shortfall::NoDevice } else { Shortfall::NoSupport });
    }
    let Some(places) = &asked.devices else {
        let best = if found.iter().any(|d| d.kind == DeviceKind::Discrete) {
            DeviceKind::Discrete
        } else {
            DeviceKind::Integrated
        };
        return Ok(found.iter().filter(|device| device.kind == best).cloned().collect());
    };
    let at = |&asked: &u32| {
        let device = usize::try_from(asked).ok().and_then(|place| found.get(place));
        device.cloned().ok_or(Shortfall::UnknownDevice { asked, found: found.len() })
    };
    places.iter().map(at).collect()
}

fn hold(devices: Vec<Device>, need: &Need) -> Result<Vec<Device>, Shortfall> {
    let free: Vec<u64> = devices.iter().map(|device| device.free).collect();
    if need.fits(&free) {
        return Ok(devices);
    }
    Err(Shortfall::TooSmall {
        needed: Bytes(need.total_with(need.cells(), free.len() as u64)),
        free: Bytes(free.iter().fold(0, |sum, free| free.saturating_add(sum))),
        devices: names(&devices),
        cells: need.largest_cells(&free),
    })
}

/// The devices' names in one text.
pub fn names(devices: &[Device]) -> String {
    devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>().join(" and ")
}
