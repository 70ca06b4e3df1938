//! Where a step's time goes, and how well its cost was foreseen.
//!
//! Restaurants are read for the first time, one after the other, without words unless asked for. Busy time is the engine thread's: decode calls, the
//! steps around them, and embedding calls. Tokenizing and cutting happen on other threads; they are timed apart, over the
//! same texts.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use maitred::engine::step_log::StepLine;
use maitred::engine::{EngineStats, StepReport};
use maitred::runtime;
use serde::{Deserialize, Serialize};

use crate::cli::{Common, say};
use crate::embedded::{self, Run};
use crate::jobs::{self, Timed};
use crate::report::Report;
use crate::sample::{Size, quantile};

/// Steps at the start that are not judged: the cost model has seen nothing yet.
const LEARNING: usize = 30;

/// Flags.
#[derive(Debug, Args)]
pub struct Options {
    /// Restaurants and their reviews
    file: PathBuf,
    /// Restaurants to read
    #[arg(long, default_value_t = 4)]
    restaurants: usize,
    /// Have claims written, too: what they take is in no job's price
    #[arg(long)]
    words: bool,
    /// Also write each decode call as a line of JSON to this file
    #[arg(long, value_name = "FILE")]
    steps: Option<PathBuf>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Restaurants read.
    pub restaurants: usize,
    /// Wall time in seconds.
    pub wall_seconds: f64,
    /// Seconds inside llama.cpp's decode for the language model.
    pub decode_seconds: f64,
    /// Seconds inside the embedding model.
    pub embedding_seconds: f64,
    /// Seconds of reading logits: labels, sampling, answers.
    pub reading_seconds: f64,
    /// Seconds of admitting requests and building batches.
    pub bookkeeping_seconds: f64,
    /// Seconds that tokenizing all texts once takes, on other threads.
    pub tokenizing_seconds: f64,
    /// Decode calls.
    pub calls: u64,
    /// Tokens of a call at the mean.
    pub tokens_per_call: f64,
    /// Sequences of a call at the mean.
    pub sequences_per_call: f64,
    /// Time of both models' calls over the engine's busy time.
    pub model_share: f64,
    /// The same without embedding: decode over the steps' time.
    pub decode_share: f64,
    /// Predicted over actual time of a decode call, after the first ones: 5th, 50th, 95th percentile.
    pub step_ratio: [f64; 3],
    /// 90th percentile of the relative error of a call's prediction.
    pub step_error_p90: f64,
    /// 90th percentile of the relative error of what reading a job was expected to take, of its decode time; with words
    /// on, claims are in the time and not in the price. Absent for a single job.
    pub job_error_p90: Option<f64>,
    /// What each job but the first was expected to take, and its decode time, in seconds.
    pub prices: Vec<[f64; 2]>,
}

/// Runs the scenario.
pub async fn run(common: &Common, options: &Options) -> anyhow::Result<()> {
    let mut settings = common.settings()?;
    settings.analysis.words = options.words;
    let loaded = runtime::load(&settings).await?;
    let identity = loaded.identity();
    let report = Report::begin("profile", common.seed, (&identity.name, &identity.digest), &settings);
    let trace: Vec<Timed> = jobs::restaurants(&options.file, &settings)?
        .into_iter()
        .take(options.restaurants)
        .map(|job| Timed { at: 0.0, size: Size::Large, job })
        .collect();
    let texts = trace.iter().flat_map(|timed| &timed.job.reviews).map(|review| review.text.as_str());
    let begun = Instant::now();
    let tokens: usize = texts.map(|text| tokenize(&loaded, text)).sum();
    let tokenizing_seconds = begun.elapsed().as_secs_f64();
    tracing::info!(tokens, tokenizing_seconds, "tokenized");
    let store = embedded::fresh_store(&settings);
    let run = embedded::run(&loaded, &settings, store, &trace, Some(1)).await?;
    if let Some(path) = &options.steps {
        write_steps(&run.steps, path)?;
    }
    let body = Body { tokenizing_seconds, ..body(&run).context("nothing was decoded")? };
    say(&table(&body))?;
    common.save(&report.with(&body)?)
}

fn tokenize(loaded: &runtime::Loaded, text: &str) -> usize {
    use maitred::engine::Tokenizer;
    loaded.language_model().tokenize(text, false).len()
}

