//! The figures of a period, from the metrics that workers left: `maitred report`.
//!
//! ```text
//! Postgres or SQLite ──► rows ──► Tally ──► Report ──► a table, a page, JSON
//!                       (source)  (pure)
//! ```
//!
//! Invariants: what was not measured is absent and said to be, never zero; rows are read one by one, so that memory
//! grows by a few numbers for each job, not by its row; everything that is computed is computed
//! in [`tally`], whichever database the rows come from.

pub mod rows;
pub mod scale;
pub mod source;
pub mod svg;
pub mod tally;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;

/// What can be told of a period.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The period.
    pub period: Period,
    /// Results; absent if neither jobs nor workers left a trace.
    pub jobs: Option<Jobs>,
    /// How the jobs of each lane and size were served, the sum of all last; empty without jobs.
    pub service: Vec<Service>,
    /// Throughput and goodput over time; absent without windows.
    pub flow: Option<Flow>,
    /// What was read and what was saved; absent without jobs.
    pub tokens: Option<Tokens>,
    /// Jobs by hour of the day (UTC); empty without jobs.
    pub hours: Vec<Hour>,
    /// Requests to the engine, by kind; empty without requests.
    pub requests: Vec<Requests>,
    /// GPUs that were looked at.
    pub gpus: Vec<Gpu>,
    /// Workers that were there.
    pub workers: Vec<Worker>,
    /// What it cost; absent without a price or without windows.
    pub cost: Option<Cost>,
    /// Why jobs failed, the most frequent first; absent without jobs.
    pub errors: Option<Vec<Count>>,
    /// Dead letters by reason, the most frequent first; absent where nobody could have written any.
    pub dead_letters: Option<Vec<Count>>,
}

/// From when to when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Period {
    /// Its start.
    #[serde(with = "time::serde::rfc3339")]
    pub from: OffsetDateTime,
    /// Its end.
    #[serde(with = "time::serde::rfc3339")]
    pub to: OffsetDateTime,
}

/// Results by lane and outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Jobs {
    /// All of them.
    pub total: u64,
    /// By lane (`file`: they came from a file), and there by outcome.
    pub lanes: BTreeMap<String, BTreeMap<String, u64>>,
}

/// How jobs were served.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    /// Their lane; `all` of all.
    pub lane: String,
    /// Their size: `small` up to 5 reviews, `medium` up to 30, `large` above; `all` of all.
    pub size: &'static str,
    /// How many.
    pub jobs: u64,
    /// Of those, the ones that needed the model.
    pub judged: u64,
    /// Of these, the ones that met the service level.
    pub met: u64,
    /// Time to the first answer, in milliseconds.
    pub ttft_ms: Option<Spread>,
    /// Time to the stored result, in milliseconds.
    pub total_ms: Option<Spread>,
}

impl Service {
    /// Share of those judged that met the level; absent if none was.
    pub fn compliance(&self) -> Option<f64> {
        (self.judged > 0).then(|| self.met as f64 / self.judged as f64)
    }
}

/// Quantiles by nearest rank: each is a value that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Values.
    pub count: u64,
    /// Half are not above it.
    pub p50: f64,
    /// 95 in 100 are not above it.
    pub p95: f64,
}

/// Tokens per second over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flow {
    /// Length of a step in seconds.
    pub step_seconds: i64,
    /// Steps, in order.
    pub points: Vec<FlowPoint>,
    /// Over the time for which there are windows.
    pub throughput_tps: f64,
    /// The same, of jobs that met the service level.
    pub goodput_tps: f64,
}

/// A step of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FlowPoint {
    /// Its start, in Unix seconds.
    pub second: i64,
    /// Tokens per second of all workers; absent while none was there.
    pub throughput_tps: Option<f64>,
    /// The same, of jobs that met the service level.
    pub goodput_tps: Option<f64>,
}

