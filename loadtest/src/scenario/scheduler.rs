//! What the order does to waiting, with the real model: the same trace under each order, near saturation.
//!
//! The offered load is set against what the machine can do, which a drain of the same jobs measures first.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use fastrand::Rng;
use maitred::config::Settings;
use maitred::runtime::{self, Loaded};
use maitred::scheduler::{Order, Policy};
use serde::{Deserialize, Serialize};

use crate::cli::{Common, say};
use crate::embedded::{self, Depth};
use crate::jobs::{self, Mix, Timed};
use crate::report::Report;
use crate::sample::{Figures, Sample, figures};

/// λ at which cost decides everything: shortest first.
const SHORTEST: f64 = 1e6;

/// Flags.
#[derive(Debug, Args)]
pub struct Options {
    /// Restaurants and their reviews; jobs are cut from them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Jobs of the trace
    #[arg(long, default_value_t = 100)]
    jobs: usize,
    /// Offered load over what a drain of the same jobs reaches
    #[arg(long, default_value_t = 0.95)]
    load: f64,
    /// λ of ours; without it, the setting's
    #[arg(long)]
    lambda: Option<f64>,
    /// Longest time to first token that counts as good service, in seconds; without it, the setting's
    #[arg(long)]
    sla: Option<f64>,
    /// Leave the finite drain under each order out
    #[arg(long)]
    no_drain: bool,
}

/// An order and how it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its name.
    pub order: String,
    /// λ; 0 is first come first served.
    pub lambda: f64,
    /// Over the open-loop run.
    pub figures: Figures,
    /// Seconds until all jobs ended that were all there at the start; absent if not measured.
    pub drain_seconds: Option<f64>,
    /// Samples of the open-loop run.
    pub samples: Vec<Sample>,
    /// Depth over its time.
    pub depth: Vec<Depth>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Shares and sizes of the jobs.
    pub mix: Mix,
    /// Jobs per second of a drain: what the machine can do with them.
    pub capacity: f64,
    /// Offered load over capacity.
    pub load: f64,
    /// First come first served is the first.
    pub orders: Vec<Outcome>,
}

/// Runs the scenario.
pub async fn run(common: &Common, options: &Options) -> anyhow::Result<()> {
    let mut settings = common.settings()?;
    // Jobs wait in the engine's heap, which is what is measured.
    settings.analysis.concurrent_restaurants = usize::MAX;
    let mut loaded = runtime::load(&settings).await?;
    let identity = loaded.identity().clone();
    let report = Report::begin("scheduler", common.seed, (&identity.name, &identity.digest), &settings);
    let mut restaurants = Vec::new();
    for file in &options.files {
        restaurants.extend(jobs::restaurants(file, &settings)?);
    }
    let mix = Mix::default();
    let mut rng = Rng::with_seed(common.seed);
    let mut trace = jobs::mixed(&restaurants, &mix, options.jobs, &mut rng)?;
    let ours = options.lambda.unwrap_or(settings.scheduler.lambda);
    let orders = [("fifo", 0.0), ("shortest first", SHORTEST), ("ours", ours)];
    let sla = options.sla.unwrap_or(settings.goodput.ttft.as_secs_f64());
    let mut drains = Vec::new();
    for (name, lambda) in orders.iter().rev().take(if options.no_drain { 1 } else { 3 }) {
        let run = work(&mut loaded, &settings, *lambda, &trace).await?;
        say(&format!("drain, {name}: {} jobs in {:.1} s", trace.len(), run.wall))?;
        drains.push((*lambda, run.wall));
    }
    let capacity = trace.len() as f64 / drains[0].1;
    let mut at = 0.0;
    for timed in &mut trace {
        // Exponential gaps: arrivals know nothing of each other.
        at -= (1.0 - rng.f64()).ln() / (capacity * options.load);
        timed.at = at;
    }
    let mut outcomes = Vec::new();
    for (name, lambda) in orders {
        let run = work(&mut loaded, &settings, lambda, &trace).await?;
        let figures = figures(&run.samples, sla).context("no jobs")?;
        say(&line(name, &figures))?;
        outcomes.push(Outcome {
            order: name.into(),
            lambda,
            figures,
            drain_seconds: drains
                .iter()
                .find(|(l, _)| l.to_bits() == lambda.to_bits())
                .map(|(_, wall)| *wall),
            samples: run.samples,
            depth: run.depth,
        });
    }
    let body = Body { mix, capacity, load: options.load, orders: outcomes };
    common.save(&report.with(&body)?)
}

async fn work(
    loaded: &mut Loaded,
    settings: &Settings,
    lambda: f64,
    trace: &[Timed],
) -> anyhow::Result<embedded::Run> {
    let order = if lambda > 0.0 { Order::PrefillCost } else { Order::Fifo };
    loaded.config_mut().engine.policy = Policy { order, lambda, ..Policy::default() };
    embedded::run(loaded, settings, embedded::fresh_store(settings), trace, None).await
}

fn line(name: &str, figures: &Figures) -> String {
    let times = |of: &Option<crate::sample::TtftFigures>| {
        of.map_or_else(|| "-".to_owned(), |t| format!("{:.2}/{:.2}/{:.2}", t.p50, t.p95, t.p99))
    };
    format!(
        "{name:<15} TTFT p50/p95/p99 s: small {}, medium {}, large {}; met {:.1} %, {:.3} jobs/s, goodput {:.3}, {:.0} tokens/s, {:.1} s",
        times(&figures.small),
        times(&figures.medium),
        times(&figures.large),
        figures.compliance * 100.0,
        figures.throughput,
        figures.goodput,
        figures.tokens_per_second,
        figures.makespan,
    )
}
