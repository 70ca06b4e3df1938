//! GGUF, the file format of llama.cpp: a writer for converted models and a reader for file headers.
//!
//! llama.cpp can read a header itself, but only by loading the file in C++, where a hostile or cut-off
//! file ends in an assertion, that is, in the death of the process. This module answers the questions
//! asked *before* a file is handed over: is it GGUF, is it whole, what is in it.
//!
//! Layout of a file, all numbers little-endian:
//!
//! ```text
//! "GGUF"  version:u32  tensors:u64  pairs:u64
//! pairs   × { key:string  type:u32  value }            string = length:u64 bytes
//! tensors × { name:string  n:u32  n × extent:u64  type:u32  offset:u64 }
//! padding to general.alignment (32 unless stated)
//! tensor data, each tensor padded to the alignment; offsets count from here
//! ```
//!
//! The reader never allocates more than the file has bytes, and it checks every extent against the file
//! size: a download that stopped half-way is reported as [`GgufError::Truncated`], not run.

mod reader;
mod summary;
mod types;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::{Arrays, Header, TensorInfo};
pub use summary::HeaderSummary;
pub use types::{MetaArray, MetaValue, TensorType, ValueType};
pub use writer::GgufBuilder;

/// First four bytes of every file.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// The version written, and the newest one read.
pub const VERSION: u32 = 3;
/// Alignment of tensor data where a file does not state its own, in bytes.
pub const DEFAULT_ALIGNMENT: u64 = 32;
/// ggml's limit on the dimensions of a tensor.
pub const MAX_DIMENSIONS: usize = 4;

const ALIGNMENT_KEY: &str = "general.alignment";

/// Why bytes are not a usable GGUF file, or cannot become one.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file could not be read.
    #[error("cannot read: {0}")]
    Io(#[from] std::io::Error),
    /// The first four bytes are something else.
    #[error("not a GGUF file: it starts with {found:02x?}")]
    NotGguf {
        /// What stands there instead of `GGUF`.
        found: [u8; 4],
    },
    /// A version this reader, and llama.cpp, does not read.
    #[error("GGUF version {0} is not supported (versions 2 and 3 are)")]
    UnsupportedVersion(u32),
    /// A file for machines of the other byte order.
    #[error("a big-endian GGUF file; only little-endian files are supported")]
    BigEndian,
    /// The file ends before its header or its tensors do.
    #[error("truncated: {needed} bytes are needed, the file has {actual}")]
    Truncated {
        /// Bytes that the header asks for, as far as it could be read.
        needed: u64,
        /// Bytes that are there.
        actual: u64,
    },
    /// The header contradicts itself or exceeds the format's limits.
    #[error("malformed header: {0}")]
    Malformed(String),
    /// A tensor handed to the writer does not have the bytes that its shape asks for.
    #[error("tensor {name}: {actual} bytes given, its shape takes {needed}")]
    WrongTensorSize {
        /// Name of the tensor.
        name: String,
        /// Bytes that shape and type take.
        needed: u64,
        /// Bytes given.
        actual: u64,
    },
}

fn malformed(what: impl Into<String>) -> GgufError {
    GgufError::Malformed(what.into())
}

/// `offset` rounded up to a multiple of `alignment`, a power of two; none past the end of `u64`.
fn align(offset: u64, alignment: u64) -> Option<u64> {
    debug_assert!(alignment.is_power_of_two());
    offset.checked_add(alignment - 1).map(|sum| sum & !(alignment - 1))
}
