//! What telemetry costs: the same jobs against the same fleet, with `telemetry.enabled` and without, in pairs.
//!
//! Each side of a pair has a fresh fleet, whose stores know nothing, and drains the same trace. The sides of a pair follow
//! one another, in an order that alternates, so that a machine that grows warm or busy is no advantage to one. With
//! telemetry the workers are scraped meanwhile, more often than Prometheus would. Wall time is what users see, and noisy;
//! processor time of the workers' processes is steadier, and the two should agree.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use fastrand::Rng;
use maitred::scheduler::Lane;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::cli::{Common, say};
use crate::fleet::{FleetOptions, Local, LocalFleet, Place, drive};
use crate::jobs::{self, Mix, Timed};
use crate::report::Report;
use crate::sample::quantile;
use crate::scenario::fleet::setting;

/// A worker that does not answer a scrape by then is left alone until the next one.
const SCRAPE_LIMIT: Duration = Duration::from_secs(5);

/// Flags.
#[derive(Debug, Args)]
pub struct Options {
    /// Restaurants and their reviews; jobs are cut from them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Jobs of the trace
    #[arg(long, default_value_t = 60)]
    jobs: usize,
    /// Pairs of runs
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Seconds between two scrapes
    #[arg(long, default_value_t = 1.0)]
    scrape: f64,
    /// The program of the workers; without it the one beside this one
    #[arg(long, value_name = "FILE")]
    maitred: Option<PathBuf>,
    /// Workers to start
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// A setting of the workers, such as telemetry.otlp_endpoint=http://127.0.0.1:4318; repeat for more
    #[arg(long = "worker", value_name = "KEY=VALUE", value_parser = setting)]
    worker_settings: Vec<(String, String)>,
    /// Seconds in which all jobs of a run must have ended
    #[arg(long, default_value_t = 900)]
    patience: u64,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Settings of the workers.
    pub worker_settings: Vec<(String, String)>,
    /// Seconds between two scrapes.
    pub scrape: f64,
    /// The pairs, in order.
    pub pairs: Vec<Pair>,
    /// Over the pairs.
    pub cost: Cost,
}

/// Two runs, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// With telemetry.
    pub on: Side,
    /// Without.
    pub off: Side,
}

/// A run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// From the first arrival to the last end, in seconds.
    pub wall: f64,
    /// Processor time of the workers' processes in it, in seconds; absent where the system does not tell.
    pub cpu: Option<f64>,
    /// Tokens that the model computed.
    pub tokens: u64,
    /// Scrapes that were answered.
    pub scrapes: u64,
}

/// With telemetry over without; 1 costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Tokens per second: the median over the pairs.
    pub throughput: f64,
    /// The pair with the smallest and that with the greatest.
    pub throughput_range: [f64; 2],
    /// Processor time per token: the median over the pairs; absent where the system does not tell.
    pub cpu: Option<f64>,
}

/// Runs the scenario.
pub async fn run(common: &Common, options: &Options) -> anyhow::Result<()> {
    let settings = common.settings()?;
    let report = Report::begin("telemetry", common.seed, (&settings.models.language, ""), &settings);
    let mut restaurants = Vec::new();
    for file in &options.files {
        restaurants.extend(jobs::restaurants(file, &settings)?);
    }
    let mut rng = Rng::with_seed(common.seed);
    let trace = jobs::mixed(&restaurants, &Mix::default(), options.jobs, &mut rng)?;
    let (program, workers) = (options.maitred.clone(), options.workers);
    let local = Local { program, workers, redis: false, settings: options.worker_settings.clone() };
    let patience = Duration::from_secs(options.patience);
    let mut pairs = Vec::with_capacity(options.pairs);
    for number in 0..options.pairs {
        let pair = Box::pin(pair(&local, &trace, number % 2 == 0, options.scrape, patience)).await?;
        let cpu = pair.cpu().map_or_else(String::new, |ratio| format!(", processor time {ratio:.4}"));
        say(&format!("pair {}: throughput {:.4} of that without{cpu}", number + 1, pair.throughput()))?;
        pairs.push(pair);
    }
    let cost = Cost::of(&pairs).context("no pairs: ask for at least one")?;
    say(&format!(
        "telemetry: throughput {:.4} of that without (median of {}; {:.4} to {:.4}){}",
        cost.throughput,
        pairs.len(),
        cost.throughput_range[0],
        cost.throughput_range[1],
        cost.cpu.map_or_else(String::new, |cpu| format!(", processor time per token {cpu:.4}"))
    ))?;
    let worker_settings = options.worker_settings.clone();
    common.save(&report.with(&Body { worker_settings, scrape: options.scrape, pairs, cost })?)
}

