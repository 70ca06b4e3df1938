//! From settings to a running reader: models found and verified, engine started, languages set up.
//!
//! Shared by everything that reads reviews: `analyze`, `eval`, `bench`, and the worker.

#[cfg(feature = "llama")]
mod llama;
mod sim;

use std::path::Path;

use crate::analysis::pack::PackError;
use crate::analysis::reader::{ReadSettings, Reader};
use crate::config::{EngineKind, Settings};
use crate::engine::handle::{Server, Watcher};
use crate::engine::step_log::{StepLog, StepLogError};
use crate::input::{Columns, InputError, InputOptions, JobReader, JobTemplate};
use crate::job::{JobOptions, Language};
use crate::model::ModelError;
use crate::scheduler::Policy;

#[cfg(feature = "llama")]
pub use self::llama::{Loaded, load};

/// Sequences set aside for pinned prompt heads: polarity and claim, for two languages.
pub(crate) const PREFIXES: u16 = 4;

/// Tokens of a text that are embedded at most; the models that we know read 512.
pub(crate) const EMBED_TEXT_TOKENS: u32 = 1024;

/// The embedding models that "auto" stands for, each with the language that it is for.
pub(crate) const EMBEDDERS: [(Language, &str); 2] =
    [(Language::En, "all-minilm-l6-v2"), (Language::Ko, "multilingual-e5-small")];

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A model is missing or not what it should be.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The engine could not start.
    #[cfg(feature = "llama")]
    #[error(transparent)]
    Engine(#[from] crate::engine::llama::LlamaError),
    /// The engine's thread could not start.
    #[error("no engine thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The file for the steps cannot be written.
    #[error(transparent)]
    Steps(#[from] StepLogError),
    /// A prompt folder is not right.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// This build has no llama.cpp.
    #[error(
        "this build has no llama.cpp; build with the feature `llama`, or set engine.backend = \"sim\" for a test"
    )]
    NoLlama,
}

/// How the settings say reviews are read.
pub fn read_settings(settings: &Settings) -> ReadSettings {
    ReadSettings { label: settings.analysis.label_from, ..ReadSettings::default() }
}

/// A file of reviews, to be read under these settings.
pub fn input(file: &Path, settings: &Settings) -> Result<JobReader, InputError> {
    let job = JobTemplate {
        analyses: settings.analysis.analyses.clone(),
        language: settings.analysis.language,
        options: JobOptions::default(),
    };
    let limits = settings.limits.clone();
    JobReader::open(file, InputOptions { format: None, columns: Columns::default(), limits, job })
}

/// A reader on the engine that the settings ask for. Must run within a tokio runtime.
pub async fn start(settings: &Settings, read: ReadSettings) -> Result<Reader, StartError> {
    start_watched(settings, read, None).await
}

/// The same, with each step of the engine told to `watcher`.
#[cfg_attr(
    not(feature = "llama"),
    expect(clippy::unused_async, reason = "with llama.cpp it waits for the models")
)]
pub async fn start_watched(
    settings: &Settings,
    read: ReadSettings,
    watcher: Option<Watcher>,
) -> Result<Reader, StartError> {
    match settings.engine.backend {
        EngineKind::Sim => sim::start(settings, read, watcher),
        #[cfg(feature = "llama")]
        EngineKind::Llama => llama::start(settings, read, watcher).await,
        #[cfg(not(feature = "llama"))]
        EngineKind::Llama => Err(StartError::NoLlama),
    }
}

fn watched(server: Server, watcher: Option<Watcher>) -> Server {
    match watcher {
        Some(watcher) => server.watched_by(watcher),
        None => server,
    }
}

/// Where the engine's steps are to be written.
fn step_log(settings: &Settings) -> Result<Option<StepLog>, StepLogError> {
    settings.log.steps.as_deref().map(StepLog::open).transpose()
}

fn policy(settings: &Settings) -> Policy {
    Policy { order: settings.scheduler.order, lambda: settings.scheduler.lambda, ..Policy::default() }
}
