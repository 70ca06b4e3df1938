//! A fleet over NATS as a target: jobs are published at their times, whatever has become of earlier ones (open loop),
//! and their ends are read from the streams of results and dead letters.
//!
//! All times are this process's. A worker tells the time to the first token from its own receipt of the job, before
//! which the job waited in the broker; so moments are counted back from the end: the receipt of the result here, less
//! what passed in the worker between them. Some milliseconds of the result's way through the broker are thereby counted
//! as waiting.

mod drive;
mod local;
mod look_ahead;

use std::time::Duration;

use anyhow::{Context, ensure};
use maitred::broker::nats::Broker;
use maitred::config::NatsSettings;
use maitred::scheduler::Lane;
use serde::{Deserialize, Serialize};

pub use self::drive::drive;
pub use self::local::{Local, LocalFleet, program_beside};
pub use self::look_ahead::{LookAhead, look_ahead};
use crate::jobs::Timed;
use crate::sample::Sample;

/// Which fleet, and how it is asked.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// The fleet.
    pub place: Place,
    /// The lane of all jobs.
    pub lane: Lane,
    /// How long after the last arrival a job may end; what ends later is told as open.
    pub patience: Duration,
}

/// Where the fleet is.
#[derive(Debug, Clone)]
pub enum Place {
    /// One that runs: streams made by `maitred init`, and workers. What its stores know of the reviews it knows.
    There(Box<NatsSettings>),
    /// One that is started for the run and gone after it; its stores know nothing.
    Local(Local),
}

/// What a run gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetRun {
    /// A sample for each job that ended, in the order of the trace.
    pub samples: Vec<Sample>,
    /// Jobs that had not ended when patience did, by their places in the trace.
    pub open: Vec<usize>,
    /// When the server had stored each job, in seconds from the start; behind the schedule by what publishing takes.
    pub published: Vec<f64>,
    /// Results and dead letters that were of no job, or of one that had ended.
    pub strays: usize,
    /// The fleet over time, twice a second.
    pub depth: Vec<DepthPoint>,
}

/// The fleet at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DepthPoint {
    /// Seconds from the start of the run.
    pub at: f64,
    /// Jobs of the run that were published and had not ended, as far as this process knew.
    pub jobs: usize,
    /// Jobs that no worker had.
    pub pending: u64,
    /// Jobs that workers held: those in work and those of their look-ahead.
    pub held: u64,
    /// Slots in use, as the workers last told; they do every three seconds.
    pub running: usize,
    /// Slots of all workers.
    pub slots: usize,
    /// Workers that live.
    pub workers: usize,
}

/// Runs the trace against the fleet.
pub async fn run(options: &FleetOptions, mut trace: Vec<Timed>) -> anyhow::Result<FleetRun> {
    match &options.place {
        Place::There(settings) => {
            let broker = Broker::connect(settings, "maitred-loadtest").await?;
            broker.require_version()?;
            let live = broker.status(time::OffsetDateTime::now_utc()).await?.workers.len();
            ensure!(live > 0, "no worker lives in this fleet: start one with `maitred worker`");
            make_new(&mut trace, fastrand::u32(..));
            Box::pin(drive(&broker, &trace, options, || Ok(()))).await
        }
        Place::Local(local) => {
            let mut fleet = LocalFleet::start(local).await?;
            let broker = fleet.broker().await?;
            Box::pin(drive(&broker, &trace, options, || fleet.check())).await
        }
    }
}

/// Gives jobs and restaurants ids of this run: a fleet answers a job that it has worked before, and one that it was
/// given in the last ten minutes, without work.
fn make_new(trace: &mut [Timed], run: u32) {
    for Timed { job, .. } in trace {
        job.job_id = format!("{run:08x}-{}", job.job_id);
        job.restaurant_id = format!("{run:08x}-{}", job.restaurant_id);
    }
}

impl FleetRun {
    /// The run, if every job ended.
    pub fn complete(self) -> anyhow::Result<Self> {
        let open =
            self.open.first().map(|first| format!("{} jobs did not end, job {first} first", self.open.len()));
        open.map_or(Ok(self), |said| Err(anyhow::Error::msg(said)))
            .context("give the run more patience, or its fleet less to do")
    }
}
