//! A fleet over NATS under load: waiting in the broker counts. With `--look-aheads` the same trace goes to fleets that
//! differ in how many waiting jobs a worker holds.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use fastrand::Rng;
use maitred::config::{NatsSettings, Secret, SecretUrl, Settings};
use maitred::scheduler::Lane;
use serde::{Deserialize, Serialize};

use crate::arrivals::Shape;
use crate::cli::{Common, say};
use crate::fleet::{self, DepthPoint, FleetOptions, FleetRun, Local, LookAhead, Place};
use crate::jobs::{self, Mix, Timed};
use crate::report::Report;
use crate::sample::{Figures, Sample, TtftFigures, figures};

/// Flags.
#[derive(Debug, Args)]
pub struct Options {
    /// Restaurants and their reviews; jobs are cut from them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Jobs of the trace
    #[arg(long, default_value_t = 150)]
    jobs: usize,
    /// How jobs arrive
    #[arg(long, value_enum, default_value_t = Shape::Poisson)]
    shape: Shape,
    /// Offered load over what a drain of the same jobs reaches
    #[arg(long, default_value_t = 0.9, conflicts_with = "rate")]
    load: f64,
    /// Jobs per second instead; without it a drain of the same jobs is measured first
    #[arg(long)]
    rate: Option<f64>,
    /// A fleet that runs, with streams and workers, instead of one that is started for this
    #[arg(long, value_name = "URL", requires = "rate", conflicts_with_all = ["worker_settings", "look_aheads"])]
    nats: Option<String>,
    /// The program of the workers; without it the one beside this one
    #[arg(long, value_name = "FILE")]
    maitred: Option<PathBuf>,
    /// Workers to start
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// A setting of the workers, such as engine.backend=sim; repeat for more
    #[arg(long = "worker", value_name = "KEY=VALUE", value_parser = setting)]
    worker_settings: Vec<(String, String)>,
    /// Keep facts in each worker instead of a Redis of all
    #[arg(long)]
    no_redis: bool,
    /// Compare these look-aheads, such as 0,2,8,32,128
    #[arg(long, value_delimiter = ',')]
    look_aheads: Vec<usize>,
    /// Longest time to first token that counts as good service, in seconds; without it, the setting's
    #[arg(long)]
    sla: Option<f64>,
    /// Seconds after the last arrival in which all jobs must have ended
    #[arg(long, default_value_t = 900)]
    patience: u64,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Shares and sizes of the jobs.
    pub mix: Mix,
    /// Workers that were started; absent for a fleet that ran already.
    pub workers: Option<usize>,
    /// Settings of the workers.
    pub worker_settings: Vec<(String, String)>,
    /// Jobs per second that a drain reached; absent if the rate was given.
    pub capacity: Option<f64>,
    /// Jobs per second offered.
    pub rate: f64,
    /// The one run; absent where look-aheads are compared.
    pub run: Option<Measured>,
    /// One entry for each look-ahead that was compared.
    pub look_aheads: Vec<LookAhead>,
}

/// A run and its figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Over all jobs.
    pub figures: Figures,
    /// Each job.
    pub samples: Vec<Sample>,
    /// The fleet over time.
    pub depth: Vec<DepthPoint>,
}

impl Options {
    fn local(&self) -> Local {
        let settings = self.worker_settings.clone();
        Local { program: self.maitred.clone(), workers: self.workers, redis: !self.no_redis, settings }
    }

    fn place(&self, settings: &Settings) -> Place {
        match &self.nats {
            Some(url) => {
                let url = Secret::Value(SecretUrl::new(url));
                Place::There(Box::new(NatsSettings { url, ..settings.nats.clone() }))
            }
            None => Place::Local(self.local()),
        }
    }

    /// What answers, for the report: workers know the digest, this program only what they were told.
    fn model<'a>(&'a self, settings: &'a Settings) -> &'a str {
        let given = |key: &str| {
            let found = self.worker_settings.iter().find(|(other, _)| other == key);
            found.map(|(_, value)| value.as_str())
        };
        if given("engine.backend") == Some("sim") {
            return "simulated";
        }
        given("models.language").unwrap_or(&settings.models.language)
    }
}

/// Runs the scenario.
pub async fn run(common: &Common, options: &Options) -> anyhow::Result<()> {
    let settings = common.settings()?;
    let report = Report::begin("fleet", common.seed, (options.model(&settings), ""), &settings);
    let mut restaurants = Vec::new();
    for file in &options.files {
        restaurants.extend(jobs::restaurants(file, &settings)?);
    }
    let (mix, mut rng) = (Mix::default(), Rng::with_seed(common.seed));
    let mut trace = jobs::mixed(&restaurants, &mix, options.jobs, &mut rng)?;
    let patience = Duration::from_secs(options.patience);
    let fleet = FleetOptions { place: options.place(&settings), lane: Lane::Live, patience };
    let sla = options.sla.unwrap_or(settings.goodput.ttft.as_secs_f64());
    let (capacity, rate) = if let Some(rate) = options.rate {
        (None, rate)
    } else {
        let drained = measured(fleet::run(&fleet, trace.clone()).await?, sla)?.figures;
        say(&line("drain", &drained))?;
        (Some(drained.throughput), drained.throughput * options.load)
    };
    ensure!(rate > 0.0, "no job per second is offered: give a --rate or --load above 0");
    schedule(&mut trace, options.shape, rate, &mut rng);
    let (mut run, mut look_aheads) = (None, Vec::new());
    if options.look_aheads.is_empty() {
        let one = measured(fleet::run(&fleet, trace).await?, sla)?;
        say(&line("open loop", &one.figures))?;
        run = Some(one);
    } else {
        let told = |one: &LookAhead| say(&line(&format!("look-ahead {}", one.look_ahead), &one.figures));
        let wanted = &options.look_aheads;
        look_aheads = fleet::look_ahead(&options.local(), wanted, &trace, (patience, sla), told).await?;
    }
    let workers = options.nats.is_none().then_some(options.workers);
    let worker_settings = options.worker_settings.clone();
    common.save(&report.with(&Body { mix, workers, worker_settings, capacity, rate, run, look_aheads })?)
}

fn measured(run: FleetRun, sla: f64) -> anyhow::Result<Measured> {
    let run = run.complete()?;
    let figures = figures(&run.samples, sla).context("no jobs: ask for at least one")?;
    Ok(Measured { figures, samples: run.samples, depth: run.depth })
}

/// Jobs arrive at `rate` a second on average, in the form asked for.
fn schedule(trace: &mut [Timed], shape: Shape, rate: f64, rng: &mut Rng) {
    let times = shape.at(rate, trace.len()).times(trace.len(), rng);
    for (timed, at) in trace.iter_mut().zip(times) {
        timed.at = at;
    }
}

/// `section.key=value`.
pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as section.key=value")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

fn line(name: &str, figures: &Figures) -> String {
    let times = |of: Option<TtftFigures>| {
        of.map_or_else(|| "-".to_owned(), |t| format!("{:.2}/{:.2}/{:.2}", t.p50, t.p95, t.p99))
    };
    format!(
        "{name:<15} TTFT p50/p95/p99 s: small {}, medium {}, large {}; met {:.1} %, {:.3} jobs/s, {:.1} s",
        times(figures.small),
        times(figures.medium),
        times(figures.large),
        figures.compliance * 100.0,
        figures.throughput,
        figures.makespan,
    )
}
