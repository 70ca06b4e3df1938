//! GPUs.

use crate::doctor::judge::machine::GpuBuild;
use crate::engine::fit::{Device, DeviceKind};
use crate::gpu::{Card, Library};

/// What this program can drive beside the CPU.
pub const BUILD: GpuBuild = if cfg!(feature = "cuda") {
    GpuBuild::Cuda
} else if cfg!(any(feature = "vulkan", feature = "metal")) {
    GpuBuild::Other
} else {
    GpuBuild::None
};

/// The GPUs that NVIDIA's library shows to the engine, and the version of their driver; else why it shows none. Without
/// sampling (`gpu.library = "none"`) the engine uses GPUs all the same, so the driver's own library is asked then.
pub fn look(library: &Library, visible: Option<&str>) -> Result<(Vec<Device>, String), String> {
    let asked = if *library == Library::None { &Library::Auto } else { library };
    let inventory = asked.inventory(visible)?;
    Ok((inventory.gpus.into_iter().map(device).collect(), inventory.driver))
}

fn device(card: Card) -> Device {
    Device {
        number: card.device as usize,
        name: card.name,
        backend: "CUDA".to_owned(),
        kind: DeviceKind::Discrete,
        total: card.memory_total_bytes,
        free: card.memory_free_bytes,
    }
}
