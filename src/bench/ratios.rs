//! What the engine's ideas are worth: the same questions, each variant between two runs of ours.
//!
//! Speed drifts on a shared machine, so a variant's ratio is its time over the mean of the two runs of ours beside
//! it. A time counts only if the answers are what was asked for: labels that agree with ours, texts that are there.
//! Such answers are called sound; the others' times are given, and marked.

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::sync::oneshot;

use super::drive::{self, Run, Text, Workload};
use super::median;
use super::variant::{OTHERS, OURS, Setup, Variant, agreement};
use super::workload::{self, Extent};
use crate::analysis::claims::check;
use crate::config::Settings;
use crate::engine::core::Core;
use crate::engine::llama::{ContextSettings, LlamaConfig, LlamaContextBackend, Model};
use crate::engine::{Clock, Monotonic, Tokenizer};
use crate::input::JobReader;
use crate::runtime;

/// Least share of labels that must agree with ours, and of texts (of those that ours has) that must be whole.
const LEAST_SOUND: f64 = 0.9;

/// Figures of the comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RatioFigures {
    /// The language model.
    pub model: String,
    /// Reviews worked.
    pub reviews: usize,
    /// Labels asked for.
    pub labels: usize,
    /// Texts asked for.
    pub claims: usize,
    /// Times that each variant was worked.
    pub rounds: usize,
    /// Ours first.
    pub variants: Vec<VariantFigures>,
}

/// How a variant did. Counts are of its first run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VariantFigures {
    /// Its name.
    pub name: &'static str,
    /// Median wall time in seconds.
    pub wall_seconds: f64,
    /// Median over the rounds of its time to that of ours.
    pub ratio: f64,
    /// Shortest and longest wall time.
    pub spread_seconds: [f64; 2],
    /// Prompt tokens computed, heads and fixed text included.
    pub prompt_tokens: u64,
    /// Prompt tokens taken from pinned heads.
    pub reused_tokens: u64,
    /// Tokens sampled.
    pub generated_tokens: u64,
    /// Decode calls.
    pub decode_calls: u64,
    /// KV cells of its context.
    pub cells: u32,
    /// Share of the labels that agree with ours.
    pub label_agreement: f64,
    /// Texts that hold a whole sentence.
    pub whole_claims: usize,
    /// Whether its answers are what was asked for; if not, its time says nothing.
    pub sound: bool,
}

/// Takes the workload from `input` and works it in every variant, `rounds` times. Must run within a tokio runtime.
pub async fn measure(
    settings: &Settings,
    input: JobReader,
    extent: Extent,
    rounds: usize,
) -> anyhow::Result<RatioFigures> {
    let loaded = runtime::load(settings).await?;
    let (done, is_done) = oneshot::channel();
    let reader = loaded
        .reader(runtime::read_settings(settings), move |server, backend, embedders| {
            server.serve(backend, embedders);
            // Nobody listens only if taking the workload has failed, and says so itself.
            let _ = done.send(());
        })
        .await?;
    let model = reader.model().name.clone();
    let analyst = workload::analyst(reader, settings);
    let taken = workload::take(input, &analyst, extent).await?;
    // The last handle: contexts of the reader's engine must be gone before others are made.
    drop(analyst);
    is_done.await.context("the engine thread ended without a word")?;
    let count = |of: fn(&drive::Place) -> usize| taken.workload.places.iter().map(of).sum::<usize>();
    let (labels, claims) = (count(|place| place.labels.len()), count(|place| place.claims.len()));
    tracing::info!(reviews = taken.reviews, labels, claims, "workload taken");
    let bench = Bench {
        model: loaded.language_model().clone(),
        config: loaded.config().clone(),
        workload: taken.workload,
    };
    let variants = tokio::task::spawn_blocking(move || bench.compare(rounds)).await??;
    Ok(RatioFigures { model, reviews: taken.reviews, labels, claims, rounds, variants })
}

struct Bench {
    model: Model,
    config: LlamaConfig,
    workload: Workload,
}

/// The runs of one variant, each with its time as a multiple of ours.
struct Series {
    variant: Variant,
    runs: Vec<Run>,
    ratios: Vec<f64>,
}

