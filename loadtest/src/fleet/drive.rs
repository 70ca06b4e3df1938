//! Publishing on schedule, and taking note of each end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use maitred::broker::nats::{Broker, Ending, Endings, PayloadError, SendError, Submitted};
use maitred::broker::wire::DeadLetter;
use maitred::broker::{names, status::Status};
use maitred::result::{AnalysisResult, Outcome};
use maitred::telemetry::TraceContext;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::{DepthPoint, FleetOptions, FleetRun};
use crate::jobs::Timed;
use crate::sample::Sample;

/// How often the fleet is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Ends that were read and not noted yet.
const UNNOTED: usize = 256;

/// When, in seconds from the start, and what was read.
type Read = (f64, Result<Ending, PayloadError>);

/// Publishes the jobs of the trace at their times and waits for their ends. `check` is asked at every look whether the
/// run can go on.
pub async fn drive(
    broker: &Broker,
    trace: &[Timed],
    options: &FleetOptions,
    mut check: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<FleetRun> {
    let mut books = Books::new(trace)?;
    // Before the first job, so that no end comes too early to be seen.
    let endings = broker.endings(broker.now().await?).await?;
    let begun = Instant::now();
    let last = trace.iter().map(|timed| timed.at).fold(0.0, f64::max);
    let give_up = begun + Duration::from_secs_f64(last) + options.patience;
    let mut sending = publish(broker, trace, options, begun);
    let mut reading = JoinSet::new();
    let (reads, mut ends) = mpsc::channel(UNNOTED);
    reading.spawn(read(endings, begun, reads));
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut depth = Vec::new();
    while books.open() > 0 || !sending.is_empty() {
        tokio::select! {
            Some(sent) = sending.join_next() => books.sent(sent?)?,
            end = ends.recv() => match end {
                Some((at, Ok(ending))) => books.ended(at, &ending),
                // It may have been one of ours; then patience ends the run.
                Some((_, Err(error))) => tracing::warn!(%error, "an end that cannot be read"),
                None => bail!("the connection to nats was closed"),
            },
            _ = looks.tick() => {
                check()?;
                let (at, jobs) = (begun.elapsed().as_secs_f64(), books.in_the_fleet());
                match broker.status(OffsetDateTime::now_utc()).await {
                    Ok(status) => depth.push(point(at, jobs, &status)),
                    Err(error) => tracing::warn!(%error, "the fleet was not seen"),
                }
            }
            () = tokio::time::sleep_until(give_up.into()) => break,
        }
    }
    ensure!(sending.is_empty(), "{} jobs were not stored in time", sending.len());
    Ok(books.close(depth))
}

/// A job that was sent: its place in the trace, and when and where the server had stored it.
type Sent = (usize, f64, Result<Submitted, SendError>);

/// Every job has a task of its own, so that none waits for another.
fn publish(broker: &Broker, trace: &[Timed], options: &FleetOptions, begun: Instant) -> JoinSet<Sent> {
    let mut sending = JoinSet::new();
    for (number, timed) in trace.iter().cloned().enumerate() {
        let (broker, lane) = (broker.clone(), options.lane);
        sending.spawn(async move {
            let due = begun + Duration::from_secs_f64(timed.at);
            tokio::time::sleep_until(due.into()).await;
            let trace = TraceContext::root(&mut fastrand::Rng::new());
            let outcome = broker.submit(&timed.job, lane, trace).await;
            (number, begun.elapsed().as_secs_f64(), outcome)
        });
    }
    sending
}

/// Reads ends in a task of its own: the time of each is that of its receipt, and reading one is never broken off.
async fn read(mut endings: Endings, begun: Instant, reads: mpsc::Sender<Read>) {
    while let Some(ending) = endings.next().await {
        if reads.send((begun.elapsed().as_secs_f64(), ending)).await.is_err() {
            return;
        }
    }
}

fn point(at: f64, jobs: usize, status: &Status) -> DepthPoint {
    DepthPoint {
        at,
        jobs,
        pending: status.lanes.iter().map(|lane| lane.pending).sum(),
        held: status.lanes.iter().map(|lane| lane.in_flight).sum(),
        running: status.workers.iter().map(|worker| worker.running).sum(),
        slots: status.workers.iter().map(|worker| worker.slots).sum(),
        workers: status.workers.len(),
    }
}

/// What has become of each job. Pure.
struct Books<'t> {
    trace: &'t [Timed],
    numbers: HashMap<&'t str, usize>,
    published: Vec<Option<f64>>,
    /// By its sequence a dead letter is known that has no job's id.
    sequences: HashMap<u64, usize>,
    /// Dead letters that came before we knew their jobs' sequences.
    early: Vec<(f64, u64)>,
    samples: Vec<Option<Sample>>,
    strays: usize,
}

