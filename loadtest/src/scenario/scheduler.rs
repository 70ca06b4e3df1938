//! What the order does to waiting, with the real model: the same trace under each order, near saturation.
//!
//! The offered load is set against what the machine can do, which a drain of the same jobs measures first.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use fastrand::Rng;
use maitred::config::Settings;
use maitred::runtime::{self, Loaded};
use maitred::scheduler::{Order, Policy};
use serde::{Deserialize, Serialize};

use crate::arrivals::Shape;
use crate::cli::{Common, say};
use crate::embedded::{self, Depth};
use crate::jobs::{self, Mix, Timed};
use crate::plots::{self, Distribution, Heading, Occupancy, Timeline};
use crate::report::Report;
use crate::sample::{Figures, Sample, Size, figures};
use crate::simulate::bound;

/// λ at which cost decides everything: shortest first.
const SHORTEST: f64 = 1e6;

/// Longest time from a job's arrival to its first request in the heap, where others are running: it must be embedded
/// first, behind a decode call and embedding calls under way.
const ON_THE_WAY: f64 = 5.0;

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
    /// How jobs arrive
    #[arg(long, value_enum, default_value_t = Shape::Poisson)]
    shape: Shape,
    /// Jobs are of few restaurants, the k-th of which comes k^EXPONENT times less often than the hot one
    #[arg(long, value_name = "EXPONENT")]
    zipf: Option<f64>,
    /// λ of ours; without it, the setting's
    #[arg(long)]
    lambda: Option<f64>,
    /// Longest time to first token that counts as good service, in seconds; without it, the setting's
    #[arg(long)]
    sla: Option<f64>,
    /// Orders to run, in this order
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["fifo", "shortest", "ours"])]
    orders: Vec<Contender>,
    /// Leave the finite drain under each order out
    #[arg(long)]
    no_drain: bool,
}

/// An order that is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Contender {
    /// First come first served
    Fifo,
    /// Shortest first
    Shortest,
    /// Shortest first with a bound on waiting
    Ours,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Shortest => "shortest first",
            Self::Ours => "ours",
        }
    }

    /// Its λ, where ours has this one.
    fn lambda(self, ours: f64) -> f64 {
        match self {
            Self::Fifo => 0.0,
            Self::Shortest => SHORTEST,
            Self::Ours => ours,
        }
    }
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
    /// Pairs of jobs of which one passed the other, and those beyond the bound `λ·(C − c)`.
    pub passes: [usize; 2],
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
    /// Sequences that requests may take.
    pub sequences: u32,
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
    let orders: Vec<_> = options.orders.iter().map(|order| (order.name(), order.lambda(ours))).collect();
    let sla = options.sla.unwrap_or(settings.goodput.ttft.as_secs_f64());
    let mut drains = Vec::new();
    for (name, lambda) in orders.iter().rev().take(if options.no_drain { 1 } else { orders.len() }) {
        let run = work(&mut loaded, &settings, *lambda, &trace).await?;
        say(&format!("drain, {name}: {} jobs in {:.1} s", trace.len(), run.wall))?;
        drains.push((*lambda, run.wall));
    }
    let capacity = trace.len() as f64 / drains[0].1;
    let times = options.shape.at(capacity * options.load, trace.len()).times(trace.len(), &mut rng);
    for (timed, at) in trace.iter_mut().zip(times) {
        timed.at = at;
    }
    if let Some(exponent) = options.zipf {
        jobs::share_out(&mut trace, restaurants.len(), exponent, &mut rng);
    }
    let mut outcomes = Vec::new();
    for (name, lambda) in orders {
        let run = work(&mut loaded, &settings, lambda, &trace).await?;
        let figures = figures(&run.samples, sla).context("no jobs")?;
        say(&line(name, &figures))?;
        let checked = bound::check(&run.samples, &policy(lambda), ON_THE_WAY);
        let passes = [checked.passes, checked.violations.len()];
        say(&format!("{:<15} {} passes, {} beyond the bound", "", passes[0], passes[1]))?;
        outcomes.push(Outcome {
            passes,
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
    let body =
        Body { mix, capacity, load: options.load, sequences: settings.engine.sequences, orders: outcomes };
    std::fs::create_dir_all(&common.out)?;
    let note =
        format!("{} · load {} · {} jobs · seed {}", identity.name, options.load, trace.len(), common.seed);
    draw(&body, &note, &common.out)?;
    common.save(&report.with(&body)?)
}

async fn work(
    loaded: &mut Loaded,
    settings: &Settings,
    lambda: f64,
    trace: &[Timed],
) -> anyhow::Result<embedded::Run> {
    loaded.config_mut().engine.policy = policy(lambda);
    embedded::run(loaded, settings, embedded::fresh_store(settings), trace, None).await
}

fn policy(lambda: f64) -> Policy {
    let order = if lambda > 0.0 { Order::PrefillCost } else { Order::Fifo };
    Policy { order, lambda, ..Policy::default() }
}

/// The runs as plots: who waited how long, and what was under way.
fn draw(body: &Body, note: &str, folder: &Path) -> anyhow::Result<()> {
    let distribution = |outcome: &Outcome| {
        let of = |size: Size| {
            let samples = outcome.samples.iter().filter(|sample| sample.size == size);
            (size, samples.filter_map(Sample::ttft).collect())
        };
        Distribution { label: outcome.order.clone(), ttfts: Size::ALL.map(of).into() }
    };
    let runs: Vec<Distribution> = body.orders.iter().map(distribution).collect();
    let sla = body.orders.first().map_or(0.0, |outcome| outcome.figures.sla);
    let title = "Time to first token by size of the job";
    plots::ttft_distribution(
        Heading { title, note },
        &runs,
        sla,
        &folder.join("scheduler-ttft-by-size.svg"),
    )?;
    let moment =
        |depth: &Depth| Occupancy { at: depth.at, waiting: depth.jobs as f64, busy: depth.running as f64 };
    let timeline = |outcome: &Outcome| Timeline {
        label: outcome.order.clone(),
        moments: outcome.depth.iter().map(moment).collect(),
    };
    let runs: Vec<Timeline> = body.orders.iter().map(timeline).collect();
    let title = "Jobs in hand and sequences at work";
    plots::queue_over_time(
        Heading { title, note },
        &runs,
        body.sequences.into(),
        &folder.join("scheduler-queue.svg"),
    )
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