/// Both sides; `on_first` says in which order.
pub async fn pair(
    local: &Local,
    trace: &[Timed],
    on_first: bool,
    scrape: f64,
    patience: Duration,
) -> anyhow::Result<Pair> {
    let side = |on| Box::pin(side(local, trace, on, scrape, patience));
    let first = side(on_first).await?;
    let second = side(!on_first).await?;
    let (on, off) = if on_first { (first, second) } else { (second, first) };
    ensure!(on.scrapes > 0, "no worker could be scraped: ask for more jobs");
    Ok(Pair { on, off })
}

async fn side(
    local: &Local,
    trace: &[Timed],
    on: bool,
    scrape: f64,
    patience: Duration,
) -> anyhow::Result<Side> {
    let local = local.clone().set("telemetry.enabled", on).set("health.listen", "127.0.0.1:0");
    let mut fleet = LocalFleet::start(&local).await?;
    let broker = fleet.broker().await?;
    let options = FleetOptions { place: Place::Local(local), lane: Lane::Live, patience };
    let ended = CancellationToken::new();
    let scraping = on.then(|| tokio::spawn(scrape_all(fleet.health(), scrape, ended.clone())));
    let before = fleet.cpu_seconds();
    let run = Box::pin(drive(&broker, trace, &options, || fleet.check())).await?.complete()?;
    let cpu = fleet.cpu_seconds().zip(before).map(|(after, before)| after - before);
    ended.cancel();
    let scrapes = match scraping {
        Some(scraping) => scraping.await?,
        None => 0,
    };
    let wall = run.samples.iter().map(|sample| sample.finished).fold(0.0, f64::max);
    Ok(Side { wall, cpu, tokens: run.samples.iter().map(|sample| sample.tokens).sum(), scrapes })
}

/// Scrapes the workers in turn until `ended`; how many answered.
async fn scrape_all(workers: Vec<SocketAddr>, every: f64, ended: CancellationToken) -> u64 {
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(every.max(0.01)));
    let mut answered = 0;
    loop {
        tokio::select! {
            () = ended.cancelled() => return answered,
            _ = ticks.tick() => {}
        }
        for &worker in &workers {
            let scraped = tokio::task::spawn_blocking(move || scrape_one(worker)).await;
            answered += u64::from(matches!(scraped, Ok(Ok(()))));
        }
    }
}

fn scrape_one(worker: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&worker, SCRAPE_LIMIT)?;
    stream.set_read_timeout(Some(SCRAPE_LIMIT))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.contains("maitred_tokens_total") { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

impl Pair {
    fn throughput(&self) -> f64 {
        (self.on.tokens as f64 / self.on.wall) / (self.off.tokens as f64 / self.off.wall)
    }

    fn cpu(&self) -> Option<f64> {
        let of = |side: Side| Some(side.cpu? / side.tokens as f64);
        Some(of(self.on)? / of(self.off)?).filter(|ratio| ratio.is_finite())
    }
}

impl Cost {
    fn of(pairs: &[Pair]) -> Option<Self> {
        let throughput: Vec<f64> = pairs.iter().map(Pair::throughput).collect();
        let cpu: Vec<f64> = pairs.iter().filter_map(Pair::cpu).collect();
        Some(Self {
            throughput: quantile(&throughput, 0.5)?,
            throughput_range: [quantile(&throughput, 0.0)?, quantile(&throughput, 1.0)?],
            cpu: quantile(&cpu, 0.5),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn side(wall: f64, cpu: Option<f64>, tokens: u64) -> Side {
        Side { wall, cpu, tokens, scrapes: 1 }
    }

    #[test]
    fn a_pair_is_judged_by_tokens_in_wall_time_and_in_processor_time() {
        // Twice as long for twice the tokens is as fast; a tenth more of processor time is a tenth dearer.
        let pair = Pair { on: side(20.0, Some(11.0), 200), off: side(10.0, Some(5.0), 100) };
        assert!((pair.throughput() - 1.0).abs() < 1e-12);
        assert!((pair.cpu().unwrap() - 1.1).abs() < 1e-12);
        assert_eq!(Pair { on: side(1.0, None, 1), ..pair }.cpu(), None);
    }

    #[test]
    fn the_cost_is_the_median_and_the_range_is_shown() {
        let pair = |wall| Pair { on: side(wall, None, 100), off: side(10.0, None, 100) };
        let cost = Cost::of(&[pair(10.0), pair(12.5), pair(8.0)]).unwrap();
        assert!((cost.throughput - 1.0).abs() < 1e-12);
        assert!(
            (cost.throughput_range[0] - 0.8).abs() < 1e-12 && (cost.throughput_range[1] - 1.25).abs() < 1e-12
        );
        assert_eq!(cost.cpu, None);
        assert_eq!(Cost::of(&[]), None);
    }
}
