//! What every `bert` file for llama.cpp has in common: metadata, tensor names, vocabulary rules.
//!
//! Names and keys follow `llama-arch.cpp` and `models/bert.cpp` of the vendored llama.cpp.

use std::collections::HashSet;

use super::{ConvertError, ModelCard, unexpected};
use crate::model::gguf::{GgufBuilder, MetaArray, MetaValue, TensorType};

/// `llama_pooling_type`: the mean over all tokens.
const POOLING_MEAN: u32 = 1;
/// `LLAMA_MAX_LAYERS`; llama.cpp asserts it.
const MAX_LAYERS: u32 = 512;

/// `llama_token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
}

/// Dimensions of a BERT encoder.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    pub context_length: u32,
    pub embedding_length: u32,
    pub feed_forward_length: u32,
    pub block_count: u32,
    pub head_count: u32,
    pub token_type_count: u32,
    pub layer_norm_epsilon: f32,
}

impl Shape {
    /// Refuses dimensions on which llama.cpp would stop with an assertion.
    pub fn check(&self) -> Result<(), ConvertError> {
        let extents = [
            self.context_length,
            self.embedding_length,
            self.feed_forward_length,
            self.block_count,
            self.head_count,
            self.token_type_count,
        ];
        // 2^20 is beyond every encoder there is, and small enough that no product below overflows.
        let sane = extents.iter().all(|&extent| extent > 0 && extent <= 1 << 20)
            && self.block_count <= MAX_LAYERS
            && self.embedding_length.is_multiple_of(self.head_count)
            && self.layer_norm_epsilon > 0.0;
        if sane { Ok(()) } else { Err(unexpected(format!("encoder dimensions {self:?}"))) }
    }
}

/// A vocabulary in the order of token ids.
pub(super) struct Vocabulary {
    pub tokens: Vec<String>,
    pub types: Vec<TokenType>,
}

impl Vocabulary {
    /// llama.cpp asserts that no two tokens have the same text, and renames empty ones.
    pub fn check(&self) -> Result<(), ConvertError> {
        let mut seen = HashSet::with_capacity(self.tokens.len());
        for (id, token) in self.tokens.iter().enumerate() {
            if token.is_empty() {
                return Err(unexpected(format!("token {id} is empty")));
            }
            if !seen.insert(token.as_str()) {
                return Err(unexpected(format!("token {id}, {token:?}, stands there twice")));
            }
        }
        Ok(())
    }
}

/// Starts a file: general metadata, the encoder's dimensions and the way to pool.
pub(super) fn begin<'a>(card: &ModelCard<'_>, shape: &Shape, weights: TensorType) -> GgufBuilder<'a> {
    let mut file = GgufBuilder::new();
    file.set("general.architecture", "bert")
        .set("general.type", "model")
        .set("general.name", card.title)
        .set("general.license", card.licence)
        // For these two types `llama_ftype` and the tensor type have the same number.
        .set("general.file_type", weights.0)
        .set("general.quantization_version", 2)
        .set("bert.context_length", shape.context_length)
        .set("bert.embedding_length", shape.embedding_length)
        .set("bert.feed_forward_length", shape.feed_forward_length)
        .set("bert.block_count", shape.block_count)
        .set("bert.attention.head_count", shape.head_count)
        .set("bert.attention.layer_norm_epsilon", shape.layer_norm_epsilon)
        .set("bert.attention.causal", false)
        .set("bert.pooling_type", POOLING_MEAN);
    file
}

/// Adds the vocabulary; `model` is llama.cpp's name of the tokenizer.
pub(super) fn add_vocabulary(file: &mut GgufBuilder<'_>, model: &str, vocabulary: Vocabulary, shape: &Shape) {
    let types = vocabulary.types.into_iter().map(|kind| kind as i32).collect();
    file.set("tokenizer.ggml.model", model)
        .set("tokenizer.ggml.pre", "default")
        .set("tokenizer.ggml.token_type_count", shape.token_type_count)
        .set("tokenizer.ggml.tokens", MetaArray::String(vocabulary.tokens))
        .set("tokenizer.ggml.token_type", MetaArray::I32(types));
}

/// Sets several values at once.
pub(super) fn set_all<V: Into<MetaValue> + Copy>(file: &mut GgufBuilder<'_>, pairs: &[(&str, V)]) {
    for &(key, value) in pairs {
        file.set(key, value);
    }
}
