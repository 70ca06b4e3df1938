//! A day in figures, and days together.

use serde::{Deserialize, Serialize};

use super::Options;
use super::fleet::Run;
use super::policy::Policy;
use crate::sample::{Sample, Size, quantile, ttft};

/// The fleet at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// Seconds of the day.
    pub at: f64,
    /// Jobs waiting and in hand.
    pub lag: u64,
    /// Workers that are paid for: those that start and drain too.
    pub workers: u32,
    /// Of those, the ones that take jobs.
    pub ready: u32,
}

/// One day of one fleet. Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Hours of workers, from the wish for each until it had gone.
    pub worker_hours: f64,
    /// Workers that were started in the day.
    pub starts: usize,
    /// Most workers at a time.
    pub most: u32,
    /// Time to the first answer, median.
    pub ttft_p50: f64,
    /// The same, 95 in 100.
    pub ttft_p95: f64,
    /// The same of small jobs, 95 in 100.
    pub small_p95: f64,
    /// Share of the jobs whose first answer came in time.
    pub compliance: f64,
    /// From falling behind to having caught up, median over the day; 0 where that never happened.
    pub reaction_p50: f64,
    /// The same, the longest.
    pub reaction_max: f64,
    /// Share of the day behind.
    pub behind: f64,
    /// Jobs that were cut by the end of a drain and began again.
    pub cut: usize,
}

impl Figures {
    /// Of a run; `None` without jobs.
    pub fn new(run: &Run, options: &Options) -> Option<Self> {
        let all = ttft(&run.samples, None)?;
        let small = ttft(&run.samples, Some(Size::Small)).or_else(|| ttft(&run.samples, None))?;
        let in_time = run.samples.iter().filter(|sample: &&Sample| sample.meets(options.sla)).count();
        let spans: Vec<f64> = run.behind.iter().map(|(from, to)| to - from).collect();
        Some(Self {
            worker_hours: run.lives.iter().map(|(from, to)| to - from).sum::<f64>() / 3600.0,
            starts: run.lives.iter().filter(|(from, _)| *from > 0.0).count(),
            most: run.watched.iter().map(|watched| watched.workers).max().unwrap_or(0),
            ttft_p50: all.p50,
            ttft_p95: all.p95,
            small_p95: small.p95,
            compliance: in_time as f64 / run.samples.len() as f64,
            reaction_p50: quantile(&spans, 0.5).unwrap_or(0.0),
            reaction_max: quantile(&spans, 1.0).unwrap_or(0.0),
            behind: spans.iter().sum::<f64>() / run.end,
            cut: run.cut,
        })
    }
}

/// One fleet: medians over the days. Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// How it is sized.
    pub policy: Policy,
    /// Hours of workers a day.
    pub worker_hours: f64,
    /// Money a day, where an hour has a price.
    pub cost: Option<f64>,
    /// Workers started in the day.
    pub starts: f64,
    /// Most workers at a time.
    pub most: f64,
    /// Time to the first answer, median.
    pub ttft_p50: f64,
    /// The same, 95 in 100.
    pub ttft_p95: f64,
    /// The same of small jobs, 95 in 100.
    pub small_p95: f64,
    /// Share of the jobs whose first answer came in time.
    pub compliance: f64,
    /// From falling behind to having caught up, median.
    pub reaction_p50: f64,
    /// The same, the longest of a day.
    pub reaction_max: f64,
    /// Share of the day behind.
    pub behind: f64,
    /// Jobs that began again.
    pub cut: f64,
}

impl Row {
    /// Of some days; `None` of none. `price`: of an hour.
    pub fn new(policy: Policy, days: &[Figures], price: Option<f64>) -> Option<Self> {
        let median =
            |value: &dyn Fn(&Figures) -> f64| quantile(&days.iter().map(value).collect::<Vec<_>>(), 0.5);
        let worker_hours = median(&|day| day.worker_hours)?;
        Some(Self {
            policy,
            worker_hours,
            cost: price.map(|price| price * worker_hours),
            starts: median(&|day| day.starts as f64)?,
            most: median(&|day| f64::from(day.most))?,
            ttft_p50: median(&|day| day.ttft_p50)?,
            ttft_p95: median(&|day| day.ttft_p95)?,
            small_p95: median(&|day| day.small_p95)?,
            compliance: median(&|day| day.compliance)?,
            reaction_p50: median(&|day| day.reaction_p50)?,
            reaction_max: median(&|day| day.reaction_max)?,
            behind: median(&|day| day.behind)?,
            cut: median(&|day| day.cut as f64)?,
        })
    }
}
