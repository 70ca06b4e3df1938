//! Readers on llama.cpp: models found and verified, engine started, languages set up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{EMBED_TEXT_TOKENS, EMBEDDERS, PREFIXES, StartError, policy, step_log, watched};
use crate::analysis::pack::LanguagePack;
use crate::analysis::reader::{EmbedderInfo, ModelIdentity, ReadSettings, Reader};
use crate::config::Settings;
use crate::engine::fit::{DeviceKind, Placement};
use crate::engine::handle::{Server, Watcher};
use crate::engine::llama::{
    self, ContextSettings, EmbeddingSettings, LlamaConfig, LlamaContextBackend, Model, Models,
};
use crate::engine::step_log::StepLog;
use crate::engine::{Embedder, EngineConfig};
use crate::job::Language;
use crate::model::{ModelError, ModelKind, ModelStore, ResolvedModel, model_store};
use crate::scheduler::DeviceClass;

/// Texts in one call of the embedding model.
const EMBED_TEXTS: u16 = 64;

/// Finds and loads the models, and starts the engine. Must run within a tokio runtime.
pub(super) async fn start(
    settings: &Settings,
    read: ReadSettings,
    watcher: Option<Watcher>,
) -> Result<Reader, StartError> {
    let steps = step_log(settings)?;
    let loaded = load(settings).await?;
    loaded
        .reader(read, move |server, backend, embedders| {
            StepLog::attach(steps, watched(server, watcher)).serve(backend, embedders);
        })
        .await
}

/// Models found, verified and loaded, and what belongs to them: all that engines need to start.
pub struct Loaded {
    config: LlamaConfig,
    models: Models,
    identity: ModelIdentity,
    languages: Vec<(LanguagePack, EmbedderInfo)>,
    cache: PathBuf,
    group_tokens: usize,
}

/// Finds and loads the models. Must run within a tokio runtime.
pub async fn load(settings: &Settings) -> Result<Loaded, StartError> {
    let store = model_store(settings.models.dir.as_deref())?;
    let language_model = store.resolve_as(&settings.models.language, ModelKind::Language)?;
    let embedders = embedders(settings, &store)?;
    let mut config = llama_config(settings, &language_model, &embedders);
    let models = llama::load(&config).await?;
    config.engine.device = device_class(&models.placement);
    let mut languages = Vec::new();
    for (index, (spoken, model)) in embedders.iter().enumerate() {
        for &language in spoken {
            let pack = LanguagePack::load(language, settings.prompts_dir.as_deref())?;
            let info = EmbedderInfo {
                index,
                name: model.name.clone(),
                digest: model.sha256.to_string(),
                text_prefix: model.text_prefix().to_owned(),
                tokenizer: Arc::new(models.embeddings[index].clone()),
            };
            languages.push((pack, info));
        }
    }
    let identity = ModelIdentity { name: language_model.name, digest: language_model.sha256.to_string() };
    let (cache, group_tokens) = (prepared_dir(store.dir()), settings.analysis.group_tokens);
    Ok(Loaded { config, models, identity, languages, cache, group_tokens })
}

impl Loaded {
    /// How engines on these models are run.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The same, for the next engine: a benchmark runs several on the same models. What is loaded stays as it is.
    pub fn config_mut(&mut self) -> &mut LlamaConfig {
        &mut self.config
    }

    /// Name and digest of the language model.
    pub fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    /// The language model.
    pub fn language_model(&self) -> &Model {
        &self.models.language
    }

    /// Starts an engine whose thread runs `serve`, and a reader on it. Must run within a tokio runtime.
    pub async fn reader(
        &self,
        read: ReadSettings,
        serve: impl FnOnce(Server, LlamaContextBackend<'_>, Vec<Box<dyn Embedder + '_>>) + Send + 'static,
    ) -> Result<Reader, StartError> {
        let started = llama::start_with(self.models.clone(), &self.config, serve).await?;
        let tokenizer = Arc::new(started.language);
        let (identity, cache) = (self.identity.clone(), Some(self.cache.clone()));
        let reader = Reader::new(started.engine, tokenizer, identity, self.languages.clone(), cache, read);
        Ok(reader.in_groups_of(self.group_tokens))
    }
}

/// Whose times the scheduler begins with.
fn device_class(placement: &Placement) -> DeviceClass {
    match placement.devices.first().map(|device| device.kind) {
        None => DeviceClass::Cpu,
        Some(DeviceKind::Integrated) => DeviceClass::IntegratedGpu,
        Some(DeviceKind::Discrete) => DeviceClass::DiscreteGpu,
    }
}

/// Where calibrations are kept: beside the models they belong to.
fn prepared_dir(models: &Path) -> PathBuf {
    models.join("prepared")
}

/// The embedding models to load and the languages each serves. Under `auto` those that are installed; one that is
/// missing is only missed by jobs in its language, but none at all is an error.
fn embedders(
    settings: &Settings,
    store: &ModelStore,
) -> Result<Vec<(Vec<Language>, ResolvedModel)>, ModelError> {
    if let Some(reference) = &settings.models.embedding {
        let model = store.resolve_as(reference, ModelKind::Embedding)?;
        return Ok(vec![(vec![Language::En, Language::Ko], model)]);
    }
    let wanted = EMBEDDERS
        .into_iter()
        .filter(|(language, _)| settings.analysis.language.is_none_or(|l| l == *language));
    let mut found = Vec::new();
    let mut missing = None;
    for (language, name) in wanted {
        match store.resolve_as(name, ModelKind::Embedding) {
            Ok(model) => found.push((vec![language], model)),
            Err(error @ ModelError::NotInstalled { .. }) => {
                tracing::info!(language = language.code(), %error, "language not available");
                missing.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

fn llama_config(
    settings: &Settings,
    language: &ResolvedModel,
    embedders: &[(Vec<Language>, ResolvedModel)],
) -> LlamaConfig {
    let engine = &settings.engine;
    let threads = engine.threads.map_or(0, std::num::NonZero::get);
    LlamaConfig {
        language_model: language.path.clone(),
        embedding_models: embedders.iter().map(|(_, model)| model.path.clone()).collect(),
        gpu: llama::Gpu {
            layers: engine.gpu_layers,
            devices: engine.devices.clone(),
            cpu_fallback: engine.cpu_fallback,
        },
        context: ContextSettings {
            sequences: u16::try_from(engine.sequences).unwrap_or(u16::MAX).saturating_add(PREFIXES),
            cells: engine.context_cells,
            batch_tokens: engine.batch_tokens,
            micro_batch_tokens: engine.micro_batch_tokens,
            threads,
            unified: engine.kv_unified,
            flash_attention: engine.flash_attention,
            keys: engine.cache_type_k,
            values: engine.cache_type_v,
            offload_kqv: engine.offload_kqv,
        },
        embedding: EmbeddingSettings {
            text_tokens: EMBED_TEXT_TOKENS,
            batch_tokens: engine.embed_batch_tokens,
            batch_texts: EMBED_TEXTS,
            threads,
        },
        engine: EngineConfig {
            prefixes: PREFIXES,
            step_limit: engine.step_limit,
            // Known once the models are placed.
            device: DeviceClass::Cpu,
            policy: policy(settings),
        },
    }
}
