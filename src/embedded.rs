//! The pipeline over a file, in one process, without a server: the same analyst as in a fleet.
//!
//! One blocking thread reads the input, a few restaurants are worked at a time, results go out as they are ready.
//! Nothing is held longer than a restaurant is in work, so memory does not grow with the file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::analyst::{Analyst, Worked, metrics};
use crate::input::{InputError, JobReader};
use crate::job::Job;
use crate::result::AnalysisResult;
use crate::stats::{self, Latency, RunStats};
use crate::store::FactStore;
use crate::store::metric_writer::MetricSink;
use crate::store::metrics::{GoodputWindow, MetricRow};
use crate::telemetry::goodput::{Sla, Window};
use crate::telemetry::spans::{Anchor, Interval, JobTimeline};
use crate::telemetry::{Account, Telemetry, TraceContext};
use crate::worker::gauges;
use crate::worker::goodput::{GoodputClerk, WINDOW, busy};

/// Jobs read ahead of those in work.
const READ_AHEAD: usize = 2;

/// How a run goes.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Restaurants to work at most.
    pub limit: Option<u64>,
    /// Restaurants in work at the same time.
    pub concurrent: usize,
    /// Who works, and what counts as good service.
    pub maker: metrics::Maker,
}

/// Where it is recorded how a run went; by default nowhere.
#[derive(Clone, Default)]
pub struct Books {
    /// Rows of metrics.
    pub rows: Option<MetricSink>,
    /// Metrics and traces.
    pub telemetry: Telemetry,
    /// Share of the restaurants whose trace is recorded, 0 to 1.
    pub trace_ratio: f64,
}

/// What a run tells while it goes.
pub enum Event<'e> {
    /// A restaurant is done; so many bytes of the input had been read when it was begun.
    Result(&'e AnalysisResult, u64),
    /// A line or restaurant of the input cannot be used.
    Refused(&'e InputError),
}

/// A job, and how far the input was read when it came.
pub(crate) type Read = (Result<Job, InputError>, u64);

/// Works the input to its end, or until `stop`. An error of `tell` ends the run: nowhere to put results means
/// nothing to work for.
pub async fn run<S: FactStore>(
    analyst: Arc<Analyst<S>>,
    input: JobReader,
    options: RunOptions,
    books: Books,
    stop: CancellationToken,
    mut tell: impl FnMut(Event<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<RunStats> {
    let begun = Instant::now();
    let engine = analyst.reader().engine().clone();
    let mut stats = RunStats::default();
    let clerk = GoodputClerk::new(options.maker.sla, engine.now());
    clerk.begin(engine.now(), busy(&engine.stats()));
    gauges::of_window(&books.telemetry, &clerk);
    let account = Account::of(&books.telemetry);
    let mut minutes = tokio::time::interval(WINDOW);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, and there is no window yet.
    minutes.tick().await;
    let close_window = || {
        let closed = clerk.close(engine.now(), busy(&engine.stats()));
        if let (Some(sink), Some(closed)) = (&books.rows, closed) {
            sink.offer(MetricRow::Goodput(GoodputWindow {
                worker: options.maker.worker.clone(),
                ended_at: OffsetDateTime::now_utc(),
                window: closed.window,
                busy: Some(closed.busy),
            }));
        }
    };
    let mut jobs = read_in_background(input, options.limit);
    let mut working: JoinSet<(Job, Worked, u64)> = JoinSet::new();
    let mut more = true;
    while more || !working.is_empty() {
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                stats.interrupted = true;
                break;
            }
            Some(done) = working.join_next() => {
                // A panic in the analysis is a bug: let it end the run with its own message.
                let (job, worked, bytes) = done?;
                stats.add(&worked.result);
                clerk.settled(worked.sample());
                let from = engine.now();
                tell(Event::Result(&worked.result, bytes))?;
                let written = Interval { from, to: engine.now() };
                let trace = account.is_on().then(|| books.trace());
                if let Some(sink) = &books.rows {
                    let trace_id = trace.map(TraceContext::trace_id);
                    let source = metrics::Source::file(&options.maker, &job, trace_id.as_deref());
                    metrics::offer(sink, &job, &worked, source, written.to);
                }
                if let Some(trace) = trace {
                    settled(&account, trace, &worked, written);
                }
            }
            _ = minutes.tick() => close_window(),
            read = jobs.recv(), if more && working.len() < options.concurrent => match read {
                Some((Ok(job), bytes)) => {
                    let analyst = Arc::clone(&analyst);
                    working.spawn(async move {
                        let worked = analyst.work(&job, analyst.place()).await;
                        (job, worked, bytes)
                    });
                }
                Some((Err(error), _)) => {
                    stats.add_refused();
                    tell(Event::Refused(&error))?;
                }
                None => more = false,
            },
        }
    }
    // Dropping the tasks drops their requests: the engine lets go of them at its next step.
    drop(working);
    close_window();
    finish(&mut stats, &clerk.summary(engine.now()), options.maker.sla, begun.elapsed());
    Ok(stats)
}

impl Books {
    /// Begins a restaurant's trace.
    fn trace(&self) -> TraceContext {
        TraceContext::root_sampled(&mut fastrand::Rng::new(), self.trace_ratio)
    }
}

/// Tells of a restaurant whose result was just written.
fn settled(account: &Account, trace: TraceContext, worked: &Worked, written: Interval) {
    let timeline = JobTimeline {
        place: trace,
        parent: None,
        queued: None,
        arrived: worked.place.arrived,
        begun: worked.place.arrived,
        selected: worked.cost.selected.map(Interval::from),
        requests: &worked.cost.requests,
        published: written,
        result: &worked.result,
    };
    account.settled(&timeline, Anchor { clock: written.to, wall: OffsetDateTime::now_utc() });
}

/// Reads on a thread of its own, a little ahead.
pub(crate) fn read_in_background(input: JobReader, limit: Option<u64>) -> mpsc::Receiver<Read> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    tokio::task::spawn_blocking(move || {
        let progress = input.progress();
        let mut taken = 0;
        for job in input {
            taken += u64::from(job.is_ok());
            // The receiver is gone when the run has ended.
            if sender.blocking_send((job, progress.bytes_read())).is_err() || limit == Some(taken) {
                return;
            }
        }
    });
    receiver
}

fn finish(stats: &mut RunStats, window: &Window, sla: Sla, wall: Duration) {
    stats.ttft = window
        .ttft
        .map(|ttft| Latency { p50_seconds: ttft.p50.as_secs_f64(), p95_seconds: ttft.p95.as_secs_f64() });
    let seconds = window.wall().as_secs_f64();
    stats.goodput = window.compliance().map(|compliance| stats::Goodput {
        sla_ttft_seconds: sla.ttft.as_secs_f64(),
        compliance,
        restaurants_per_second: if seconds > 0.0 { window.jobs_met as f64 / seconds } else { 0.0 },
        tokens_per_second: window.goodput_tps().unwrap_or(0.0),
    });
    stats.peak_memory_bytes = stats::peak_memory_bytes();
    stats.finish(wall);
}
