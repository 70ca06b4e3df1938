//! The report of a run: one JSON file with all that a reader needs to judge the figures, or to run it again.

use std::path::Path;

use anyhow::Context;
use maitred::config::Settings;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

/// A run and its figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Format of this file.
    pub v: u32,
    /// Name of the scenario.
    pub scenario: String,
    /// The command line.
    pub command: Vec<String>,
    /// When it began, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub began: OffsetDateTime,
    /// Version of the program.
    pub version: String,
    /// What it ran on.
    pub machine: Machine,
    /// Name of the language model, or `simulated`.
    pub model: String,
    /// SHA-256 of its file.
    pub model_digest: String,
    /// What all random choices were drawn from.
    pub seed: u64,
    /// Settings that matter to speed.
    pub settings: Value,
    /// What the scenario measured, in its own form.
    pub body: Value,
}

/// What a run ran on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Cores that the process may use.
    pub cores: usize,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Operating system and architecture.
    pub system: String,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let line = |file: &str, name: &str| {
            let text = std::fs::read_to_string(file).ok()?;
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let kilobytes = line("/proc/meminfo", "MemTotal")
            .and_then(|text| text.strip_suffix("kB").and_then(|text| text.trim().parse::<u64>().ok()));
        Self {
            processor: line("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: kilobytes.map(|kilobytes| kilobytes * 1024),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

/// The settings that matter to speed.
pub fn settings(settings: &Settings) -> Value {
    let (engine, analysis) = (&settings.engine, &settings.analysis);
    serde_json::json!({
        "backend": format!("{:?}", engine.backend),
        "sequences": engine.sequences,
        "context_cells": engine.context_cells,
        "batch_tokens": engine.batch_tokens,
        "embed_batch_tokens": engine.embed_batch_tokens,
        "threads": engine.threads,
        "kv_unified": engine.kv_unified,
        "flash_attention": engine.flash_attention,
        "gpu_layers": engine.gpu_layers,
        "order": format!("{:?}", settings.scheduler.order),
        "lambda": settings.scheduler.lambda,
        "scope": format!("{:?}", analysis.scope),
        "top_k": analysis.top_k,
        "words": analysis.words,
    })
}

impl Report {
    /// A report with everything but the figures. `model`: its name and digest.
    pub fn begin(scenario: &str, seed: u64, model: (&str, &str), used: &Settings) -> Self {
        Self {
            v: 1,
            scenario: scenario.to_owned(),
            command: std::env::args().collect(),
            began: OffsetDateTime::now_utc(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::this(),
            model: model.0.to_owned(),
            model_digest: model.1.to_owned(),
            seed,
            settings: settings(used),
            body: Value::Null,
        }
    }

    /// With the scenario's figures.
    pub fn with(mut self, body: &impl Serialize) -> anyhow::Result<Self> {
        self.body = serde_json::to_value(body)?;
        Ok(self)
    }

    /// Writes it.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// Reads one that was written.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not a report of this program", path.display()))
    }
}
