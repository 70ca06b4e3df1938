//! The language model's context behind the [`Backend`] trait.

use std::num::NonZeroU32;

use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;

use super::{LlamaError, Model, library, thread_count};
use crate::engine::backend::{Backend, BackendError, BatchToken, ContextShape, SeqId};
use crate::engine::fit::{CacheType, ContextNeed};

/// How the context is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextSettings {
    /// Sequences, pinned prefixes included; at most 256.
    pub sequences: u16,
    /// KV cells over all sequences.
    pub cells: u32,
    /// Tokens of one decode call.
    pub batch_tokens: u32,
    /// Tokens computed at once within a call; more than `batch_tokens` means all of them.
    pub micro_batch_tokens: u32,
    /// Threads; 0 for all cores.
    pub threads: u32,
    /// One pool of cells for all sequences, or a stream for each.
    pub unified: bool,
    /// Flash attention: skips masked cells, which is what makes foreign cells of a unified cache cheap.
    pub flash_attention: bool,
    /// How keys are stored.
    pub keys: CacheType,
    /// How values are stored; a quantized type needs flash attention.
    pub values: CacheType,
    /// Whether the cache lies where the layers are.
    pub offload_kqv: bool,
}

impl Default for ContextSettings {
    /// One sequence, and nothing out of the ordinary.
    fn default() -> Self {
        Self {
            sequences: 1,
            cells: 4096,
            batch_tokens: 512,
            micro_batch_tokens: u32::MAX,
            threads: 0,
            unified: true,
            flash_attention: true,
            keys: CacheType::F16,
            values: CacheType::F16,
            offload_kqv: true,
        }
    }
}

impl ContextSettings {
    fn micro_batch(&self) -> u32 {
        self.micro_batch_tokens.min(self.batch_tokens)
    }

    /// What decides its memory.
    pub(super) fn need(&self) -> ContextNeed {
        ContextNeed {
            sequences: u64::from(self.sequences),
            cells: u64::from(self.cells),
            unified: self.unified,
            micro_batch: u64::from(self.micro_batch()),
            keys: self.keys,
            values: self.values,
            flash_attention: self.flash_attention,
            offload_kqv: self.offload_kqv,
        }
    }
}

/// A context and its batch, owned by the engine thread.
pub struct LlamaContextBackend<'m> {
    context: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    shape: ContextShape,
    /// Which indices of the last batch have logits: asking for another aborts the process.
    outputs: Vec<bool>,
}

impl<'m> LlamaContextBackend<'m> {
    /// Makes a context over `model`.
    pub fn new(model: &'m Model, settings: &ContextSettings) -> Result<Self, LlamaError> {
        let refuse = |reason: String| LlamaError::Context {
            cells: settings.cells,
            sequences: u32::from(settings.sequences),
            reason,
        };
        if settings.sequences == 0 || settings.sequences > 256 {
            return Err(refuse("sequences must be 1 to 256".into()));
        }
        if settings.batch_tokens == 0 {
            return Err(refuse("a decode call must hold a token".into()));
        }
        if settings.micro_batch() == 0 {
            return Err(refuse("a micro-batch must hold a token".into()));
        }
        let threads = thread_count(settings.threads);
        let flash = if settings.flash_attention {
            llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_ENABLED
        } else {
            llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED
        };
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(settings.cells))
            .with_n_batch(settings.batch_tokens)
            .with_n_ubatch(settings.micro_batch())
            .with_n_seq_max(u32::from(settings.sequences))
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_flash_attention_policy(flash)
            .with_kv_unified(settings.unified)
            .with_type_k(cache_type(settings.keys))
            .with_type_v(cache_type(settings.values))
            .with_offload_kqv(settings.offload_kqv)
            .with_no_perf(true);
        let context =
            model.inner().new_context(library()?, params).map_err(|error| refuse(error.to_string()))?;
        let cells = context.n_ctx();
        let per_sequence = if settings.unified { cells } else { cells / u32::from(settings.sequences) };
        // What the library made may be smaller than what was asked for.
        let batch_tokens = context.n_batch().min(settings.batch_tokens);
        let shape = ContextShape {
            sequences: settings.sequences,
            cells,
            cells_per_sequence: per_sequence.min(model.trained_context()),
            batch_tokens,
            unified: settings.unified,
        };
        Ok(Self { context, batch: LlamaBatch::new(batch_tokens as usize, 1), shape, outputs: Vec::new() })
    }

    fn owns(&self, seq: SeqId) -> bool {
        seq.0 < self.shape.sequences
    }
}

fn cache_type(kind: CacheType) -> KvCacheType {
    match kind {
        CacheType::F16 => KvCacheType::F16,
        CacheType::Bf16 => KvCacheType::BF16,
        CacheType::Q8_0 => KvCacheType::Q8_0,
        CacheType::Q4_0 => KvCacheType::Q4_0,
    }
}

impl Backend for LlamaContextBackend<'_> {
    fn shape(&self) -> ContextShape {
        self.shape
    }

    fn decode(&mut self, batch: &[BatchToken]) -> Result<(), BackendError> {
        // -1 is the library's own code for an invalid batch. It checks neither ids nor length itself.
        let invalid = BackendError::Fatal { code: -1 };
        if batch.is_empty() || !batch.iter().all(|token| self.owns(token.seq)) {
            return Err(invalid);
        }
        self.batch.clear();
        self.outputs.clear();
        for item in batch {
            let pos = i32::try_from(item.pos).map_err(|_| invalid.clone())?;
            self.batch
                .add(LlamaToken(item.token.0), pos, &[i32::from(item.seq.0)], item.output)
                .map_err(|_| invalid.clone())?;
            self.outputs.push(item.output);
        }
        let outcome = self.context.decode(&mut self.batch).map_err(|error| match error {
            DecodeError::NoKvCacheSlot => BackendError::NoRoom,
            DecodeError::NTokensZero => BackendError::Fatal { code: -1 },
            DecodeError::Unknown(code) => BackendError::Fatal { code },
        });
        if outcome.is_err() {
            self.outputs.clear();
        } else {
            // The call returns before an asynchronous device is done; its time belongs to this step.
            self.context.synchronize();
        }
        outcome
    }

    fn logits(&self, index: usize) -> &[f32] {
        // Empty logits read as "not a number" in the core: the request fails, the process lives.
        match (self.outputs.get(index), i32::try_from(index)) {
            (Some(true), Ok(index)) => self.context.get_logits_ith(index),
            _ => &[],
        }
    }

    fn fork(&mut self, from: SeqId, to: SeqId) {
        if self.owns(from) && self.owns(to) && from != to {
            // Whole sequences only: part of one aborts under split KV. No positions, so no conversion can fail.
            let _ = self.context.copy_kv_cache_seq(i32::from(from.0), i32::from(to.0), None, None);
        }
    }

    fn truncate(&mut self, seq: SeqId, keep: u32) -> bool {
        self.owns(seq)
            && self.context.clear_kv_cache_seq(Some(u32::from(seq.0)), Some(keep), None).unwrap_or(false)
    }

    fn clear(&mut self, seq: SeqId) {
        if self.owns(seq) {
            // Removal of a whole sequence always succeeds.
            let _ = self.context.clear_kv_cache_seq(Some(u32::from(seq.0)), None, None);
        }
    }
}
