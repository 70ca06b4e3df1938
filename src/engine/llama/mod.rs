//! The engine on llama.cpp: the only module that calls the library, and the only one with `unsafe`.
//!
//! Thread rules: the library is initialised once per process; a model is shared by threads; a context belongs to
//! the one thread that made it, and contexts are made one at a time (creating two of one model in parallel is
//! unsound in the binding), which holds because only the engine thread makes them.
//!
//! Hazards this module keeps from its callers (each aborts the process or corrupts memory): sequence ids outside
//! the context, batches longer than `n_batch`, logits of a token that asked for none, copies of part of a
//! sequence under split KV, missing model files.

mod context;
mod device;
mod embedding;
pub mod quantize;
mod start;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};

pub use context::{ContextSettings, LlamaContextBackend};
pub use embedding::{EmbeddingSettings, LlamaEmbedder};
pub use start::{LlamaConfig, Models, Started, load, start, start_with};

use super::backend::{Token, Tokenizer};
use super::fit::Shortfall;
pub use super::fit::{CacheType, Gpu, Placement};

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LlamaError {
    /// The library could not be initialised.
    #[error("llama.cpp could not be initialised: {0}")]
    Init(String),
    /// The file is not there or not a model.
    #[error("model file {}: {reason}; check it with `maitred model info`", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// The library's words.
        reason: String,
    },
    /// The GPUs cannot be used as asked, and the CPU may not stand in.
    #[error(
        "no layers can go to a GPU: {0}; to run on the CPU instead, set engine.cpu_fallback = true or \
         engine.gpu_layers = 0"
    )]
    Gpu(Shortfall),
    /// Settings that the library refuses, mostly for want of memory.
    #[error(
        "a context of {cells} cells for {sequences} sequences could not be made ({reason}); \
         lower engine.context_cells or engine.sequences"
    )]
    Context {
        /// Cells asked for.
        cells: u32,
        /// Sequences asked for.
        sequences: u32,
        /// The library's words.
        reason: String,
    },
}

/// The library, initialised at first use.
pub(crate) fn library() -> Result<&'static LlamaBackend, LlamaError> {
    static LIBRARY: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    LIBRARY
        .get_or_init(|| {
            send_logs_to_tracing(LogOptions::default().with_logs_enabled(true));
            LlamaBackend::init().map_err(|error| error.to_string())
        })
        .as_ref()
        .map_err(|reason| LlamaError::Init(reason.clone()))
}

/// A loaded model: weights and vocabulary, shared by threads.
#[derive(Debug, Clone)]
pub struct Model {
    inner: Arc<LlamaModel>,
    control: Arc<Vec<bool>>,
}

impl Model {
    /// Loads the weights to where they shall lie.
    pub fn load(path: &Path, placement: &Placement) -> Result<Self, LlamaError> {
        let numbers: Vec<usize> = placement.devices.iter().map(|device| device.number).collect();
        // An empty list keeps the library off GPUs altogether: without a list it would use them for large products,
        // whatever the number of layers.
        let params =
            LlamaModelParams::default()
                .with_n_gpu_layers(placement.layers)
                .with_devices(&numbers)
                .map_err(|error| LlamaError::Model { path: path.to_owned(), reason: error.to_string() })?;
        let inner = open(path, &params)?;
        let vocab = inner.vocab();
        let control =
            vocab.tokens().map(|token| vocab.is_control(token) || vocab.is_eog(token)).collect::<Vec<_>>();
        Ok(Self { inner: Arc::new(inner), control: Arc::new(control) })
    }

    /// Values per embedding.
    pub fn embedding_length(&self) -> usize {
        usize::try_from(self.inner.n_embd()).unwrap_or(0)
    }

    /// Positions the model was trained on.
    pub fn trained_context(&self) -> u32 {
        self.inner.n_ctx_train()
    }

    /// Whether each position sees the ones before it only, as reading labels and writing need. Embedding models
    /// such as BERT see the whole text and have no next token to tell.
    pub fn is_causal(&self) -> bool {
        let value = |key: &str| self.inner.meta_val_str(key).ok();
        let architecture = value("general.architecture").unwrap_or_default();
        value(&format!("{architecture}.attention.causal")).as_deref() != Some("false")
    }

    pub(crate) fn inner(&self) -> &LlamaModel {
        &self.inner
    }
}

impl Tokenizer for Model {
    fn tokenize(&self, text: &str, begin: bool) -> Vec<Token> {
        // `parse_special` is off: "<eos>" in a review is five characters, not the end of the prompt.
        self.inner.vocab().tokenize(text.as_bytes(), begin, false).into_iter().map(|t| Token(t.0)).collect()
    }

    fn piece(&self, token: Token) -> Vec<u8> {
        if self.is_control(token) {
            return Vec::new();
        }
        self.inner.vocab().token_to_piece(LlamaToken(token.0), false, None)
    }

    fn vocabulary(&self) -> usize {
        self.control.len()
    }

    fn is_control(&self, token: Token) -> bool {
        usize::try_from(token.0).ok().and_then(|index| self.control.get(index)).copied().unwrap_or(true)
    }
}

/// Loads what `params` ask for of the file.
fn open(path: &Path, params: &LlamaModelParams) -> Result<LlamaModel, LlamaError> {
    let refuse = |reason: String| LlamaError::Model { path: path.to_owned(), reason };
    // The binding panics on a missing file in debug builds, so it never sees one.
    if !path.is_file() {
        return Err(refuse("no such file".into()));
    }
    LlamaModel::load_from_file(library()?, path, params).map_err(|error| refuse(error.to_string()))
}

/// Threads for decode: those asked for, else all cores.
pub(crate) fn thread_count(asked: u32) -> i32 {
    let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = if asked == 0 { all } else { asked as usize };
    i32::try_from(count).unwrap_or(1)
}
