//! A minute of everything, ending in one line of ratios: whether the load test works, and whether what it measures is
//! grossly off. Over the project's own sample reviews; figures for people come from the other scenarios.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::Args;
use maitred::job::Job;
use maitred::runtime;
use serde::{Deserialize, Serialize};

use crate::cli::{Common, say};
use crate::embedded::{self, Run};
use crate::jobs::{self, Timed};
use crate::report::Report;
use crate::sample::Size;
use crate::simulate::{self, Cell, Class, Discipline, Mix, study};

/// Flags.
#[derive(Debug, Args)]
pub struct Options {
    /// Restaurants and their reviews
    #[arg(default_value = "data/sample-restaurants.jsonl")]
    file: PathBuf,
    /// Restaurants to read
    #[arg(long, default_value_t = 2)]
    restaurants: usize,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Model time of a first reading over that of reading one new review each.
    pub again: f64,
    /// Prompt tokens of a first reading over those of all reviews in the prompt of each analysis.
    pub tokens: f64,
    /// Time of a first reading one request at a time over that of many.
    pub batching: f64,
    /// Share of the steps' time inside decode.
    pub decode_share: f64,
    /// 95th percentile of the time to first token of small jobs over that under first come first served, in virtual time.
    pub order_simulated: f64,
}

/// Runs the scenario.
pub async fn run(common: &Common, options: &Options) -> anyhow::Result<()> {
    let settings = common.settings()?;
    let mut loaded = runtime::load(&settings).await?;
    let identity = loaded.identity();
    let report = Report::begin("smoke", common.seed, (&identity.name, &identity.digest), &settings);
    let restaurants = jobs::restaurants(&options.file, &settings)?;
    let first: Vec<Job> = restaurants.iter().take(options.restaurants).cloned().collect();
    let next = first
        .iter()
        .zip(1..)
        .map(|(job, n)| jobs::with_a_new_review(job, &restaurants[n % restaurants.len()]));
    let (cold, again) = (timed(first.clone()), timed(next.collect()));
    let store = embedded::fresh_store(&settings);
    let at_once = Some(settings.analysis.concurrent_restaurants);
    let ours = embedded::run(&loaded, &settings, Arc::clone(&store), &cold, at_once).await?;
    let known = embedded::run(&loaded, &settings, store, &again, at_once).await?;
    let sequences = loaded.config().context.sequences;
    loaded.config_mut().context.sequences = 1 + loaded.config().engine.prefixes;
    let alone = embedded::run(&loaded, &settings, embedded::fresh_store(&settings), &cold, at_once).await;
    loaded.config_mut().context.sequences = sequences;
    let alone = alone?;
    for (name, run) in [("cold", &ours), ("again", &known), ("one at a time", &alone)] {
        let ok = run.samples.iter().filter(|sample| sample.ok).count();
        say(&format!("{name}: {ok} of {} restaurants, {:.1} s", run.samples.len(), run.wall))?;
        ensure!(ok == run.samples.len(), "{name}: {} restaurants failed", run.samples.len() - ok);
    }
    let sum = |of: fn(&maitred::result::Usage) -> u64| {
        ours.results.iter().map(|result| of(&result.usage)).sum::<u64>() as f64
    };
    let core = ours.stats.core;
    let body = Body {
        again: model_seconds(&ours) / model_seconds(&known),
        tokens: sum(|usage| usage.prompt_tokens + usage.forced_tokens) / sum(|usage| usage.baseline_tokens),
        batching: model_seconds(&alone) / model_seconds(&ours),
        decode_share: core.decode_time.as_secs_f64() / core.busy_time.as_secs_f64(),
        order_simulated: order(&options.file, common.seed, settings.scheduler.lambda)?,
    };
    common.save(&report.with(&body)?)?;
    say(&format!(
        "ratios: one new review {:.1} x less model time; {:.2} of the prompt tokens; batching {:.2} x; decode {:.1} % of the steps; small-job TTFT p95 {:.2} of FIFO's (simulated)",
        body.again,
        body.tokens,
        body.batching,
        body.decode_share * 100.0,
        body.order_simulated
    ))
}

fn timed(jobs: Vec<Job>) -> Vec<Timed> {
    jobs.into_iter().map(|job| Timed { at: 0.0, size: Size::Large, job }).collect()
}

fn model_seconds(run: &Run) -> f64 {
    (run.stats.core.decode_time + run.stats.embedding_time).as_secs_f64()
}

/// A small trace in virtual time, first come first served and with our λ.
fn order(file: &std::path::Path, seed: u64, lambda: f64) -> anyhow::Result<f64> {
    let load = 0.9;
    let body = study(&simulate::Options {
        files: vec![file.to_owned()],
        seeds: vec![seed],
        jobs: 150,
        loads: vec![load],
        lambdas: vec![lambda],
        holds: Vec::new(),
        hold_loads: Vec::new(),
        shown_load: load,
        // The samples are small: so are the jobs.
        mix: Mix {
            small: Class { share: 0.7, least: 1, most: 1 },
            medium: Class { share: 0.2, least: 2, most: 4 },
            large: Class { share: 0.1, least: 8, most: 20 },
            zipf: 1.0,
        },
        ..simulate::Options::default()
    })?;
    let p95 = |discipline: Discipline| {
        let cell = body.cells.iter().find(|cell: &&Cell| cell.discipline == discipline)?;
        cell.figures.small.map(|small| small.p95)
    };
    let of = |discipline| p95(discipline).context("the trace has no small jobs");
    Ok(of(Discipline::Weighted(lambda))? / of(Discipline::Fifo)?)
}
