//! The embedding model's context behind the [`Embedder`] trait: many short texts in one call, mean-pooled.

use std::num::NonZeroU32;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;

use super::{LlamaError, Model, library, thread_count};
use crate::engine::backend::{BackendError, Embedder, Token};

/// How the embedding context is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddingSettings {
    /// Tokens of a text that are read at most, as far as the model reads so many.
    pub text_tokens: u32,
    /// Tokens up to which texts are put into one call; a longer text has a call of its own.
    pub batch_tokens: u32,
    /// Texts of one call; at most 256.
    pub batch_texts: u16,
    /// Threads; 0 for all cores.
    pub threads: u32,
}

impl EmbeddingSettings {
    /// Tokens of the largest call, for a model that reads `trained` tokens at most.
    pub fn call_tokens(&self, trained: u32) -> u32 {
        self.text_tokens.min(trained).max(self.batch_tokens)
    }
}

/// An embedding context, owned by the engine thread.
pub struct LlamaEmbedder<'m> {
    context: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    settings: EmbeddingSettings,
    dimensions: usize,
    max_text_tokens: usize,
}

impl<'m> LlamaEmbedder<'m> {
    /// Makes a context over `model`.
    pub fn new(model: &'m Model, settings: EmbeddingSettings) -> Result<Self, LlamaError> {
        let call = settings.call_tokens(model.trained_context());
        let refuse = |reason: String| LlamaError::Context {
            cells: call,
            sequences: u32::from(settings.batch_texts),
            reason,
        };
        if settings.batch_texts == 0 || settings.batch_texts > 256 {
            return Err(refuse("texts of one embedding call must be 1 to 256".into()));
        }
        if settings.batch_tokens == 0 || settings.text_tokens == 0 {
            return Err(refuse("an embedding call must hold a token".into()));
        }
        let threads = thread_count(settings.threads);
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(call))
            .with_n_batch(call)
            // Non-causal attention needs the whole text in one micro-batch.
            .with_n_ubatch(call)
            .with_n_seq_max(u32::from(settings.batch_texts))
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_embeddings(true)
            .with_pooling_type(LlamaPoolingType::Mean)
            .with_kv_unified(true)
            .with_no_perf(true);
        let context =
            model.inner().new_context(library()?, params).map_err(|error| refuse(error.to_string()))?;
        Ok(Self {
            context,
            batch: LlamaBatch::new(call as usize, 1),
            settings,
            dimensions: model.embedding_length(),
            max_text_tokens: model.trained_context().min(settings.text_tokens) as usize,
        })
    }
}

impl Embedder for LlamaEmbedder<'_> {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn max_text_tokens(&self) -> usize {
        self.max_text_tokens
    }

    fn batch_tokens(&self) -> usize {
        self.settings.batch_tokens as usize
    }

    fn batch_texts(&self) -> usize {
        usize::from(self.settings.batch_texts)
    }

    fn embed(&mut self, texts: &[Vec<Token>]) -> Result<Vec<Vec<f32>>, BackendError> {
        let invalid = BackendError::Fatal { code: -1 };
        let fits = texts.len() <= self.batch_texts()
            && (texts.len() == 1 || texts.iter().map(Vec::len).sum::<usize>() <= self.batch_tokens())
            && texts.iter().all(|text| !text.is_empty() && text.len() <= self.max_text_tokens);
        if !fits {
            return Err(invalid);
        }
        self.batch.clear();
        for (seq, text) in (0i32..).zip(texts) {
            for (pos, token) in (0i32..).zip(text) {
                // Pooling wants every token as an output.
                self.batch.add(LlamaToken(token.0), pos, &[seq], true).map_err(|_| invalid.clone())?;
            }
        }
        self.context.clear_kv_cache();
        // For a model without a cache the library encodes here; `encode` itself crashes on models that have one.
        self.context.decode(&mut self.batch).map_err(|_| invalid.clone())?;
        self.context.synchronize();
        (0i32..)
            .zip(texts)
            .map(|(seq, _)| {
                self.context.embeddings_seq_ith(seq).map(<[f32]>::to_vec).map_err(|_| invalid.clone())
            })
            .collect()
    }
}
