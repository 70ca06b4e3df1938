//! Quantization types that a model file can be brought to.
//!
//! The work is llama.cpp's (`engine::llama::quantize`); the model store only knows this interface, so that
//! it builds, and fetches whatever needs no quantizing, without the engine.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Target of a quantization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum QuantType {
    /// Eight bits per weight: as good as f16, and the fastest prompt processing on AVX2 for small models.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// Four bits per weight in plain blocks.
    #[serde(rename = "q4_0")]
    Q4_0,
    /// Four bits per weight in super-blocks, the important tensors at six.
    #[serde(rename = "q4_k_m")]
    Q4KM,
    /// Half precision.
    #[serde(rename = "f16")]
    F16,
}

impl QuantType {
    /// Every type, in the order of help texts.
    pub const ALL: [Self; 4] = [Self::Q8_0, Self::Q4_0, Self::Q4KM, Self::F16];

    /// llama.cpp's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4KM => "Q4_K_M",
            Self::F16 => "F16",
        }
    }
}

impl fmt::Display for QuantType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no quantization type.
#[derive(Debug, thiserror::Error)]
#[error("unknown quantization {0:?}; known are Q8_0, Q4_0, Q4_K_M and F16")]
pub struct UnknownQuantType(String);

impl FromStr for QuantType {
    type Err = UnknownQuantType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(text));
        known.ok_or_else(|| UnknownQuantType(text.to_owned()))
    }
}

/// Something that can quantize a model file.
pub trait Quantizer {
    /// Reads `input`, writes `output` (replacing it). The error text is for people.
    fn quantize(&self, input: &Path, output: &Path, to: QuantType) -> Result<(), String>;
}
