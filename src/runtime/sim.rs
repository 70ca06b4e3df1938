//! Readers on the engine without a model: the pipeline is the real one, what it says of reviews means nothing.
//!
//! For tests of a fleet: times pass as modelled, and a text can be made to crash or hang the process in mid-decode, as
//! a model's library might.

use std::convert::Infallible;
use std::sync::Arc;

use super::{PREFIXES, StartError, policy, step_log, watched};
use crate::analysis::pack::LanguagePack;
use crate::analysis::reader::{EmbedderInfo, ModelIdentity, ReadSettings, Reader};
use crate::config::{Settings, SimSettings};
use crate::engine::backend::ContextShape;
use crate::engine::handle::Watcher;
use crate::engine::sim::{Pace, SimBackend, SimCosts, SimEmbedder, SimTokenizer, StepHook};
use crate::engine::step_log::StepLog;
use crate::engine::{BatchToken, Embedder, Engine, EngineConfig, Monotonic, Token};
use crate::job::Language;
use crate::scheduler::DeviceClass;

/// Name and digest in results, so that nobody takes them for a model's.
const SIMULATED: &str = "simulated";
/// Tokens are bytes here, so that prompts are some four times as long as a model's.
const BYTES_PER_TOKEN: u32 = 4;
/// Cells that hold the prompt heads of two languages, in bytes.
const LEAST_CELLS: u32 = 65_536;

/// Starts the engine. Must run within a tokio runtime.
pub(super) fn start(
    settings: &Settings,
    read: ReadSettings,
    watcher: Option<Watcher>,
) -> Result<Reader, StartError> {
    tracing::warn!("engine.backend = \"sim\": no model reads the reviews, results mean nothing");
    let languages = [Language::En, Language::Ko]
        .into_iter()
        .map(|language| Ok((LanguagePack::load(language, settings.prompts_dir.as_deref())?, embedder())))
        .collect::<Result<Vec<_>, StartError>>()?;
    let (backend, steps) = (backend(settings), step_log(settings)?);
    let config = EngineConfig {
        prefixes: PREFIXES,
        step_limit: settings.engine.step_limit,
        device: DeviceClass::Cpu,
        policy: policy(settings),
    };
    let (engine, _) = Engine::start(config, Arc::new(Monotonic::default()), move |server| {
        let server = StepLog::attach(steps, watched(server, watcher));
        server.serve(backend(), vec![Box::new(SimEmbedder) as Box<dyn Embedder>]);
        Ok::<(), Infallible>(())
    })?;
    let identity = ModelIdentity { name: SIMULATED.into(), digest: SIMULATED.into() };
    let reader = Reader::new(engine, Arc::new(SimTokenizer), identity, languages, None, read);
    Ok(reader.in_groups_of(settings.analysis.group_tokens))
}

/// Makes the backend on the engine's thread: it is not one that may move.
fn backend(settings: &Settings) -> impl FnOnce() -> SimBackend + Send + 'static {
    let engine = &settings.engine;
    let cells = engine.context_cells.saturating_mul(BYTES_PER_TOKEN).max(LEAST_CELLS);
    let shape = ContextShape {
        sequences: u16::try_from(engine.sequences).unwrap_or(u16::MAX).saturating_add(PREFIXES),
        cells,
        cells_per_sequence: cells,
        batch_tokens: engine.batch_tokens.saturating_mul(BYTES_PER_TOKEN),
        unified: true,
    };
    let sim = settings.sim;
    move || {
        let costs = SimCosts { step: sim.step, token: sim.token };
        SimBackend::new(shape, costs, Pace::Real).with_hook(faults(sim))
    }
}

/// What a text can do to the process.
fn faults(sim: SimSettings) -> StepHook {
    let holds = |batch: &[BatchToken], byte: Option<u8>| {
        byte.is_some_and(|byte| batch.iter().any(|item| item.token == Token(i32::from(byte))))
    };
    Box::new(move |batch| {
        if holds(batch, sim.abort_byte) {
            tracing::error!("sim.abort_byte: aborting, as a model's library might");
            std::process::abort();
        }
        while holds(batch, sim.hang_byte) {
            std::thread::park();
        }
    })
}

fn embedder() -> EmbedderInfo {
    EmbedderInfo {
        index: 0,
        name: SIMULATED.into(),
        digest: SIMULATED.into(),
        text_prefix: String::new(),
        tokenizer: Arc::new(SimTokenizer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyst::Analyst;
    use crate::job::Job;
    use crate::result::Outcome;
    use crate::store::memory::MemoryFacts;

    const JOB: &str = r#"{"v":1,"job_id":"j","restaurant_id":"r","analyses":["sentiment","summary","strengths"],
        "reviews":[{"id":"a","text":"The noodles were great. The waiter was rude!"},{"id":"b","text":"Good soup."}]}"#;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_whole_pipeline_runs_without_a_model() {
        let mut settings = Settings::default();
        settings.sim.step = std::time::Duration::from_micros(10);
        settings.sim.token = std::time::Duration::from_nanos(10);
        let reader = start(&settings, super::super::read_settings(&settings), None).unwrap();
        let store = Arc::new(MemoryFacts::new(1 << 20));
        let analyst = Analyst::new(Arc::new(reader), store, settings.analysis, "w".into());
        let job: Job = serde_json::from_str(JOB).unwrap();
        assert!(analyst.price(&job).await.get() > 0.0);
        let worked = analyst.work(&job, analyst.place()).await;
        assert_eq!(worked.result.outcome, Outcome::Ok, "{:?}", worked.result.outcomes);
        assert_eq!(worked.result.sentiment.unwrap().total, 2);
    }
}
