//! What a header says about a model, in the words of `maitred model info`.

use std::collections::BTreeMap;

use super::{Header, MetaValue, TensorType};

/// The facts about a model file that do not need the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSummary {
    /// llama.cpp's architecture name: `llama`, `gemma3`, `bert`, …
    pub architecture: String,
    /// The name that the file gives itself.
    pub title: Option<String>,
    /// llama.cpp's name of the quantization: `Q8_0`, `Q4_K_M`, `F16`, …
    pub quantization: String,
    /// Number of parameters: elements of all tensors.
    pub parameters: u64,
    /// Longest sequence the model was trained for, in tokens.
    pub context_length: Option<u64>,
    /// Width of the hidden state, and of an embedding, in numbers.
    pub embedding_length: Option<u64>,
    /// Number of layers.
    pub block_count: Option<u64>,
    /// Number of tokens in the vocabulary.
    pub vocabulary: Option<u64>,
    /// Whether the file carries a chat template.
    pub has_chat_template: bool,
    /// Whether the file is made for embeddings: it states how to pool, or never generates.
    pub pools: bool,
}

impl Header {
    /// Gathers the facts; what the file does not say is left out.
    pub fn summary(&self) -> HeaderSummary {
        let text = |key: &str| self.get(key).and_then(MetaValue::as_str).map(str::to_owned);
        let architecture = text("general.architecture").unwrap_or_else(|| "unknown".to_owned());
        let number = |suffix: &str| self.get(&format!("{architecture}.{suffix}")).and_then(MetaValue::as_u64);
        let vocabulary = match self.get("tokenizer.ggml.tokens") {
            Some(MetaValue::Array(tokens)) => Some(tokens.len()),
            _ => None,
        };
        HeaderSummary {
            title: text("general.name"),
            quantization: self.quantization(),
            parameters: self.tensors.iter().fold(0, |sum, tensor| tensor.elements().saturating_add(sum)),
            context_length: number("context_length"),
            embedding_length: number("embedding_length"),
            block_count: number("block_count"),
            vocabulary,
            has_chat_template: self.get("tokenizer.chat_template").is_some(),
            // Pooling type 0 is "none": each token keeps its own vector.
            pools: number("pooling_type").is_some_and(|kind| kind != 0) || architecture.contains("bert"),
            architecture,
        }
    }

    fn quantization(&self) -> String {
        let stated = self.get("general.file_type").and_then(MetaValue::as_u64).and_then(file_type_name);
        match stated {
            Some(name) => name.to_owned(),
            None => self.heaviest_type().map_or_else(|| "none".to_owned(), |kind| kind.to_string()),
        }
    }

    /// The element type that most of the bytes have.
    fn heaviest_type(&self) -> Option<TensorType> {
        let mut bytes = BTreeMap::<TensorType, u64>::new();
        for tensor in &self.tensors {
            let sum = bytes.entry(tensor.kind).or_default();
            *sum = sum.saturating_add(tensor.size.unwrap_or(0));
        }
        bytes.into_iter().max_by_key(|&(_, sum)| sum).map(|(kind, _)| kind)
    }
}

/// `llama_ftype`, the values still written by llama.cpp.
fn file_type_name(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        25 => "IQ4_NL",
        30 => "IQ4_XS",
        32 => "BF16",
        38 => "MXFP4",
        _ => return None,
    })
}
