//! `[engine]`: how the models run, and where.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use super::reader::Reader;
use crate::engine::fit::CacheType;

/// More layers than any model has.
pub const ALL_LAYERS: u32 = 10_000;

/// GPUs that can be named: llama.cpp takes at most 16.
const MOST_DEVICES: usize = 16;

/// What runs the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// llama.cpp.
    Llama,
    /// Modelled times, no model.
    Sim,
}

/// `[engine]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the file")]
pub struct EngineSettings {
    /// What runs the requests.
    pub backend: EngineKind,
    /// Sequences decoded together.
    pub sequences: u32,
    /// Tokens the KV cache holds over all sequences.
    pub context_cells: u32,
    /// Tokens in one decode call at most.
    pub batch_tokens: u32,
    /// Tokens up to which texts are put into one call of the embedding model.
    pub embed_batch_tokens: u32,
    /// CPU threads; `None`: all cores.
    pub threads: Option<NonZeroU32>,
    /// One KV buffer for all sequences.
    pub kv_unified: bool,
    /// Tokens computed at once within such a call.
    pub micro_batch_tokens: u32,
    /// Flash attention.
    pub flash_attention: bool,
    /// How keys are stored.
    pub cache_type_k: CacheType,
    /// How values are stored.
    pub cache_type_v: CacheType,
    /// Layers on the GPU; [`ALL_LAYERS`] for all.
    pub gpu_layers: u32,
    /// Which GPUs, counted from 0; `None`: all.
    pub devices: Option<Vec<u32>>,
    /// Keys and values lie where the layers are.
    pub offload_kqv: bool,
    /// The CPU will do where the GPUs do not.
    pub cpu_fallback: bool,
    /// A decode call longer than this is stuck.
    pub step_limit: Duration,
}

impl EngineSettings {
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        let batch_tokens = read.number("engine.batch_tokens", 32..=65_536);
        let micro_batch = read.value(
            "engine.micro_batch_tokens",
            "a number from 32 to 65536 or \"auto\"",
            parse_micro_batch,
        );
        let engine = Self {
            backend: read.word("engine.backend", &[("llama", EngineKind::Llama), ("sim", EngineKind::Sim)]),
            // llama.cpp has 256 sequence ids; some are taken by pinned prefixes.
            sequences: read.number("engine.sequences", 1..=240),
            context_cells: read.number("engine.context_cells", 256..=16_777_216),
            batch_tokens,
            embed_batch_tokens: read.number("engine.embed_batch_tokens", 32..=65_536),
            threads: NonZeroU32::new(read.number("engine.threads", 0..=1024)),
            kv_unified: read.switch("engine.kv_unified"),
            micro_batch_tokens: micro_batch.unwrap_or(batch_tokens),
            flash_attention: read.switch("engine.flash_attention"),
            cache_type_k: read.word("engine.cache_type_k", &CacheType::NAMED),
            cache_type_v: read.word("engine.cache_type_v", &CacheType::NAMED),
            gpu_layers: read.value("engine.gpu_layers", "a number from 0 to 10000 or \"all\"", parse_layers),
            devices: read.value(
                "engine.devices",
                "\"auto\" or at most 16 different numbers from 0, such as [0, 1]",
                parse_devices,
            ),
            offload_kqv: read.switch("engine.offload_kqv"),
            cpu_fallback: read.switch("engine.cpu_fallback"),
            step_limit: read.duration("engine.step_limit"),
        };
        engine.check(read);
        engine
    }

    /// What each value allows alone and the others do not.
    fn check(&self, read: &mut Reader<'_>) {
        if self.batch_tokens > self.context_cells {
            let allowed = format!("use at most `engine.context_cells` ({})", self.context_cells);
            read.problem("engine.batch_tokens", allowed);
        }
        if self.micro_batch_tokens > self.batch_tokens {
            let allowed = format!("use at most `engine.batch_tokens` ({})", self.batch_tokens);
            read.problem("engine.micro_batch_tokens", allowed);
        }
        if self.cache_type_v.is_quantized() && !self.flash_attention {
            let allowed = "use \"f16\" or \"bf16\", or set `engine.flash_attention` to true".to_owned();
            read.problem("engine.cache_type_v", allowed);
        }
        // The attention kernels of GPU builds exist for equal types only; others would run on the CPU, unannounced.
        if self.gpu_layers > 0 && self.cache_type_k != self.cache_type_v {
            let allowed =
                format!("use \"{}\" as in `engine.cache_type_k`, on a GPU", self.cache_type_k.name());
            read.problem("engine.cache_type_v", allowed);
        }
    }
}

/// `Some(None)`: as many as a batch has.
#[expect(clippy::option_option, reason = "the outer one says whether the text can be read")]
fn parse_micro_batch(text: &str) -> Option<Option<u32>> {
    if text.eq_ignore_ascii_case("auto") {
        return Some(None);
    }
    text.parse().ok().filter(|tokens| (32..=65_536).contains(tokens)).map(Some)
}

fn parse_layers(text: &str) -> Option<u32> {
    if text.eq_ignore_ascii_case("all") {
        return Some(ALL_LAYERS);
    }
    text.parse().ok().filter(|layers| *layers <= ALL_LAYERS)
}

/// `Some(None)`: whatever there is.
#[expect(clippy::option_option, reason = "the outer one says whether the text can be read")]
fn parse_devices(text: &str) -> Option<Option<Vec<u32>>> {
    if text.eq_ignore_ascii_case("auto") {
        return Some(None);
    }
    let devices = text.split(',').map(|place| place.trim().parse().ok()).collect::<Option<Vec<u32>>>()?;
    let different = devices.iter().collect::<BTreeSet<_>>().len() == devices.len();
    (different && devices.len() <= MOST_DEVICES).then_some(Some(devices))
}
