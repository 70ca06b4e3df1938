//! What the models need of a GPU's memory: arithmetic, no calls. [`Placement`] decides with it where they go.
//!
//! What llama.cpp takes on a device is known before anything is loaded:
//! - the **weights**, once;
//! - the **KV cache**: for each cell `layers · kv_heads · head_dim` numbers for keys and as many for values. The cells
//!   are those asked for, rounded as the library does ([`ContextNeed::cells`]). Layers with a sliding window, such as
//!   most of Gemma 3's, get all cells too: the library keeps them whole unless told otherwise, and copies of whole
//!   sequences need them whole;
//! - the **compute buffer**, mostly the logits of one micro-batch. [`Need::compute`] is an estimate from above: 1 to 5 %
//!   over what the library allocated for the default models (the tests hold the figures).
//!
//! A device that is too small is refused before the weights are loaded, because running out of memory later aborts
//! the process.

mod placement;

use std::fmt;

use bytesize::ByteSize;

pub use self::placement::{Device, DeviceKind, Gpu, Placement, Shortfall, names};

/// What is left free on each GPU: work space of the matrix library and of the display, which nobody announces.
const RESERVE: u64 = 512 << 20;
/// Cells are allocated in multiples of this.
const CELL_STEP: u64 = 256;
/// The library's limit on the cells of one context, and so the end of the search for the largest.
const MOST_CELLS: u64 = 1 << 31;

/// How keys or values are stored. Other types exist, but the CUDA build has no attention kernels for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheType {
    /// Two bytes a number.
    #[default]
    F16,
    /// Two bytes a number, of another range.
    Bf16,
    /// Blocks of 32 numbers in 34 bytes.
    Q8_0,
    /// Blocks of 32 numbers in 18 bytes.
    Q4_0,
}

impl CacheType {
    /// All of them with their names in the settings.
    pub const NAMED: [(&'static str, Self); 4] =
        [("f16", Self::F16), ("bf16", Self::Bf16), ("q8_0", Self::Q8_0), ("q4_0", Self::Q4_0)];

    /// Its name.
    pub fn name(self) -> &'static str {
        // Every variant stands in the list.
        Self::NAMED.into_iter().find(|(_, kind)| *kind == self).map_or("unknown", |(name, _)| name)
    }

    /// Whether numbers are stored in blocks with a common scale.
    pub const fn is_quantized(self) -> bool {
        matches!(self, Self::Q8_0 | Self::Q4_0)
    }

    /// Bytes of so many numbers; whole blocks.
    pub const fn bytes(self, numbers: u64) -> u64 {
        match self {
            Self::F16 | Self::Bf16 => numbers.saturating_mul(2),
            Self::Q8_0 => numbers.div_ceil(32).saturating_mul(34),
            Self::Q4_0 => numbers.div_ceil(32).saturating_mul(18),
        }
    }
}

/// What decides a model's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModelFacts {
    /// Bytes of all tensors.
    pub weights: u64,
    /// Layers.
    pub layers: u64,
    /// Numbers that one cell's keys are, over all layers.
    pub keys: u64,
    /// Numbers that one cell's values are, over all layers.
    pub values: u64,
    /// Attention heads of a layer.
    pub heads: u64,
    /// Width of the hidden state.
    pub width: u64,
    /// Width between the two halves of a layer.
    pub feed_forward: u64,
    /// Tokens of the vocabulary; 0 for a model that has no next token to tell.
    pub vocabulary: u64,
    /// Whether some layers see a window only: the two kinds have a mask each.
    pub sliding_window: bool,
}

impl ModelFacts {
    /// Reads them from a model file's metadata; `get` gives the text of a value, `[1, 2]` for an array. What the
    /// file does not say is what the library assumes then, or 0.
    pub fn from_metadata(weights: u64, vocabulary: u64, get: impl Fn(&str) -> Option<String>) -> Self {
        let architecture = get("general.architecture").unwrap_or_default();
        let numbers = |key: &str| -> Vec<u64> {
            let text = get(&format!("{architecture}.{key}")).unwrap_or_default();
            let items = text.trim_matches(['[', ']']).split(',');
            items.filter_map(|item| item.trim().parse().ok()).collect()
        };
        let number = |key: &str| numbers(key).into_iter().max();
        let layers = number("block_count").unwrap_or(0);
        let heads = number("attention.head_count").unwrap_or(0);
        let width = number("embedding_length").unwrap_or(0);
        let kv_heads = match numbers("attention.head_count_kv")[..] {
            [] => heads.saturating_mul(layers),
            [each] => each.saturating_mul(layers),
            ref each_layer => each_layer.iter().fold(0, |sum, heads| heads.saturating_add(sum)),
        };
        let head = width.checked_div(heads).unwrap_or(0);
        let side = |key: &str| number(key).unwrap_or(head).saturating_mul(kv_heads);
        Self {
            weights,
            layers,
            keys: side("attention.key_length"),
            values: side("attention.value_length"),
            heads,
            width,
            feed_forward: number("feed_forward_length").unwrap_or(0),
            vocabulary,
            sliding_window: number("attention.sliding_window").is_some_and(|window| window > 0),
        }
    }
}

/// What decides a context's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextNeed {
    /// Sequences, pinned prefixes included.
    pub sequences: u64,
    /// Cells asked for.
    pub cells: u64,
    /// One pool of cells for all sequences.
    pub unified: bool,
    /// Tokens that are computed at once.
    pub micro_batch: u64,
    /// How keys are stored.
    pub keys: CacheType,
    /// How values are stored.
    pub values: CacheType,
    /// Without it the scores of all cells are written out.
    pub flash_attention: bool,
    /// Whether the cache lies where the layers are.
    pub offload_kqv: bool,
}

