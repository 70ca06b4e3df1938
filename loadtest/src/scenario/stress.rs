//! Whether anything breaks in the smallest context: many mixed jobs, some of them with texts far too large.
//!
//! The context is made as small as it can be and still hold the longest request that reading makes. Every job must end,
//! with findings or with a clear failure of its own; no decode call may fail for want of cells.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use fastrand::Rng;
use maitred::job::Review;
use maitred::result::Outcome;
use maitred::runtime;
use serde::{Deserialize, Serialize};

use crate::cli::{Common, say};
use crate::embedded;
use crate::jobs::{self, Mix, Timed};
use crate::report::Report;

/// Flags.
#[derive(Debug, Args)]
pub struct Options {
    /// Restaurants and their reviews; jobs are cut from them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Jobs
    #[arg(long, default_value_t = 500)]
    jobs: usize,
    /// Of 100 jobs, how many have a text far too large
    #[arg(long, default_value_t = 5)]
    too_large_percent: usize,
    /// KV cells of the context
    #[arg(long)]
    cells: u32,
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Jobs given.
    pub jobs: usize,
    /// Of those, the ones with a text far too large.
    pub too_large: usize,
    /// Cells of the context.
    pub cells: u32,
    /// Tokens of the longest text.
    pub longest_tokens: usize,
    /// Jobs that ended whole.
    pub ok: usize,
    /// Jobs that ended with some reviews unread.
    pub partial: usize,
    /// Jobs that ended as failures of their own.
    pub failed: usize,
    /// Decode calls that found no room.
    pub kv_failures: u64,
    /// Requests that were refused or failed.
    pub failed_requests: u64,
    /// Decode calls.
    pub calls: u64,
}

/// Runs the scenario.
pub async fn run(common: &Common, options: &Options) -> anyhow::Result<()> {
    let mut settings = common.settings()?;
    settings.engine.context_cells = options.cells;
    let loaded = runtime::load(&settings).await?;
    let identity = loaded.identity();
    let report = Report::begin("stress", common.seed, (&identity.name, &identity.digest), &settings);
    let mut restaurants = Vec::new();
    for file in &options.files {
        restaurants.extend(jobs::restaurants(file, &settings)?);
    }
    let mut rng = Rng::with_seed(common.seed);
    let mix = Mix { small: (1, 2), medium: (3, 6), medium_percent: 10, large: (20, 30), large_percent: 1 };
    let mut trace = jobs::mixed(&restaurants, &mix, options.jobs, &mut rng)?;
    let too_large = (options.jobs * options.too_large_percent).div_ceil(100);
    let limit = settings.limits.chars_per_review;
    for timed in rng.choose_multiple(trace.iter_mut(), too_large) {
        enlarge(timed, limit);
    }
    let longest = trace.iter().flat_map(|timed| &timed.job.reviews).max_by_key(|review| review.text.len());
    let longest = &longest.context("no jobs")?.text;
    let longest_tokens = maitred::engine::Tokenizer::tokenize(loaded.language_model(), longest, false).len();
    let store = embedded::fresh_store(&settings);
    let run = embedded::run(&loaded, &settings, store, &trace, None).await?;
    let mut body =
        Body { jobs: trace.len(), too_large, cells: options.cells, longest_tokens, ..Body::default() };
    for result in &run.results {
        *match result.outcome {
            Outcome::Partial { .. } => &mut body.partial,
            Outcome::Failed { .. } => &mut body.failed,
            _ => &mut body.ok,
        } += 1;
    }
    let core = run.stats.core;
    (body.kv_failures, body.failed_requests, body.calls) = (core.evictions, core.failed, core.steps);
    say(&format!(
        "{} jobs, {} with a text of up to {} tokens, in {} cells: {} ok, {} partial, {} failed; {} decode calls, {} without room, {} requests refused; {:.1} s",
        body.jobs,
        body.too_large,
        body.longest_tokens,
        body.cells,
        body.ok,
        body.partial,
        body.failed,
        body.calls,
        body.kv_failures,
        body.failed_requests,
        run.wall
    ))?;
    ensure!(body.ok + body.partial + body.failed == body.jobs, "a job did not end");
    common.save(&report.with(&body)?)
}

/// Replaces a review by one clause as long as is allowed: no stop, no comma, nowhere to cut.
fn enlarge(timed: &mut Timed, limit: usize) {
    let Some(review) = timed.job.reviews.first() else { return };
    let words: String = review.text.chars().filter(|c| c.is_alphanumeric() || *c == ' ').collect();
    let words = if words.trim().is_empty() { "soup ".to_owned() } else { words + " " };
    let text: String = words.chars().cycle().take(limit).collect();
    timed.job.reviews[0] = Review { text, ..review.clone() };
}