/// What was read, and what was saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Tokens {
    /// Prompt tokens computed.
    pub prompt: u64,
    /// Template tokens fed.
    pub forced: u64,
    /// Tokens sampled.
    pub generated: u64,
    /// Prompt tokens taken from a pinned prefix.
    pub reused: u64,
    /// Tokens that all reviews in each analysis' prompt would have cost, of jobs that ended with findings.
    pub baseline: u64,
    /// Share of the baseline that these jobs did not compute; absent without one. Below zero if more was spent.
    pub saved_share: Option<f64>,
    /// Reviews in the jobs.
    pub reviews: u64,
    /// Reviews that were read.
    pub reviews_read: u64,
    /// Reviews that were known.
    pub reviews_known: u64,
    /// Claims that the model wrote.
    pub claims_written: u64,
    /// Of those, the ones that passed their checks.
    pub claims_kept: u64,
}

/// An hour of the day.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Hour {
    /// 0 to 23, UTC.
    pub hour: u8,
    /// Jobs.
    pub jobs: u64,
    /// 95th percentile of the time to the first answer, in milliseconds.
    pub ttft_p95_ms: Option<f64>,
    /// Share that met the service level.
    pub compliance: Option<f64>,
}

/// Requests of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Requests {
    /// `probe` or `generation`.
    pub kind: String,
    /// How many.
    pub requests: u64,
    /// Of those, the ones that were not answered.
    pub unanswered: u64,
    /// Mean wait for a sequence, in milliseconds.
    pub queue_ms: Option<f64>,
    /// Mean time from a sequence to the first label or token, in milliseconds.
    pub prefill_ms: Option<f64>,
    /// Mean time from there to the end, in milliseconds.
    pub decode_ms: Option<f64>,
    /// Time per token after the first, in milliseconds.
    pub tpot_ms: Option<Spread>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gpu {
    /// Whose.
    pub worker: String,
    /// Which of that worker's.
    pub device: u64,
    /// What the driver calls it.
    pub name: String,
    /// Mean share of the time in which it was at work.
    pub utilization: Option<f64>,
    /// The same over time, in the steps of the flow; absent where nobody looked.
    pub over_time: Vec<Option<f64>>,
    /// Most bytes in use.
    pub memory_used_bytes: Option<u64>,
    /// Bytes there are.
    pub memory_total_bytes: Option<u64>,
    /// Mean power in watts.
    pub power_watts: Option<f64>,
    /// Highest temperature in degrees Celsius.
    pub temperature_celsius: Option<f64>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worker {
    /// Its name.
    pub worker: String,
    /// The language model of its last start; absent if that is not known.
    pub model: Option<String>,
    /// What kind of device it runs on; absent if that is not known.
    pub device: Option<String>,
    /// Jobs in work at the same time; absent if that is not known.
    pub slots: Option<u64>,
    /// Seconds that its windows cover.
    pub seconds: f64,
    /// Share of them in which its engine was at work; absent if nobody measured it.
    pub busy_share: Option<f64>,
    /// Jobs that needed the model.
    pub jobs: u64,
    /// Tokens of these.
    pub tokens: u64,
    /// Starts in the period.
    pub starts: u64,
}

/// What it cost, in the currency of `report.cost_per_hour`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// Price of an hour of a worker.
    pub per_hour: f64,
    /// Hours of workers, idle ones too.
    pub worker_hours: f64,
    /// Of those, the ones in which an engine was at work; absent if nobody measured it.
    pub busy_hours: Option<f64>,
    /// Restaurants with findings, new or repeated.
    pub restaurants: u64,
    /// `per_hour * worker_hours / restaurants * 1000`: what was paid.
    pub per_1000_restaurants: Option<f64>,
    /// `per_hour * busy_hours / restaurants * 1000`: what is left if no worker idles.
    pub per_1000_restaurants_busy: Option<f64>,
}

/// How often something was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// What.
    pub name: String,
    /// How often.
    pub count: u64,
}