impl ContextNeed {
    /// Cells that the library allocates: each pool is a multiple of 256.
    pub fn cells(&self) -> u64 {
        let pools = if self.unified { 1 } else { self.sequences.max(1) };
        (self.cells / pools).div_ceil(CELL_STEP).saturating_mul(CELL_STEP).saturating_mul(pools)
    }
}

/// A model and how many of its layers go to the device in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    model: ModelFacts,
    context: ContextNeed,
    /// Weights and compute of what runs beside the language model.
    beside: u64,
    layers: u64,
}

impl Need {
    /// The need of a language model with `layers` on the device; more than it has means all of it.
    pub fn new(model: ModelFacts, context: ContextNeed, layers: u64) -> Self {
        Self { model, context, beside: 0, layers }
    }

    /// With an embedding model that works on so many tokens at once. It keeps no cells between calls.
    #[must_use]
    pub fn with_embedder(mut self, model: ModelFacts, tokens: u64) -> Self {
        let facts = ModelFacts { vocabulary: 0, ..model };
        let compute = compute(&facts, tokens, tokens, true);
        self.beside = self.beside.saturating_add(model.weights).saturating_add(compute);
        self
    }

    /// Layers on the device.
    pub fn layers(&self) -> u64 {
        self.layers.min(self.model.layers)
    }

    /// Weights on the device, those of embedding models not counted. An upper bound where only some layers go
    /// there: it takes the vocabulary for a part of the layers.
    pub fn weights(&self) -> u64 {
        self.share(self.model.weights)
    }

    /// What embedding models take.
    pub fn beside(&self) -> u64 {
        self.beside
    }

    /// Bytes of one cell over all layers on the device.
    pub fn cell(&self) -> u64 {
        if !self.context.offload_kqv {
            return 0;
        }
        let (keys, values) = (self.context.keys, self.context.values);
        self.share(keys.bytes(self.model.keys).saturating_add(values.bytes(self.model.values)))
    }

    /// Cells that the library allocates.
    pub fn cells(&self) -> u64 {
        self.context.cells()
    }

    /// Cells of one sequence, taken evenly.
    pub fn cells_per_sequence(&self) -> u64 {
        (self.context.cells() / self.context.sequences.max(1)).max(1)
    }

    /// Bytes of the KV cache.
    pub fn kv(&self) -> u64 {
        self.cell().saturating_mul(self.cells())
    }

    /// Bytes of the compute buffer, estimated from above.
    pub fn compute(&self) -> u64 {
        self.compute_with(self.cells())
    }

    /// All of it, on one device.
    pub fn total(&self) -> u64 {
        self.total_with(self.cells(), 1)
    }

    /// The largest number of cells that would fit into what is free on these devices. Layers are spread over all of
    /// them, and each has a compute buffer of its own.
    pub fn largest_cells(&self, free: &[u64]) -> u64 {
        let room = room(free);
        let fits = |cells| self.total_with(cells, free.len() as u64) <= room;
        // The need grows with the cells, so the border can be found by halving.
        let (mut fit, mut beyond) = (0, MOST_CELLS / CELL_STEP);
        while fit + 1 < beyond {
            let middle = fit.midpoint(beyond);
            if fits(middle * CELL_STEP) { fit = middle } else { beyond = middle }
        }
        fit * CELL_STEP
    }

    /// Whether it fits into what is free on these devices.
    pub fn fits(&self, free: &[u64]) -> bool {
        self.total_with(self.cells(), free.len() as u64) <= room(free)
    }

    fn total_with(&self, cells: u64, devices: u64) -> u64 {
        let compute = self.compute_with(cells).saturating_mul(devices.max(1));
        let kv = self.cell().saturating_mul(cells);
        [self.weights(), self.beside, kv, compute].into_iter().fold(0, u64::saturating_add)
    }

    fn compute_with(&self, cells: u64) -> u64 {
        // A context never works on more tokens at once than it has cells.
        let tokens = self.context.micro_batch.min(self.cells());
        compute(&self.model, tokens, cells, self.context.flash_attention)
    }

    /// The part of `bytes` that lies in the layers on the device.
    fn share(&self, bytes: u64) -> u64 {
        let layers = self.model.layers;
        if self.layers >= layers {
            bytes
        } else {
            bytes.div_ceil(layers).saturating_mul(self.layers).min(bytes)
        }
    }
}

/// For each token: the logits, or the scores of all cells where they are larger (they are never needed at the same
/// time); two hidden states and two inner ones; a mask over the cells for each kind of layer.
fn compute(model: &ModelFacts, tokens: u64, cells: u64, flash_attention: bool) -> u64 {
    let scores = if flash_attention { 0 } else { model.heads.saturating_mul(cells) };
    let numbers = model.vocabulary.max(scores).saturating_add(2 * (model.width + model.feed_forward));
    let masks = if model.sliding_window { 2 } else { 1 };
    let mask = cells.saturating_mul(masks * if flash_attention { 2 } else { 4 });
    tokens.saturating_mul(numbers.saturating_mul(4).saturating_add(mask))
}

fn room(free: &[u64]) -> u64 {
    free.iter().map(|free| free.saturating_sub(RESERVE)).fold(0, u64::saturating_add)
}

/// A number of bytes as a person reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ByteSize::b(self.0).display().iec())
    }
}

#[cfg(test)]
mod tests;
