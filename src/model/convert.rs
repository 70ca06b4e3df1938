//! Conversions of published weights into GGUF files that llama.cpp runs.
//!
//! Some models can be had everywhere as PyTorch or engine-specific files, but not as GGUF. Each module
//! here turns one such layout into the `bert` architecture of llama.cpp. They are pure: bytes in, bytes
//! out, no file system, no Python and no engine. And they are deterministic, so that the registry can pin
//! the digest of what comes out.
//!
//! A conversion checks whatever llama.cpp would *assert*: a vocabulary with a duplicate or a head count
//! that does not divide the width would end the worker's process later, not the conversion.

mod bert;
mod charsmap;
pub mod e5;
pub mod minilm;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use super::gguf::GgufError;

/// What a converted file says about itself; it does not change what the model computes.
#[derive(Clone, Debug)]
pub struct ModelCard<'a> {
    /// `general.name`.
    pub title: &'a str,
    /// `general.license`.
    pub licence: &'a str,
}

/// Why published weights could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A part that the conversion needs is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// A part is there but is not what this conversion was written for.
    #[error("unexpected content: {0}")]
    Unexpected(String),
    /// The payload ends too early.
    #[error("the payload ends at byte {len}, byte {needed} was needed for {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// End of that part, in bytes from the start.
        needed: u64,
        /// Length of the payload in bytes.
        len: u64,
    },
    /// A configuration is not valid JSON of the expected shape.
    #[error("{what}: {source}")]
    Json {
        /// Which file.
        what: &'static str,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The weights are not a valid safetensors file.
    #[error("model.safetensors: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// The inner archive cannot be read.
    #[error("model archive: {0}")]
    Archive(#[from] zip::result::ZipError),
    /// The result does not fit the format.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

fn unexpected(what: impl Into<String>) -> ConvertError {
    ConvertError::Unexpected(what.into())
}
