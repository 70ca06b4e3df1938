//! The engine at its real work, against a bare loop over the same batches.
//!
//! One side is `analyze`: clauses read, claims written and checked, a few restaurants at a time, with a recorder
//! around the backend. The other makes the recorded calls on a fresh context of the same settings and does nothing
//! else. What the engine adds (admission, batches, logits, answers, and the analyses beside it on the same cores) is
//! the difference. Time is the engine thread's, in steps: neither embedding nor waiting for work counts.

use std::time::Instant;

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::median;
use super::record::{Log, Recorder};
use super::workload;
use crate::analyst::metrics::{Maker, WORKER};
use crate::config::Settings;
use crate::embedded::{self, Books, RunOptions};
use crate::engine::EngineStats;
use crate::engine::llama::{ContextSettings, LlamaContextBackend, Model};
use crate::input::JobReader;
use crate::runtime::{self, Loaded};
use crate::stats::RunStats;

/// Figures of the comparison; times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EfficiencyFigures {
    /// The language model.
    pub model: String,
    /// Restaurants worked in each round.
    pub restaurants: u64,
    /// Reviews read in each round.
    pub reviews: u64,
    /// Prompt tokens decoded in the first round, heads and fixed text included.
    pub prompt_tokens: u64,
    /// Sampled tokens decoded in the first round.
    pub sampled_tokens: u64,
    /// Decode calls of the first round.
    pub decode_calls: u64,
    /// Mean sequences in a call.
    pub sequences_per_call: f64,
    /// Every round.
    pub rounds: Vec<Round>,
    /// Median of the engine's tokens per second.
    pub engine_tokens_per_second: f64,
    /// Median of the bare loop's tokens per second.
    pub bare_tokens_per_second: f64,
    /// Median over the rounds of engine to bare.
    pub ratio: f64,
    /// Median share of the engine's time that is spent in the decode call.
    pub decode_share: f64,
}

/// One round: the engine, then the bare loop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Round {
    /// Tokens decoded on either side.
    pub tokens: u64,
    /// Time of the engine's steps.
    pub engine_seconds: f64,
    /// Of that, inside the decode calls.
    pub decode_seconds: f64,
    /// Time of the bare loop.
    pub bare_seconds: f64,
    /// Time inside the embedding model, on neither side.
    pub embedding_seconds: f64,
    /// Wall time of the run.
    pub wall_seconds: f64,
}

impl Round {
    /// The engine's speed in units of the bare loop's: both decoded the same tokens.
    pub fn ratio(&self) -> f64 {
        self.bare_seconds / self.engine_seconds
    }
}

/// What the engine's side gave.
struct Worked {
    run: RunStats,
    stats: EngineStats,
    log: Log,
}

/// Works the first `limit` restaurants of what `open` opens, in each of `rounds` rounds. Must run within a tokio
/// runtime.
pub async fn measure(
    settings: &Settings,
    open: impl Fn() -> anyhow::Result<JobReader>,
    limit: Option<u64>,
    rounds: usize,
) -> anyhow::Result<EfficiencyFigures> {
    let loaded = runtime::load(settings).await?;
    let mut measured = Vec::new();
    for round in 0..rounds {
        let worked = work(&loaded, settings, open()?, limit).await?;
        let (model, context) = (loaded.language_model().clone(), loaded.config().context);
        let Worked { run, stats, log } = worked;
        let (log, bare_seconds) = tokio::task::spawn_blocking(move || {
            let seconds = replay(&model, &context, &log)?;
            anyhow::Ok((log, seconds))
        })
        .await??;
        let figures = Round {
            tokens: log.tokens() as u64,
            engine_seconds: stats.core.busy_time.as_secs_f64(),
            decode_seconds: stats.core.decode_time.as_secs_f64(),
            bare_seconds,
            embedding_seconds: stats.embedding_time.as_secs_f64(),
            wall_seconds: run.wall_seconds,
        };
        tracing::info!(round, ratio = figures.ratio(), tokens = figures.tokens, "measured");
        measured.push((figures, run, stats));
    }
    summarise(measured).context("no round was measured")
}

/// The engine's side: everything that `analyze` does, with nothing known before.
async fn work(
    loaded: &Loaded,
    settings: &Settings,
    input: JobReader,
    limit: Option<u64>,
) -> anyhow::Result<Worked> {
    let (done, is_done) = oneshot::channel();
    let reader = loaded
        .reader(runtime::read_settings(settings), move |server, backend, embedders| {
            let mut log = Log::default();
            let stats = server.serve(Recorder::new(backend, &mut log), embedders);
            // Nobody listens only if the run has failed, and says so itself.
            let _ = done.send((stats, log));
        })
        .await?;
    let options = RunOptions {
        limit,
        concurrent: settings.analysis.concurrent_restaurants,
        maker: Maker::new(WORKER.into(), reader.engine().device(), settings),
    };
    let (analyst, stop) = (workload::analyst(reader, settings), CancellationToken::new());
    // The run drops the last handle, so the engine's thread ends, and its contexts are gone before the bare loop's
    // are made.
    let run = embedded::run(analyst, input, options, Books::default(), stop, |_| Ok(())).await?;
    let (stats, log) = is_done.await.context("the engine thread ended without a word")?;
    let counted = stats.core.prefill_tokens + stats.core.decode_tokens;
    ensure!(
        run.refused == 0,
        "{} lines of the input cannot be used; figures over the rest mislead",
        run.refused
    );
    ensure!(
        stats.core.failed + stats.core.evictions == 0,
        "{} requests failed and {} were put back; figures over the rest mislead",
        stats.core.failed,
        stats.core.evictions
    );
    ensure!(counted == log.tokens() as u64, "{counted} tokens were counted, {} recorded", log.tokens());
    Ok(Worked { run, stats, log })
}

/// The bare loop's side.
fn replay(model: &Model, context: &ContextSettings, log: &Log) -> anyhow::Result<f64> {
    let mut backend = LlamaContextBackend::new(model, context)?;
    let begun = Instant::now();
    log.replay(&mut backend)?;
    Ok(begun.elapsed().as_secs_f64())
}

fn summarise(measured: Vec<(Round, RunStats, EngineStats)>) -> Option<EfficiencyFigures> {
    let (_, run, stats) = measured.first()?;
    let (run, core) = (run.clone(), stats.core);
    let rounds: Vec<Round> = measured.into_iter().map(|(round, ..)| round).collect();
    let over = |value: fn(&Round) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
    Some(EfficiencyFigures {
        model: run.model.map(|model| model.name).unwrap_or_default(),
        restaurants: run.restaurants.total(),
        reviews: run.usage.reviews_read.into(),
        prompt_tokens: core.prefill_tokens,
        sampled_tokens: core.decode_tokens,
        decode_calls: core.steps,
        sequences_per_call: core.sequence_steps as f64 / core.steps.max(1) as f64,
        engine_tokens_per_second: over(|round| round.tokens as f64 / round.engine_seconds)?,
        bare_tokens_per_second: over(|round| round.tokens as f64 / round.bare_seconds)?,
        ratio: over(Round::ratio)?,
        decode_share: over(|round| round.decode_seconds / round.engine_seconds)?,
        rounds,
    })
}
