//! What the core says about its work.

use std::time::Duration;

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Step {
    /// Prompt and template tokens fed.
    pub prefill_tokens: u32,
    /// Sampled tokens fed.
    pub decode_tokens: u32,
    /// Tokens sampled from what was fed. Not all are fed later: a stop token is not, nor is the last of a request.
    pub generated_tokens: u32,
    /// Tokens, of both kinds, whose logits were read.
    pub read_tokens: u32,
    /// Sequences in the batch.
    pub sequences: u32,
    /// Time inside the backend's decode.
    pub decode_time: Duration,
    /// Time that reading logits and answering took: labels, sampling, what ended.
    pub read_time: Duration,
    /// Time of the whole step; what is neither of the two above goes into admitting and building the batch.
    pub total_time: Duration,
    /// When it ended, on the engine's clock.
    pub ended: Duration,
}

/// Counters over a core's life.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CoreCounters {
    /// Decode calls.
    pub steps: u64,
    /// Prompt and template tokens fed, prefixes included.
    pub prefill_tokens: u64,
    /// Sampled tokens fed.
    pub decode_tokens: u64,
    /// Tokens, of both kinds, whose logits were read.
    pub read_tokens: u64,
    /// Template tokens of answered requests; they are among the prefilled ones.
    pub forced_tokens: u64,
    /// Tokens that answered requests took from a pinned prefix.
    pub reused_tokens: u64,
    /// Sum over steps of the sequences in the batch.
    pub sequence_steps: u64,
    /// Time inside the backend's decode.
    pub decode_time: Duration,
    /// Time of reading logits and answering.
    pub read_time: Duration,
    /// Time of the steps in all.
    pub busy_time: Duration,
    /// Requests answered.
    pub completed: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests put back for want of cells.
    pub evictions: u64,
}