impl<'t> Books<'t> {
    fn new(trace: &'t [Timed]) -> anyhow::Result<Self> {
        let numbers = trace.iter().enumerate().map(|(number, timed)| (timed.job.job_id.as_str(), number));
        let numbers: HashMap<_, _> = numbers.collect();
        ensure!(numbers.len() == trace.len(), "two jobs of the trace have the same id");
        let (published, samples) = (vec![None; trace.len()], vec![None; trace.len()]);
        Ok(Self {
            trace,
            numbers,
            published,
            sequences: HashMap::new(),
            early: Vec::new(),
            samples,
            strays: 0,
        })
    }

    /// Jobs that have not ended.
    fn open(&self) -> usize {
        self.samples.iter().filter(|sample| sample.is_none()).count()
    }

    /// Jobs that were published and have not ended.
    fn in_the_fleet(&self) -> usize {
        self.published.iter().zip(&self.samples).filter(|(at, end)| at.is_some() && end.is_none()).count()
    }

    fn sent(&mut self, (number, at, outcome): Sent) -> anyhow::Result<()> {
        let Submitted { sequence, duplicate } = outcome.with_context(|| format!("job {number}"))?;
        ensure!(
            !duplicate,
            "job {number} asks what an earlier one asked: give it a restaurant, an epoch or reviews of its own"
        );
        self.published[number] = Some(at);
        self.sequences.insert(sequence, number);
        let (mine, early) = self.early.drain(..).partition(|(_, other)| *other == sequence);
        self.early = early;
        let mine: Vec<(f64, u64)> = mine;
        for (at, _) in mine {
            self.note(number, at, None);
        }
        Ok(())
    }

    fn ended(&mut self, at: f64, ending: &Ending) {
        match ending {
            Ending::Result(found) => match self.numbers.get(found.result.job_id.as_str()) {
                // A replay of an old job has its own result.
                Some(&number) if found.backfill.is_none() => self.note(number, at, Some(&found.result)),
                _ => self.strays += 1,
            },
            Ending::DeadLetter(letter) => self.died(at, letter),
        }
    }

    fn died(&mut self, at: f64, letter: &DeadLetter) {
        let by_id = letter.job_id.as_deref().and_then(|id| self.numbers.get(id));
        match by_id.or_else(|| self.sequences.get(&letter.sequence)) {
            Some(&number) => {
                let reason = &letter.reason;
                tracing::warn!(job = number, code = reason.code, message = reason.message, "a dead letter");
                self.note(number, at, None);
            }
            None if letter.stream == names::JOBS_STREAM => self.early.push((at, letter.sequence)),
            None => self.strays += 1,
        }
    }

    fn note(&mut self, number: usize, at: f64, result: Option<&AnalysisResult>) {
        let noted = &mut self.samples[number];
        if noted.is_none() {
            *noted = Some(sample(number, &self.trace[number], at, result));
        } else {
            self.strays += 1;
        }
    }

    fn close(self, depth: Vec<DepthPoint>) -> FleetRun {
        let open = self.samples.iter().enumerate().filter(|(_, sample)| sample.is_none());
        FleetRun {
            open: open.map(|(number, _)| number).collect(),
            samples: self.samples.into_iter().flatten().collect(),
            published: self.published.into_iter().flatten().collect(),
            strays: self.strays + self.early.len(),
            depth,
        }
    }
}

/// The job that ended at `finished`, with a result or as a dead letter.
fn sample(number: usize, timed: &Timed, finished: f64, result: Option<&AnalysisResult>) -> Sample {
    let timings = result.map(|result| result.timings);
    // The worker's times count from its own receipt of the job, which is this long before the end.
    let moment = |after: f64, total: f64| finished - (total - after) / 1e3;
    let asked = timings.and_then(|timings| Some((timings, timings.ttft_ms?)));
    Sample {
        job: number,
        size: timed.size,
        // Known to the worker only.
        cost: 0.0,
        arrived: timed.at,
        admitted: asked.map(|(timings, _)| moment(timings.queue_ms, timings.total_ms)),
        first_output: asked.map(|(timings, ttft)| moment(ttft, timings.total_ms)),
        finished,
        tokens: result.map_or(0, |result| result.usage.worked_tokens()),
        ok: result.is_some_and(|result| {
            matches!(result.outcome, Outcome::Ok | Outcome::Unchanged | Outcome::NoData)
        }),
    }
}

#[cfg(test)]
mod tests;
