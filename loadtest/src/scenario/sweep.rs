//! Which engine settings pay: each variant between two runs of the settings in force, over the same reviews.
//!
//! A shared machine's speed drifts, so a variant's figure is its time over the mean of the two runs beside it.

use std::path::PathBuf;

use clap::Args;
use maitred::config::Settings;
use maitred::runtime::{self, Loaded};
use serde::{Deserialize, Serialize};

use crate::cli::{Common, say};
use crate::embedded;
use crate::jobs::{self, Timed};
use crate::report::Report;
use crate::sample::Size;

/// Cells of each sequence where they are split: a head and the longest request.
const SPLIT_CELLS: u32 = 1024;

/// Flags.
#[derive(Debug, Args)]
pub struct Options {
    /// Restaurants and their reviews
    file: PathBuf,
    /// Restaurants
    #[arg(long, default_value_t = 2)]
    restaurants: usize,
    /// Reviews of each
    #[arg(long, default_value_t = 15)]
    reviews: usize,
    /// Only variants whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Times that each variant is worked
    #[arg(long, default_value_t = 1)]
    rounds: usize,
}

/// A variant and how it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Seconds inside both models, the median of the rounds.
    pub seconds: f64,
    /// Of that, inside the embedding model.
    pub embedding_seconds: f64,
    /// Its time over that of the settings in force, the median of the rounds: below 1 is faster.
    pub ratio: f64,
    /// Seconds to the first label of any restaurant.
    pub first_label: f64,
    /// Decode calls.
    pub calls: u64,
    /// Sequences of a call at the mean.
    pub sequences_per_call: f64,
}

type Change = fn(&mut Settings, &mut maitred::engine::llama::LlamaConfig);

/// Sets sequences, pinned ones beside them.
macro_rules! sequences {
    ($count:expr) => {
        |_, config| config.context.sequences = $count + config.engine.prefixes
    };
}

const VARIANTS: [(&str, Change); 22] = [
    ("4 sequences", sequences!(4)),
    ("8 sequences", sequences!(8)),
    ("32 sequences", sequences!(32)),
    ("64 sequences", sequences!(64)),
    ("split cache, 8 sequences", |_, config| {
        config.context.sequences = 8 + config.engine.prefixes;
        split(config);
    }),
    ("split cache, 16 sequences", |_, config| split(config)),
    ("flash attention off", |_, config| config.context.flash_attention = false),
    ("split cache, flash attention off", |_, config| {
        config.context.flash_attention = false;
        split(config);
    }),
    ("batch of 64", |_, config| config.context.batch_tokens = 64),
    ("batch of 128", |_, config| config.context.batch_tokens = 128),
    ("batch of 256", |_, config| config.context.batch_tokens = 256),
    ("batch of 1024", |_, config| config.context.batch_tokens = 1024),
    ("cells 2048", |_, config| config.context.cells = 2048),
    ("cells 16384", |_, config| config.context.cells = 16_384),
    ("1 thread", |_, config| {
        config.context.threads = 1;
        config.embedding.threads = 1;
    }),
    ("embedding calls of 32", |_, config| config.embedding.batch_tokens = 32),
    ("embedding calls of 256", |_, config| config.embedding.batch_tokens = 256),
    ("embedding calls of 1024", |_, config| config.embedding.batch_tokens = 1024),
    ("groups of 300 tokens", |settings, _| settings.analysis.group_tokens = 300),
    ("groups of 1000 tokens", |settings, _| settings.analysis.group_tokens = 1000),
    ("groups of 10000 tokens", |settings, _| settings.analysis.group_tokens = 10_000),
    ("first come first served", |_, config| config.engine.policy.lambda = 0.0),
];

fn split(config: &mut maitred::engine::llama::LlamaConfig) {
    config.context.unified = false;
    config.context.cells = u32::from(config.context.sequences) * SPLIT_CELLS;
}

/// Runs the scenario.
pub async fn run(common: &Common, options: &Options) -> anyhow::Result<()> {
    let settings = common.settings()?;
    let mut loaded = runtime::load(&settings).await?;
    let identity = loaded.identity();
    let report = Report::begin("sweep", common.seed, (&identity.name, &identity.digest), &settings);
    let trace: Vec<Timed> = jobs::restaurants(&options.file, &settings)?
        .iter()
        .take(options.restaurants)
        .map(|job| Timed { at: 0.0, size: Size::Large, job: jobs::first(job, options.reviews) })
        .collect();
    let chosen =
        VARIANTS.iter().filter(|(name, _)| options.only.as_ref().is_none_or(|only| name.contains(only)));
    let chosen: Vec<_> = chosen.collect();
    let mut before = work("as set", &mut loaded, &settings, |_, _| (), &trace).await?;
    let mut runs: Vec<Vec<Row>> = vec![Vec::new(); chosen.len() + 1];
    runs[0].push(before.clone());
    for _ in 0..options.rounds {
        for (index, (name, change)) in chosen.iter().enumerate() {
            let variant = work(name, &mut loaded, &settings, *change, &trace).await?;
            let after = work("as set", &mut loaded, &settings, |_, _| (), &trace).await?;
            let ratio = variant.seconds / f64::midpoint(before.seconds, after.seconds);
            let row = Row { ratio, ..variant };
            say(&line(&row))?;
            runs[index + 1].push(row);
            runs[0].push(after.clone());
            before = after;
        }
    }
    let rows: Vec<Row> = runs.into_iter().filter_map(median).collect();
    say("\nmedians")?;
    for row in &rows {
        say(&line(row))?;
    }
    common.save(&report.with(&rows)?)
}

/// The row with the middle ratio.
fn median(mut rows: Vec<Row>) -> Option<Row> {
    rows.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    let middle = rows.len() / 2;
    (!rows.is_empty()).then(|| rows.swap_remove(middle))
}

async fn work(
    name: &str,
    loaded: &mut Loaded,
    settings: &Settings,
    change: Change,
    trace: &[Timed],
) -> anyhow::Result<Row> {
    let mut settings = settings.clone();
    let kept = loaded.config().clone();
    change(&mut settings, loaded.config_mut());
    let store = embedded::fresh_store(&settings);
    let run = embedded::run(loaded, &settings, store, trace, None).await;
    *loaded.config_mut() = kept;
    let run = run?;
    let core = run.stats.core;
    let first = run.samples.iter().filter_map(|sample| sample.first_output).min_by(f64::total_cmp);
    Ok(Row {
        name: name.to_owned(),
        seconds: (core.decode_time + run.stats.embedding_time).as_secs_f64(),
        embedding_seconds: run.stats.embedding_time.as_secs_f64(),
        ratio: 1.0,
        first_label: first.unwrap_or(0.0),
        calls: core.steps,
        sequences_per_call: core.sequence_steps as f64 / core.steps.max(1) as f64,
    })
}

fn line(row: &Row) -> String {
    format!(
        "{:<34} {:>7.2} s in models ({:>5.2} embedding), {:>5.2} of as set, first label {:>5.2} s, {:>4} calls of {:>4.1} sequences",
        row.name,
        row.seconds,
        row.embedding_seconds,
        row.ratio,
        row.first_label,
        row.calls,
        row.sequences_per_call
    )
}
