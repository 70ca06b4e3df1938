//! What a scaler makes of a day: how soon it reacts, what answers come in time, and what it costs, against fleets of a
//! fixed size.
//!
//! Everything here is **simulated**, in virtual time, and says so where it is shown. Workers are modelled by the times
//! that their jobs take ([`Model`]); the scaler by the rules of KEDA and of Kubernetes' HPA ([`scaler`]), the watchdog by
//! its own. What is left out: sharing of steps between the jobs of a worker (a little more throughput), facts that are
//! known already from a job that was cut short (it starts over), machines that cannot be had.
//!
//! All fleets of one seed see the same jobs at the same times, so what differs between them is the fleet.

pub mod day;
mod figures;
mod fleet;
mod plots;
mod policy;
pub mod scaler;
mod table;
#[cfg(test)]
mod tests;

use anyhow::bail;
use fastrand::Rng;
use serde::{Deserialize, Serialize};

pub use self::day::Day;
pub use self::figures::{Figures, Row, Watched};
pub use self::fleet::{Job, Run, run};
pub use self::plots::plots;
pub use self::policy::{Idle, Policy};
pub use self::scaler::{Rules, Scaler};
use crate::sample::Size;

/// What a worker takes for its jobs, and to come and go. Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Time of a small, a medium and a large job that is alone on a worker. Each is drawn evenly from half of it to half
    /// as much again.
    pub seconds: [f64; 3],
    /// Shares of small, medium and large jobs; their sum counts as one.
    pub shares: [f64; 3],
    /// Time to the first answer of a job that is alone on a worker, or all of its time where that is less.
    pub first: f64,
    /// Jobs in work at a time on a worker (`worker.slots`).
    pub slots: usize,
    /// Weight of a job's cost in the order (`scheduler.lambda`).
    pub lambda: f64,
    /// From the wish for a worker until it takes jobs: machine, image, models.
    pub start: f64,
    /// How long a drain waits for what runs (`worker.grace`).
    pub grace: f64,
}

impl Default for Model {
    /// Measured on two cores (docs/PERFORMANCE.md, Fleet and What a file costs): 475 ms for one new review, 5.2 s for 20
    /// reviews, 24.4 s for 100. The start is assumed: pulling an image and loading models.
    fn default() -> Self {
        Self {
            seconds: [0.475, 5.2, 24.4],
            shares: [0.7, 0.2, 0.1],
            first: 0.8,
            slots: 8,
            lambda: 20.0,
            start: 90.0,
            grace: 60.0,
        }
    }
}

impl Model {
    /// Seconds of a job, in the mean.
    pub fn mean_seconds(&self) -> f64 {
        let sum: f64 = self.shares.iter().sum();
        self.seconds.iter().zip(&self.shares).map(|(seconds, share)| seconds * share).sum::<f64>() / sum
    }

    fn check(&self) -> anyhow::Result<()> {
        let times = self.seconds.iter().chain([&self.first]);
        if !times.chain([&self.start, &self.grace]).all(|time| time.is_finite() && *time > 0.0) {
            bail!("times of jobs, of a start and of a drain are numbers above 0");
        }
        let shares = self.shares.iter().all(|share| share.is_finite() && *share >= 0.0);
        if !shares || self.shares.iter().sum::<f64>() <= 0.0 {
            bail!("shares of small, medium and large jobs are not negative, and not all 0");
        }
        if self.slots == 0 || !self.lambda.is_finite() || self.lambda < 0.0 {
            bail!("a worker has a slot, and lambda is not negative");
        }
        Ok(())
    }
}

/// What is studied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// A day each.
    pub seeds: Vec<u64>,
    /// When jobs come.
    pub day: Day,
    /// Work that comes at the busiest hour, in workers that it keeps busy.
    pub peak_workers: f64,
    /// What workers do.
    pub model: Model,
    /// The scaler that others are compared with.
    pub rules: Rules,
    /// The watchdog's rules.
    pub idle: Idle,
    /// Jobs for each worker to try, beside the rules'.
    pub lags: Vec<f64>,
    /// Cooldowns to try, beside the rules', in seconds.
    pub cooldowns: Vec<f64>,
    /// Idle checks to try, beside the watchdog's.
    pub idle_limits: Vec<u32>,
    /// Longest time to the first answer that counts as good service, in seconds.
    pub sla: f64,
    /// Money for an hour of a worker; none: only hours are told.
    pub price: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seeds: vec![1, 2, 3],
            day: Day::default(),
            peak_workers: 4.0,
            model: Model::default(),
            rules: Rules::default(),
            idle: Idle::default(),
            lags: vec![2.0, 4.0, 16.0],
            cooldowns: vec![60.0, 900.0],
            idle_limits: vec![2, 15],
            sla: 2.0,
            price: None,
        }
    }
}