impl Bench {
    /// Ours, a variant, ours, the next variant, …, ours.
    fn compare(&self, rounds: usize) -> anyhow::Result<Vec<VariantFigures>> {
        let mut ours = Series { variant: OURS, runs: vec![self.run(&OURS)?], ratios: vec![1.0] };
        let reference = ours.runs[0].clone();
        let (labels, whole) = (reference.labels.iter().flatten().count(), self.whole(&reference));
        ensure!(
            labels == reference.labels.len(),
            "only {labels} of {} labels were read",
            reference.labels.len()
        );
        ensure!(
            whole > 0,
            "none of {} claims is a sentence: nothing to compare with",
            reference.claims.len()
        );
        let mut others = OTHERS.map(|variant| Series { variant, runs: Vec::new(), ratios: Vec::new() });
        for _ in 0..rounds {
            for other in &mut others {
                let run = self.run(&other.variant)?;
                let after = self.run(&OURS)?;
                // `ours` begins with one run.
                let before = ours.runs.last().map_or(after.wall, |run| run.wall);
                let beside = (before + after.wall).as_secs_f64() / 2.0;
                other.ratios.push(run.wall.as_secs_f64() / beside);
                other.runs.push(run);
                ours.runs.push(after);
            }
        }
        std::iter::once(&ours)
            .chain(&others)
            .map(|runs| self.figures(runs, &reference).context("no round was measured"))
            .collect()
    }

    /// Works the workload on a fresh context; making the context is not measured.
    fn run(&self, variant: &Variant) -> anyhow::Result<Run> {
        let setup = self.setup(variant);
        let context = ContextSettings {
            sequences: setup.sequences,
            cells: setup.cells,
            unified: setup.unified,
            flash_attention: setup.flash_attention,
            ..self.config.context
        };
        let backend = LlamaContextBackend::new(&self.model, &context)?;
        let clock = Monotonic::default();
        let shared: std::sync::Arc<dyn Clock> = std::sync::Arc::new(clock.clone());
        let mut core = Core::new(backend, shared, self.config.engine.policy, setup.heads);
        let run = drive::run(&mut core, &clock, &self.workload, variant)
            .with_context(|| format!("variant `{}`", variant.name))?;
        tracing::info!(
            variant = variant.name,
            seconds = run.wall.as_secs_f64(),
            calls = run.counters.steps,
            "worked"
        );
        Ok(run)
    }

    fn setup(&self, variant: &Variant) -> Setup {
        let context = &self.config.context;
        let ours = Setup {
            sequences: context.sequences,
            heads: self.config.engine.prefixes,
            cells: context.cells,
            unified: context.unified,
            flash_attention: context.flash_attention,
        };
        variant.setup(ours, self.workload.reach())
    }

    fn figures(&self, runs: &Series, reference: &Run) -> Option<VariantFigures> {
        let first = runs.runs.first()?;
        let seconds: Vec<f64> = runs.runs.iter().map(|run| run.wall.as_secs_f64()).collect();
        let label_agreement = agreement(&reference.labels, &first.labels);
        let (whole_claims, expected) = (self.whole(first), self.whole(reference));
        Some(VariantFigures {
            name: runs.variant.name,
            wall_seconds: median(&seconds)?,
            ratio: median(&runs.ratios)?,
            spread_seconds: [
                seconds.iter().copied().fold(f64::INFINITY, f64::min),
                seconds.iter().copied().fold(0.0, f64::max),
            ],
            prompt_tokens: first.counters.prefill_tokens,
            reused_tokens: first.reused_tokens,
            generated_tokens: first.generated_tokens,
            decode_calls: first.counters.steps,
            cells: self.setup(&runs.variant).cells,
            label_agreement,
            whole_claims,
            sound: label_agreement >= LEAST_SOUND && whole_claims as f64 >= LEAST_SOUND * expected as f64,
        })
    }

    /// Texts that hold a whole sentence.
    fn whole(&self, run: &Run) -> usize {
        let is_whole =
            |(tokens, complete): &&Text| check::sentence(&self.model.detokenize(tokens), *complete).is_some();
        run.claims.iter().flatten().filter(is_whole).count()
    }
}
