//! Faults of the servers, as the real worker meets them: gone, silent, changed, full, slow.
//!
//! What a store does by itself is tested in `stores`; here it is what becomes of jobs and results meanwhile. Figures
//! are printed, not asserted: a busy machine is no fault of ours.

mod absent;
mod clock;
mod connection;
mod postgres;
mod redis;
mod replays;
mod room;
mod topology;

use std::time::{Duration, Instant};

use maitred_testkit::Program;
use serde_json::Value;

use super::faults::{Fleet, PATIENCE, health};
use crate::common::fleet::{Report, Workload};

/// Longer than any test is patient: a job that changes hands was not merely let go.
const NEVER: Duration = Duration::from_hours(1);

/// What a worker tells of itself.
fn status(worker: &mut Program) -> Value {
    serde_json::from_str(&health(worker, "/status").1).unwrap()
}

/// One of the counts in it.
fn jobs(worker: &mut Program, what: &str) -> u64 {
    status(worker)["jobs"][what].as_u64().unwrap()
}

/// Waits until the worker is not ready and says all of this of the reason; how long that took.
#[track_caller]
fn until_it_complains(worker: &mut Program, words: &[&str]) -> Duration {
    let start = Instant::now();
    let mut told = (0, String::new());
    let found = maitred_testkit::poll(PATIENCE, || {
        told = health(worker, "/readyz");
        (told.0 == 503 && words.iter().all(|word| told.1.contains(word))).then_some(())
    });
    assert!(found.is_some(), "{words:?} is not in {told:?}");
    start.elapsed()
}

/// Submits a workload and waits until all has ended; how long that took, by the job.
async fn work(fleet: &Fleet, workload: &Workload) -> (Report, Duration) {
    let start = Instant::now();
    fleet.submit(workload);
    let report = fleet.all_end().await;
    (report, start.elapsed() / u32::try_from(workload.restaurants.len()).unwrap())
}

/// How often this was said.
fn said(worker: &Program, text: &str) -> usize {
    worker.log().lines().filter(|line| line.contains(text)).count()
}
