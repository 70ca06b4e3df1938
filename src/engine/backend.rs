//! What the core needs of a model: decode a batch, read logits, copy and clear sequences.

use std::fmt;

/// A token of the loaded model's vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub i32);

/// A sequence of the context: one line of positions in the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqId(pub u16);

/// One token of a decode call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchToken {
    /// The token.
    pub token: Token,
    /// Its position in its sequence; positions of a sequence are consecutive over calls.
    pub pos: u32,
    /// The one sequence it belongs to.
    pub seq: SeqId,
    /// Whether its logits will be read.
    pub output: bool,
}

/// What a context can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextShape {
    /// Sequences, pinned prefixes included.
    pub sequences: u16,
    /// KV cells over all sequences.
    pub cells: u32,
    /// KV cells that one sequence can reach: all of them when unified, its own stream when split.
    pub cells_per_sequence: u32,
    /// Tokens of one decode call.
    pub batch_tokens: u32,
    /// Whether sequences share the cells, so that a copied prefix costs none.
    pub unified: bool,
}

/// Why a decode call did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No cells left. Admission makes this unreachable; if it happens all the same, one request is put back.
    #[error("no free kv cells")]
    NoRoom,
    /// Anything else, with the library's code.
    #[error("decode failed with code {code}")]
    Fatal {
        /// The library's return code.
        code: i32,
    },
}

/// A language model with a KV cache, owned by one thread.
pub trait Backend {
    /// What the context holds.
    fn shape(&self) -> ContextShape;
    /// Runs the tokens through the model; their keys and values stay in the cache.
    fn decode(&mut self, batch: &[BatchToken]) -> Result<(), BackendError>;
    /// Logits over the vocabulary at the `index`-th token of the last batch, which had `output` set.
    fn logits(&self, index: usize) -> &[f32];
    /// Makes the empty sequence `to` a copy of the whole of `from`.
    fn fork(&mut self, from: SeqId, to: SeqId);
    /// Removes positions `keep..` of the sequence; returns whether the cache could do so.
    fn truncate(&mut self, seq: SeqId, keep: u32) -> bool;
    /// Empties the sequence.
    fn clear(&mut self, seq: SeqId);
}

/// An embedding model, owned by the same thread: both models want all cores, so they take turns.
pub trait Embedder {
    /// Values per embedding.
    fn dimensions(&self) -> usize;
    /// Greatest tokens of one text; longer ones are cut, the closing token kept.
    fn max_text_tokens(&self) -> usize;
    /// Tokens up to which texts are put into one call; a longer text has a call of its own. Attention within a call
    /// spans all its texts, most of it masked away: its cost per token grows with the call.
    fn batch_tokens(&self) -> usize;
    /// Texts of one call.
    fn batch_texts(&self) -> usize;
    /// One mean-pooled embedding per text, not normalised. The texts fit one call.
    fn embed(&mut self, texts: &[Vec<Token>]) -> Result<Vec<Vec<f32>>, BackendError>;
}

/// Text to tokens and back. Shared by all threads.
pub trait Tokenizer: Send + Sync + fmt::Debug {
    /// Tokens of `text`, control-token spellings in it taken as plain text, so that no review can forge one.
    /// `begin` adds what the model expects at the start of a text (and, for embedding models, at its end).
    fn tokenize(&self, text: &str, begin: bool) -> Vec<Token>;
    /// Bytes of one token; empty for control tokens.
    fn piece(&self, token: Token) -> Vec<u8>;
    /// Size of the vocabulary.
    fn vocabulary(&self) -> usize;
    /// Whether generation ends at this token, or must not go past it (end of text, control tokens).
    fn is_control(&self, token: Token) -> bool;

    /// Text of the tokens; bytes that are not UTF-8 are replaced.
    fn detokenize(&self, tokens: &[Token]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| self.piece(token)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
