//! Gathers the facts for [`fit`](crate::engine::fit): which GPUs there are, and what the model files say.

use std::path::Path;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::{LlamaBackendDeviceType, list_llama_ggml_backend_devices};

use super::start::LlamaConfig;
use super::{LlamaError, Model, library, open};
use crate::engine::fit::{Bytes, Device, DeviceKind, ModelFacts, Need, Placement, names};

/// What the build drives beside the CPU.
const BUILT_FOR: &str = if cfg!(feature = "cuda") {
    "CUDA"
} else if cfg!(feature = "vulkan") {
    "Vulkan"
} else if cfg!(feature = "metal") {
    "Metal"
} else {
    "CPU"
};

/// Decides where the models go, before they are loaded.
pub(super) fn place(config: &LlamaConfig) -> Result<Placement, LlamaError> {
    if config.gpu.layers == 0 {
        return Ok(Placement::default());
    }
    // Devices are listed once the library stands.
    library()?;
    let found = gpus();
    let need = if found.is_empty() {
        // Nothing can hold it, so nothing has to be read.
        need(config, ModelFacts::default(), &[])
    } else {
        let language = peek(&config.language_model)?;
        let embeddings =
            config.embedding_models.iter().map(|path| peek(path)).collect::<Result<Vec<_>, _>>()?;
        need(config, language, &embeddings)
    };
    let placement =
        Placement::decide(&config.gpu, BUILT_FOR != "CPU", &found, &need).map_err(LlamaError::Gpu)?;
    if let Some(reason) = &placement.instead {
        tracing::warn!(%reason, "running on the CPU instead of a GPU, as engine.cpu_fallback allows");
    }
    Ok(placement)
}

fn need(config: &LlamaConfig, language: ModelFacts, embeddings: &[ModelFacts]) -> Need {
    let tokens = u64::from(config.embedding.call_tokens(u32::MAX));
    let alone = Need::new(language, config.context.need(), u64::from(config.gpu.layers));
    embeddings.iter().fold(alone, |need, facts| need.with_embedder(*facts, tokens))
}

/// What a model needs, read without its weights.
fn peek(path: &Path) -> Result<ModelFacts, LlamaError> {
    Ok(facts(&open(path, &LlamaModelParams::default().with_vocab_only(true))?))
}

fn facts(model: &LlamaModel) -> ModelFacts {
    let vocabulary = u64::try_from(model.n_vocab()).unwrap_or(0);
    ModelFacts::from_metadata(model.size(), vocabulary, |key| model.meta_val_str(key).ok())
}

/// The GPUs that the library sees, in its order.
fn gpus() -> Vec<Device> {
    let kind = |found: &LlamaBackendDeviceType| match found {
        LlamaBackendDeviceType::Gpu => Some(DeviceKind::Discrete),
        LlamaBackendDeviceType::IntegratedGpu => Some(DeviceKind::Integrated),
        _ => None,
    };
    let devices = list_llama_ggml_backend_devices().into_iter();
    devices
        .filter_map(|device| {
            Some(Device {
                number: device.index,
                kind: kind(&device.device_type)?,
                name: format!("{} ({})", device.name, device.description),
                backend: device.backend,
                total: device.memory_total as u64,
                free: device.memory_free as u64,
            })
        })
        .collect()
}

/// What the models run on and what they take, for the one line at the start.
#[derive(Debug)]
pub(super) struct Report {
    placement: Placement,
    need: Need,
    /// The machine's memory, where the CPU is used.
    machine: u64,
}

impl Report {
    pub(super) fn new(config: &LlamaConfig, placement: &Placement, models: (&Model, &[Model])) -> Self {
        let (language, embeddings) = models;
        let embeddings: Vec<ModelFacts> = embeddings.iter().map(|model| facts(model.inner())).collect();
        let mut config = config.clone();
        if placement.devices.is_empty() {
            // All of it is in one memory.
            (config.gpu.layers, config.context.offload_kqv) = (u32::MAX, true);
        }
        let is_cpu = |device: &LlamaBackendDeviceType| matches!(device, LlamaBackendDeviceType::Cpu);
        let cpu = list_llama_ggml_backend_devices().into_iter().find(|device| is_cpu(&device.device_type));
        Self {
            placement: placement.clone(),
            need: need(&config, facts(language.inner()), &embeddings),
            machine: cpu.map_or(0, |cpu| cpu.memory_total as u64),
        }
    }

    /// Writes it to the log.
    pub(super) fn log(&self) {
        let need = &self.need;
        let devices = &self.placement.devices;
        let on_cpu = devices.is_empty();
        // What is free of a machine's memory is ill-defined, and the library does not tell it either: all of it counts.
        let free = if on_cpu { vec![self.machine] } else { self.placement.free() };
        let total = if on_cpu { self.machine } else { devices.iter().map(|device| device.total).sum() };
        let largest = need.largest_cells(&free);
        let device = if on_cpu { "CPU".to_owned() } else { names(devices) };
        tracing::info!(
            build = BUILT_FOR,
            device,
            memory = %Bytes(total),
            free = (!on_cpu).then(|| tracing::field::display(Bytes(free.iter().sum()))),
            gpu_layers = if on_cpu { 0 } else { need.layers() },
            weights = %Bytes(need.weights()),
            cells = need.cells(),
            cell = %Bytes(need.cell()),
            kv = %Bytes(need.kv()),
            compute = %Bytes(need.compute()),
            embedding_models = %Bytes(need.beside()),
            needed = %Bytes(need.total()),
            fits = need.fits(&free),
            cells_that_fit = largest,
            sequences_that_fit = largest / need.cells_per_sequence(),
            "where the models run and what they take (compute is an estimate)"
        );
        if on_cpu && !need.fits(&free) {
            tracing::warn!("the models need more than this machine's memory; lower engine.context_cells");
        }
    }
}