fn body(run: &Run) -> Option<Body> {
    let EngineStats { core, embedding_time, .. } = run.stats;
    let [decode, busy, reading, embedding] =
        [core.decode_time, core.busy_time, core.read_time, embedding_time].map(|time| time.as_secs_f64());
    let judged = run.steps.get(LEARNING..).filter(|steps| !steps.is_empty()).unwrap_or(&run.steps);
    let ratio = |(_, report): &(f64, StepReport)| report.predicted / report.step.decode_time.as_secs_f64();
    let ratios: Vec<f64> = judged.iter().map(ratio).collect();
    let errors: Vec<f64> = ratios.iter().map(|ratio| (ratio - 1.0).abs()).collect();
    let prices = prices(run);
    let errors_of_jobs: Vec<f64> =
        prices.iter().map(|[expected, actual]| (expected / actual - 1.0).abs()).collect();
    let calls = core.steps.max(1) as f64;
    Some(Body {
        restaurants: run.samples.len(),
        wall_seconds: run.wall,
        decode_seconds: decode,
        embedding_seconds: embedding,
        reading_seconds: reading,
        bookkeeping_seconds: busy - decode - reading,
        tokenizing_seconds: 0.0,
        calls: core.steps,
        tokens_per_call: (core.prefill_tokens + core.decode_tokens) as f64 / calls,
        sequences_per_call: core.sequence_steps as f64 / calls,
        model_share: (decode + embedding) / (busy + embedding),
        decode_share: decode / busy,
        step_ratio: [quantile(&ratios, 0.05)?, quantile(&ratios, 0.5)?, quantile(&ratios, 0.95)?],
        step_error_p90: quantile(&errors, 0.9)?,
        job_error_p90: quantile(&errors_of_jobs, 0.9),
        prices,
    })
}

/// Of each job but the first, what it was expected to take and what it took. Jobs run one after the other, so the decode
/// calls between two ends are one job's.
fn prices(run: &Run) -> Vec<[f64; 2]> {
    let mut samples: Vec<_> = run.samples.iter().collect();
    samples.sort_by(|a, b| a.finished.total_cmp(&b.finished));
    let actual = |from: f64, to: f64| -> f64 {
        let within = run.steps.iter().filter(|(at, _)| (from..to).contains(at));
        within.map(|(_, report)| report.step.decode_time.as_secs_f64()).sum()
    };
    let prices = samples.windows(2).map(|pair| [pair[1].cost, actual(pair[0].finished, pair[1].finished)]);
    prices.filter(|[_, actual]| *actual > 0.0).collect()
}

fn write_steps(steps: &[(f64, StepReport)], path: &PathBuf) -> anyhow::Result<()> {
    let lines: String = steps.iter().map(|(_, report)| StepLine::from(report).text()).collect();
    std::fs::write(path, lines).with_context(|| path.display().to_string())
}

fn table(body: &Body) -> String {
    let busy = body.decode_seconds + body.embedding_seconds + body.reading_seconds + body.bookkeeping_seconds;
    let row =
        |name: &str, seconds: f64| format!("{name:<34} {seconds:>9.3} s  {:>6.2} %", seconds / busy * 100.0);
    let [low, middle, high] = body.step_ratio;
    [
        format!(
            "{} restaurants in {:.1} s: {} calls, {:.0} tokens and {:.1} sequences a call",
            body.restaurants, body.wall_seconds, body.calls, body.tokens_per_call, body.sequences_per_call
        ),
        row("llama decode, language model", body.decode_seconds),
        row("llama decode, embedding model", body.embedding_seconds),
        row("reading logits and answering", body.reading_seconds),
        row("admitting and building batches", body.bookkeeping_seconds),
        format!("{:<34} {:>9.3} s  on other threads", "tokenizing all texts once", body.tokenizing_seconds),
        format!("model's share of busy time         {:>9.4}", body.model_share),
        format!("decode's share of the steps' time  {:>9.4}", body.decode_share),
        format!("predicted / actual, a call         {low:.2} .. {middle:.2} .. {high:.2} (5, 50, 95 %)"),
        format!("error of a call's prediction, p90  {:>8.1} %", body.step_error_p90 * 100.0),
        format!(
            "error of a job's price, p90        {:>10}",
            body.job_error_p90.map_or_else(|| "-".into(), |error| format!("{:.1} %", error * 100.0))
        ),
    ]
    .join("\n")
}
