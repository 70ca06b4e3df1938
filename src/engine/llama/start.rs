//! Starting the engine on real models.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::device::{self, Report};
use super::{
    ContextSettings, EmbeddingSettings, Gpu, LlamaContextBackend, LlamaEmbedder, LlamaError, Model, Placement,
};
use crate::engine::backend::Embedder;
use crate::engine::clock::Monotonic;
use crate::engine::handle::{Engine, EngineConfig, Server};

/// What to load and how to run it.
#[derive(Debug, Clone)]
pub struct LlamaConfig {
    /// The language model's file.
    pub language_model: PathBuf,
    /// The embedding models' files; requests name them by index.
    pub embedding_models: Vec<PathBuf>,
    /// What shall go on GPUs.
    pub gpu: Gpu,
    /// The language context.
    pub context: ContextSettings,
    /// The embedding contexts.
    pub embedding: EmbeddingSettings,
    /// The engine around them.
    pub engine: EngineConfig,
}

/// A running engine and the tokenizers of its models.
#[derive(Clone)]
pub struct Started {
    /// The handle.
    pub engine: Engine,
    /// The language model.
    pub language: Model,
    /// The embedding models, in the order asked for.
    pub embeddings: Vec<Model>,
}

/// Loaded models; any number of engines can be started on them, one after the other or side by side.
#[derive(Clone)]
pub struct Models {
    /// The language model.
    pub language: Model,
    /// The embedding models, in the order asked for.
    pub embeddings: Vec<Model>,
    /// Where they lie.
    pub placement: Placement,
}

/// Loads the models and starts an engine on them.
pub async fn start(config: LlamaConfig) -> Result<Started, LlamaError> {
    let models = load(&config).await?;
    start_with(models, &config, |server, backend, embedders| {
        server.serve(backend, embedders);
    })
    .await
}

/// Decides where the models go, loads them, and says so.
pub async fn load(config: &LlamaConfig) -> Result<Models, LlamaError> {
    let config = config.clone();
    let loading = tokio::task::spawn_blocking(move || load_now(&config));
    loading.await.map_err(|error| LlamaError::Init(error.to_string()))?
}

fn load_now(config: &LlamaConfig) -> Result<Models, LlamaError> {
    let placement = device::place(config)?;
    let language = Model::load(&config.language_model, &placement)?;
    if !language.is_causal() {
        let reason = "an embedding model, which can neither read labels nor write".into();
        return Err(LlamaError::Model { path: config.language_model.clone(), reason });
    }
    let load = |path: &PathBuf| Model::load(path, &placement);
    let embeddings = config.embedding_models.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    Report::new(config, &placement, (&language, &embeddings)).log();
    Ok(Models { language, embeddings, placement })
}

/// Starts the engine thread and waits until its contexts stand. The thread then runs `serve`, which hands backend
/// and embedders to [`Server::serve`]; a benchmark wraps them first.
pub async fn start_with(
    models: Models,
    config: &LlamaConfig,
    serve: impl FnOnce(Server, LlamaContextBackend<'_>, Vec<Box<dyn Embedder + '_>>) + Send + 'static,
) -> Result<Started, LlamaError> {
    let (ready, is_ready) = oneshot::channel();
    let (context, embedding) = (config.context, config.embedding);
    let Models { language, embeddings, .. } = models.clone();
    let (engine, failure) = Engine::start(config.engine, Arc::new(Monotonic::default()), move |server| {
        // Contexts borrow the models, so both live on this thread's stack.
        let backend = LlamaContextBackend::new(&models.language, &context)?;
        let contexts = models
            .embeddings
            .iter()
            .map(|model| LlamaEmbedder::new(model, embedding).map(|e| Box::new(e) as Box<dyn Embedder + '_>))
            .collect::<Result<Vec<_>, _>>()?;
        // The caller may have gone; then the channel closes and serving ends by itself.
        let _ = ready.send(());
        serve(server, backend, contexts);
        Ok::<(), LlamaError>(())
    })
    .map_err(|error| LlamaError::Init(format!("no engine thread: {error}")))?;
    tokio::select! {
        Ok(()) = is_ready => Ok(Started { engine, language, embeddings }),
        Ok(error) = failure => Err(error),
        else => Err(LlamaError::Init("the engine thread ended at start".into())),
    }
}
