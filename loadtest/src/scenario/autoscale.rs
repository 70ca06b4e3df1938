//! A scaler through a day, in virtual time ([`crate::autoscale`]): reaction, answers in time and cost, against fleets of
//! a fixed size.

use clap::Args;

use crate::autoscale::{self, Day, Idle, Model, Rules, study};
use crate::cli::{Common, say};
use crate::report::Report;

/// Flags. Times in seconds.
#[derive(Debug, Args)]
pub struct Options {
    /// Days, drawn with this seed and those after it; medians are told
    #[arg(long, default_value_t = 3)]
    days: u64,
    /// Rates for each hour, separated by commas, as shares of the busiest; without it, a day with two meals and a night
    #[arg(long, value_name = "RATES")]
    day: Option<Day>,
    /// Work at the busiest hour, in workers that it keeps busy
    #[arg(long, default_value_t = 4.0, value_name = "WORKERS")]
    peak: f64,
    /// Time of a small, a medium and a large job, alone on a worker; measure yours with `maitred-loadtest fleet`
    #[arg(long, value_delimiter = ',', default_values_t = Model::default().seconds, value_name = "S,M,L")]
    seconds: Vec<f64>,
    /// Shares of small, medium and large jobs
    #[arg(long, value_delimiter = ',', default_values_t = Model::default().shares, value_name = "S,M,L")]
    shares: Vec<f64>,
    /// Time to the first answer of a job that is alone on a worker
    #[arg(long, default_value_t = Model::default().first)]
    first: f64,
    /// From the wish for a worker until it takes jobs: machine, image, models
    #[arg(long, default_value_t = Model::default().start)]
    start: f64,
    /// Between KEDA's looks
    #[arg(long, default_value_t = Rules::default().polling)]
    polling: f64,
    /// Jobs for each worker, waiting and in hand
    #[arg(long, default_value_t = Rules::default().lag_per_worker)]
    lag: f64,
    /// Others to try
    #[arg(long, value_delimiter = ',', default_values_t = autoscale::Options::default().lags)]
    lags: Vec<f64>,
    /// Time without any lag after which there is no worker any more
    #[arg(long, default_value_t = Rules::default().cooldown)]
    cooldown: f64,
    /// Others to try
    #[arg(long, value_delimiter = ',', default_values_t = autoscale::Options::default().cooldowns)]
    cooldowns: Vec<f64>,
    /// The largest wish of this time counts before workers are taken away
    #[arg(long, default_value_t = Rules::default().stabilization)]
    stabilization: f64,
    /// Workers at least
    #[arg(long, default_value_t = Rules::default().min)]
    min: u32,
    /// Workers at most
    #[arg(long, default_value_t = Rules::default().max)]
    max: u32,
    /// Between checks of the watchdog
    #[arg(long, default_value_t = Idle::default().interval)]
    check_interval: f64,
    /// Idle checks in a row after which a worker leaves
    #[arg(long, default_value_t = Idle::default().checks)]
    idle_limit: u32,
    /// Others to try
    #[arg(long, value_delimiter = ',', default_values_t = autoscale::Options::default().idle_limits)]
    idle_limits: Vec<u32>,
    /// Checks before this age do not count
    #[arg(long, default_value_t = Idle::default().min_runtime)]
    min_runtime: f64,
    /// Longest time to the first answer that counts as good service; without it, the setting's
    #[arg(long)]
    sla: Option<f64>,
    /// Money for an hour of a worker; without it, only hours are told
    #[arg(long, value_name = "MONEY")]
    price: Option<f64>,
}

impl Options {
    fn model(&self, slots: usize, lambda: f64, grace: f64) -> anyhow::Result<Model> {
        let three = |values: &[f64], what: &str| {
            <[f64; 3]>::try_from(values)
                .map_err(|_| anyhow::anyhow!("{what}: give three, of small, medium and large jobs"))
        };
        Ok(Model {
            seconds: three(&self.seconds, "--seconds")?,
            shares: three(&self.shares, "--shares")?,
            first: self.first,
            slots,
            lambda,
            start: self.start,
            grace,
        })
    }
}

/// Runs the scenario.
pub fn run(common: &Common, options: &Options) -> anyhow::Result<()> {
    let settings = common.settings()?;
    let report = Report::begin("autoscale", common.seed, ("simulated", ""), &settings);
    let worker = &settings.worker;
    let usual = Rules::default();
    let body = study(&autoscale::Options {
        seeds: (common.seed..).take(options.days as usize).collect(),
        day: options.day.clone().unwrap_or_default(),
        peak_workers: options.peak,
        model: options.model(worker.slots, settings.scheduler.lambda, worker.grace.as_secs_f64())?,
        rules: Rules {
            polling: options.polling,
            lag_per_worker: options.lag,
            cooldown: options.cooldown,
            stabilization: options.stabilization,
            min: options.min,
            max: options.max,
            ..usual
        },
        idle: Idle {
            interval: options.check_interval,
            checks: options.idle_limit,
            min_runtime: options.min_runtime,
        },
        lags: options.lags.clone(),
        cooldowns: options.cooldowns.clone(),
        idle_limits: options.idle_limits.clone(),
        sla: options.sla.unwrap_or(settings.goodput.ttft.as_secs_f64()),
        price: options.price,
    })?;
    say(&body.table())?;
    std::fs::create_dir_all(&common.out)?;
    for path in autoscale::plots(&body, &common.out)? {
        say(&format!("plot: {}", path.display()))?;
    }
    common.save(&report.with(&body)?)
}
