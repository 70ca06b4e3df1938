//! maitred with one thing switched off at a time, each between two runs with everything on.
//!
//! Two levels. Of the engine: batching, sharing, probes, forced text, unified cache and flash attention, over the very same
//! requests ([`maitred::bench::ratios`]). Of the pipeline, over the same restaurants: selection, permits, the order, the
//! store of facts.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::ensure;
use clap::Args;
use maitred::bench::ratios::{self, RatioFigures};
use maitred::bench::workload::Extent;
use maitred::config::Settings;
use maitred::job::Scope;
use maitred::runtime::{self, Loaded};
use maitred::store::memory::MemoryFacts;
use serde::{Deserialize, Serialize};

use crate::cli::{Common, say};
use crate::embedded;
use crate::jobs::{self, Timed};
use crate::report::Report;
use crate::sample::Size;

/// Flags.
#[derive(Debug, Args)]
pub struct Options {
    /// Restaurants and their reviews, in English
    file: PathBuf,
    /// Restaurants
    #[arg(long, default_value_t = 2)]
    restaurants: usize,
    /// Reviews of each in the engine's variants
    #[arg(long, default_value_t = 10)]
    reviews: usize,
    /// Leave the engine's variants out: without sharing they take minutes
    #[arg(long)]
    pipeline_only: bool,
}

/// A variant of the pipeline, beside ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What is off.
    pub without: String,
    /// Wall seconds with everything on: the mean of the runs before and after.
    pub ours_seconds: f64,
    /// Wall seconds without it.
    pub seconds: f64,
    /// Model tokens computed, with everything on and without it.
    pub tokens: [u64; 2],
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Body {
    /// The pipeline's.
    pub pipeline: Vec<Row>,
    /// The engine's; absent if left out.
    pub engine: Option<RatioFigures>,
}

/// Runs the scenario.
pub async fn run(common: &Common, options: &Options) -> anyhow::Result<()> {
    let mut settings = common.settings()?;
    settings.analysis.scope = Scope::Selected;
    let mut loaded = runtime::load(&settings).await?;
    let identity = loaded.identity();
    let report = Report::begin("ablation", common.seed, (&identity.name, &identity.digest), &settings);
    let restaurants = jobs::restaurants(&options.file, &settings)?;
    let cold: Vec<Timed> = timed(restaurants.iter().take(options.restaurants).cloned());
    ensure!(!cold.is_empty(), "the file holds no restaurant");
    let pipeline = pipeline(&mut loaded, &settings, &restaurants, &cold).await?;
    // The engine's variants load the model themselves.
    drop(loaded);
    let engine = if options.pipeline_only {
        None
    } else {
        let extent = Extent { restaurants: options.restaurants, reviews: options.reviews };
        let input = jobs::open(&options.file, &settings)?;
        Some(ratios::measure(&settings, input, extent, 1).await?)
    };
    for row in &pipeline {
        say(&line(row))?;
    }
    for variant in engine.iter().flat_map(|figures| &figures.variants) {
        let mark = if variant.sound { "" } else { "  (answers are not those asked for)" };
        say(&format!(
            "engine: {:<22} {:>7.2} s, {:>5.2} of ours, {:>6} prompt {:>5} sampled tokens, {:>4} calls{mark}",
            variant.name,
            variant.wall_seconds,
            variant.ratio,
            variant.prompt_tokens,
            variant.generated_tokens,
            variant.decode_calls
        ))?;
    }
    common.save(&report.with(&Body { pipeline, engine })?)
}

fn timed(jobs: impl Iterator<Item = maitred::job::Job>) -> Vec<Timed> {
    jobs.map(|job| Timed { at: 0.0, size: Size::Large, job }).collect()
}

async fn pipeline(
    loaded: &mut Loaded,
    settings: &Settings,
    restaurants: &[maitred::job::Job],
    cold: &[Timed],
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let fresh = || embedded::fresh_store(settings);
    let mut all = settings.clone();
    all.analysis.scope = Scope::All;
    let mut before = work(loaded, settings, cold, fresh()).await?;
    let off = work(loaded, &all, cold, fresh()).await?;
    let after = work(loaded, settings, cold, fresh()).await?;
    rows.push(row("selection: all reviews are read", before, off, after));
    before = after;
    let kept = loaded.config().clone();
    loaded.config_mut().context.sequences = 64 + kept.engine.prefixes;
    let off = work(loaded, settings, cold, fresh()).await;
    *loaded.config_mut() = kept.clone();
    let after = work(loaded, settings, cold, fresh()).await?;
    rows.push(row("permits: four times as many sequences", before, off?, after));
    before = after;
    loaded.config_mut().engine.policy.lambda = 0.0;
    let off = work(loaded, settings, cold, fresh()).await;
    *loaded.config_mut() = kept;
    let after = work(loaded, settings, cold, fresh()).await?;
    rows.push(row("order: first come first served, a drain", before, off?, after));
    // The same restaurants again, with one new review each: facts known, against all forgotten.
    let store = fresh();
    work(loaded, settings, cold, Arc::clone(&store)).await?;
    let next = cold
        .iter()
        .zip(1..)
        .map(|(timed, n)| jobs::with_a_new_review(&timed.job, &restaurants[n % restaurants.len()]));
    let next = timed(next.collect::<Vec<_>>().into_iter());
    let known = work(loaded, settings, &next, store).await?;
    let off = work(loaded, settings, &next, fresh()).await?;
    rows.push(row("store of facts: one new review each, all forgotten", known, off, known));
    Ok(rows)
}

/// Wall seconds and tokens.
type Measured = (f64, u64);

async fn work(
    loaded: &Loaded,
    settings: &Settings,
    trace: &[Timed],
    store: Arc<MemoryFacts>,
) -> anyhow::Result<Measured> {
    let at_once = settings.analysis.concurrent_restaurants;
    let run = embedded::run(loaded, settings, store, trace, Some(at_once)).await?;
    Ok((run.wall, run.samples.iter().map(|sample| sample.tokens).sum()))
}

fn row(without: &str, before: Measured, off: Measured, after: Measured) -> Row {
    Row {
        without: without.to_owned(),
        ours_seconds: f64::midpoint(before.0, after.0),
        seconds: off.0,
        tokens: [before.1, off.1],
    }
}

fn line(row: &Row) -> String {
    format!(
        "without {:<52} {:>7.2} s, {:>5.2} of ours ({:.2} s), {:>7} tokens instead of {}",
        row.without,
        row.seconds,
        row.seconds / row.ours_seconds,
        row.ours_seconds,
        row.tokens[1],
        row.tokens[0]
    )
}
