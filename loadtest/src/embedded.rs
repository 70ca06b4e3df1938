//! The embedded pipeline as a target: jobs are handed to the analyst at their times, whatever it has in hand.
//!
//! Models are loaded once; each run has an engine of its own, so that nothing is left of the run before.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use maitred::analyst::{Analyst, Place, Worked};
use maitred::config::Settings;
use maitred::engine::{EngineStats, StepReport};
use maitred::result::{AnalysisResult, Outcome};
use maitred::runtime::{self, Loaded};
use maitred::scheduler::Lane;
use maitred::store::memory::MemoryFacts;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::jobs::Timed;
use crate::sample::Sample;

/// How often depth is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What was under way at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Depth {
    /// Seconds from the start of the run.
    pub at: f64,
    /// Requests that waited for a sequence.
    pub waiting: usize,
    /// Requests on sequences.
    pub running: usize,
    /// Jobs that had arrived and not ended.
    pub jobs: usize,
}

/// What a run gave.
pub struct Run {
    /// A sample per job, in the order of the trace.
    pub samples: Vec<Sample>,
    /// The results, in the same order.
    pub results: Vec<AnalysisResult>,
    /// Depth over time.
    pub depth: Vec<Depth>,
    /// The engine's counters, over the whole run.
    pub stats: EngineStats,
    /// Each decode call, in order, with the time of its end in seconds from the start of the run.
    pub steps: Vec<(f64, StepReport)>,
    /// From the first arrival to the last end, in seconds.
    pub wall: f64,
}

/// A store that knows nothing yet.
pub fn fresh_store(settings: &Settings) -> Arc<MemoryFacts> {
    Arc::new(MemoryFacts::new(settings.store.memory_limit.max(256 << 20)))
}

/// Works the trace on a fresh engine over `store`. `at_once`: jobs in work at the same time at most, the others wait in
/// the order of their arrival; `None`: each is begun when it arrives, and waits in the engine's heap.
pub async fn run(
    loaded: &Loaded,
    settings: &Settings,
    store: Arc<MemoryFacts>,
    trace: &[Timed],
    at_once: Option<usize>,
) -> anyhow::Result<Run> {
    let steps: Arc<Mutex<Vec<(Instant, StepReport)>>> = Arc::default();
    let seen = Arc::clone(&steps);
    let (done, is_done) = oneshot::channel();
    let reader = loaded
        .reader(runtime::read_settings(settings), move |server, backend, embedders| {
            let watcher = move |step: &StepReport| {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), *step));
            };
            let stats = server.watched_by(watcher).serve(backend, embedders);
            // Nobody listens only if the run has failed, and says so itself.
            let _ = done.send(stats);
        })
        .await?
        .in_groups_of(settings.analysis.group_tokens);
    let analyst =
        Arc::new(Analyst::new(Arc::new(reader), store, settings.analysis.clone(), "loadtest".into()));
    // Languages are prepared at their first use; that is part of a start, not of a job.
    for timed in trace {
        analyst.price(&timed.job).await;
    }
    let at_once = Arc::new(Semaphore::new(at_once.unwrap_or(Semaphore::MAX_PERMITS)));
    // What preparing took is no part of the run.
    steps.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let begun = Instant::now();
    let origin = analyst.reader().engine().now();
    let mut working = JoinSet::new();
    for (number, timed) in trace.iter().cloned().enumerate() {
        let (analyst, at_once) = (Arc::clone(&analyst), Arc::clone(&at_once));
        working.spawn(async move {
            let due = begun + Duration::from_secs_f64(timed.at);
            tokio::time::sleep_until(due.into()).await;
            let place = Place {
                lane: Lane::Live,
                arrived: origin + Duration::from_secs_f64(timed.at),
                waited: Duration::ZERO,
            };
            // Never closed.
            let _permit = at_once.acquire().await;
            let cost = analyst.price(&timed.job).await.get();
            let worked = analyst.work(&timed.job, place).await;
            (sample(number, &timed, cost, origin, &worked), worked.result)
        });
    }
    let mut depth = Vec::new();
    let mut ended = Vec::with_capacity(trace.len());
    let mut looks = tokio::time::interval(LOOK);
    while ended.len() < trace.len() {
        tokio::select! {
            Some(one) = working.join_next() => ended.push(one?),
            _ = looks.tick() => {
                let (at, stats) = (begun.elapsed().as_secs_f64(), analyst.reader().engine().stats());
                let arrived = trace.iter().filter(|timed| timed.at <= at).count();
                let jobs = arrived.saturating_sub(ended.len());
                depth.push(Depth { at, waiting: stats.waiting, running: stats.running, jobs });
            }
        }
    }
    let wall =
        begun.elapsed().as_secs_f64() - trace.iter().map(|timed| timed.at).fold(f64::INFINITY, f64::min);
    ended.sort_by_key(|(sample, _)| sample.job);
    let (samples, results) = ended.into_iter().unzip();
    // The last handle: the engine's thread ends, and its contexts are gone before others are made.
    drop(analyst);
    let stats = is_done.await.context("the engine thread ended without a word")?;
    let steps = std::mem::take(&mut *steps.lock().unwrap_or_else(PoisonError::into_inner));
    let since = |at: Instant| at.saturating_duration_since(begun).as_secs_f64();
    let steps = steps.into_iter().map(|(at, report)| (since(at), report)).collect();
    Ok(Run { samples, results, depth, stats, steps, wall })
}

fn sample(job: usize, timed: &Timed, cost: f64, origin: Duration, worked: &Worked) -> Sample {
    let since = |at: Duration| at.saturating_sub(origin).as_secs_f64();
    Sample {
        job,
        size: timed.size,
        cost,
        arrived: timed.at,
        admitted: worked.cost.first_admission().map(since),
        first_output: worked.cost.first_output().map(since),
        finished: since(worked.finished),
        tokens: worked.result.usage.worked_tokens(),
        ok: matches!(worked.result.outcome, Outcome::Ok | Outcome::Unchanged | Outcome::NoData),
    }
}