impl Options {
    fn check(&self) -> anyhow::Result<()> {
        self.model.check()?;
        self.rules.check()?;
        for &lag_per_worker in &self.lags {
            Rules { lag_per_worker, ..self.rules }.check()?;
        }
        for &cooldown in &self.cooldowns {
            Rules { cooldown, ..self.rules }.check()?;
        }
        for checks in self.idle_limits.iter().copied().chain([self.idle.checks]) {
            Idle { checks, ..self.idle }.check()?;
        }
        if self.seeds.is_empty() {
            bail!("a study needs a seed");
        }
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !positive(self.peak_workers) || !positive(self.sla) || !self.price.is_none_or(positive) {
            bail!("the peak, the service level and the price are numbers above 0");
        }
        Ok(())
    }

    /// The fleets to compare: of each size up to half as much again as the peak needs, then the scaler, then what differs
    /// from it in one thing.
    fn policies(&self) -> Vec<Policy> {
        let most = ((self.peak_workers * 1.5).ceil() as u32).clamp(1, self.rules.max.max(1));
        let fixed = (1..=most).map(Policy::Fixed);
        let lags = self.lags.iter().map(|&lag_per_worker| Rules { lag_per_worker, ..self.rules });
        let cooldowns = self.cooldowns.iter().map(|&cooldown| Rules { cooldown, ..self.rules });
        let one = Rules { min: 1, ..self.rules };
        let limits = self.idle_limits.iter().map(|&checks| Idle { checks, ..self.idle });
        let keda = [self.rules].into_iter().chain(lags).chain(cooldowns).chain([one]).map(Policy::Keda);
        let watchdogs =
            [self.idle].into_iter().chain(limits).map(|idle| Policy::Watchdog { up: self.rules, idle });
        let mut distinct: Vec<Policy> = Vec::new();
        for policy in fixed.chain(keda).chain(watchdogs) {
            if !distinct.contains(&policy) {
                distinct.push(policy);
            }
        }
        distinct
    }

    /// The jobs of a day.
    pub fn jobs(&self, seed: u64) -> Vec<Job> {
        let mut rng = Rng::with_seed(seed);
        let peak = self.peak_workers / self.model.mean_seconds();
        let times = self.day.times(peak, &mut rng);
        times.into_iter().map(|at| self.model.job(at, &mut rng)).collect()
    }
}

impl Model {
    fn job(&self, arrived: f64, rng: &mut Rng) -> Job {
        let mut drawn = rng.f64() * self.shares.iter().sum::<f64>();
        // The last one that there are any of takes what rounding leaves over.
        let mut size = Size::Small;
        for (candidate, share) in Size::ALL.into_iter().zip(self.shares) {
            if share > 0.0 {
                size = candidate;
                if drawn < share {
                    break;
                }
            }
            drawn -= share;
        }
        Job { arrived, size, seconds: self.seconds[size as usize] * (0.5 + rng.f64()) }
    }
}

/// The study's outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Times are modelled: always true.
    pub simulated: bool,
    /// What was studied.
    pub options: Options,
    /// Jobs of each day.
    pub jobs: Vec<usize>,
    /// A fleet each, medians over the days.
    pub rows: Vec<Row>,
    /// The first day, for some fleets.
    pub shown: Vec<(Policy, Vec<Watched>)>,
}

impl Body {
    /// The figures to read.
    pub fn table(&self) -> String {
        table::all(self)
    }
}

/// Runs the study.
pub fn study(options: &Options) -> anyhow::Result<Body> {
    options.check()?;
    let days: Vec<Vec<Job>> = options.seeds.iter().map(|&seed| options.jobs(seed)).collect();
    if days.iter().any(Vec::is_empty) {
        bail!("a day without jobs: raise the peak, or the rates of the day");
    }
    let end = options.day.seconds();
    let (mut rows, mut shown) = (Vec::new(), Vec::new());
    for policy in options.policies() {
        let runs: Vec<Run> = days.iter().map(|jobs| run(jobs, end, policy, options)).collect();
        let figures: Vec<Figures> = runs.iter().filter_map(|run| Figures::new(run, options)).collect();
        rows.extend(Row::new(policy, &figures, options.price));
        let is_shown = [
            Policy::Fixed(options.peak_workers.ceil() as u32),
            Policy::Keda(options.rules),
            Policy::Watchdog { up: options.rules, idle: options.idle },
        ]
        .contains(&policy);
        if let (true, Some(first)) = (is_shown, runs.into_iter().next()) {
            shown.push((policy, first.watched));
        }
    }
    Ok(Body {
        simulated: true,
        options: options.clone(),
        jobs: days.iter().map(Vec::len).collect(),
        rows,
        shown,
    })
}
