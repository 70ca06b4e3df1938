//! What is recorded of the work: rows, and the trait of their homes.
//!
//! Rows are built from what was measured (instants on a monotonic clock, exact token counts); every derived column is
//! computed here, by one formula, so that no row contradicts itself. Dates are UTC. What was not measured is absent,
//! never zero.

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use time::OffsetDateTime;

use super::StoreError;
use crate::job::Analysis;
use crate::result::{Outcome, Usage};
use crate::scheduler::Lane;
use crate::telemetry::Window;

/// What the engine was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// Read label probabilities, generate nothing.
    Probe,
    /// Run a template.
    Generation,
}

impl RequestKind {
    /// The name in `llm_metrics.kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Generation => "generation",
        }
    }
}

/// Instants of one request, since its arrival, on a monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTimes {
    /// When the engine admitted it; absent if it never did.
    pub admitted: Option<Duration>,
    /// When its first label or token was there; absent if it never was.
    pub first: Option<Duration>,
    /// When it ended, well or not.
    pub finished: Duration,
}

impl RequestTimes {
    /// Arrival to admission; all of its time if it was never admitted.
    pub fn queue(&self) -> Duration {
        self.admitted.unwrap_or(self.finished)
    }

    /// Admission to the first label or token.
    pub fn prefill(&self) -> Option<Duration> {
        Some(self.first?.saturating_sub(self.admitted?))
    }

    /// First label or token to the end.
    pub fn decode(&self) -> Option<Duration> {
        Some(self.finished.saturating_sub(self.first?))
    }

    /// Arrival to the first label or token: queue wait included, because the reader waits for it too.
    pub const fn ttft(&self) -> Option<Duration> {
        self.first
    }
}

/// One request to the engine: a row of `llm_metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestMetric {
    /// Identity of the request, unique within its job.
    pub request_id: String,
    /// The job.
    pub job_id: String,
    /// Identity of the result that it was made for, the job's or of its backfill; with `request_id` that of the row.
    pub result_id: String,
    /// The restaurant.
    pub restaurant_id: String,
    /// Which worker had it answered.
    pub worker: String,
    /// The lane the job came in; absent if it came from a file.
    pub lane: Option<Lane>,
    /// The trace the job belongs to, 32 hexadecimal digits; absent if it came without one.
    pub trace_id: Option<String>,
    /// What it was for: `facts`, `summary`, `strengths`, `overall`, …
    pub analysis: Cow<'static, str>,
    /// Probe or generation.
    pub kind: RequestKind,
    /// The model that answered, not the one configured.
    pub model: String,
    /// When its job was received, since the engine's start: what `times` count from.
    pub received: Duration,
    /// When what happened.
    pub times: RequestTimes,
    /// Prompt tokens computed.
    pub prompt_tokens: u64,
    /// Prompt tokens taken from a pinned prefix.
    pub cached_tokens: u64,
    /// Template tokens fed, not sampled.
    pub forced_tokens: u64,
    /// Sampled tokens.
    pub generated_tokens: u64,
    /// `ok` or a short stable error code.
    pub outcome: Cow<'static, str>,
    /// When the row was made (UTC).
    pub created_at: OffsetDateTime,
}

impl RequestMetric {
    /// Time per output token: the decode time over the tokens that came in it, which are those after the first.
    pub fn tpot(&self) -> Option<Duration> {
        let after_first = u32::try_from(self.generated_tokens.checked_sub(1)?).ok()?;
        self.times.decode()?.checked_div(after_first)
    }

    /// Tokens computed (prompt, forced, generated; not cached) per second from admission to the end.
    pub fn tps(&self) -> Option<f64> {
        let seconds = self.times.finished.saturating_sub(self.times.admitted?).as_secs_f64();
        let computed = self.prompt_tokens + self.forced_tokens + self.generated_tokens;
        (seconds > 0.0).then(|| computed as f64 / seconds)
    }
}

/// One analysis of one job: a row of `analysis_metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalysisMetric {
    /// The job.
    pub job_id: String,
    /// Identity of the result, the job's or of its backfill; with `analysis` that of the row.
    pub result_id: String,
    /// The restaurant.
    pub restaurant_id: String,
    /// Which worker worked it.
    pub worker: String,
    /// The lane the job came in; absent if it came from a file.
    pub lane: Option<Lane>,
    /// The trace the job belongs to, 32 hexadecimal digits; absent if it came without one.
    pub trace_id: Option<String>,
    /// The analysis.
    pub analysis: Analysis,
    /// How it ended; the code of a failure goes to `error_code`.
    pub outcome: Outcome,
    /// The model that answered, not the one configured.
    pub model: String,
    /// Digest of prompts, labels, aspects and seeds in force.
    pub prompt_version: String,
    /// From the start of the work to the analysis' end, queue wait left out.
    pub processing: Duration,
    /// From the job's arrival to the start of the work.
    pub queue: Duration,
    /// From the job's arrival to its first label or token; absent when the model was not asked.
    pub ttft: Option<Duration>,
    /// This analysis' part of the job's cost: sums over rows must be right, so what several analyses share (the
    /// reading of a review) is charged to one of them.
    pub usage: Usage,
    /// Requests charged to it that the engine did not answer.
    pub error_count: u32,
    /// Claims that failed a check and were replaced by a quote.
    pub warning_count: u32,
    /// When the row was made (UTC).
    pub created_at: OffsetDateTime,
}

impl AnalysisMetric {
    /// The code of a failure; absent if it did not fail.
    pub fn error_code(&self) -> Option<&str> {
        error_code(&self.outcome)
    }
}

fn error_code(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Failed { code, .. } => Some(code),
        _ => None,
    }
}

/// The stamps of a job's way, on its worker's monotonic clock, since the engine's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobStamps {
    /// The worker was given it.
    pub received: Duration,
    /// Its first request was given a sequence; absent when the model was not asked.
    pub admitted: Option<Duration>,
    /// Its first label or token was known.
    pub first_token: Option<Duration>,
    /// The last of its prompts was read: its last request's first label or token.
    pub prefilled: Option<Duration>,
    /// Its result was stored.
    pub published: Duration,
}

impl JobStamps {
    /// From being received to the first admission; absent when the model was not asked.
    pub fn queue(&self) -> Option<Duration> {
        Some(self.admitted?.saturating_sub(self.received))
    }

    /// From being received to the first label or token, queue wait included.
    pub fn ttft(&self) -> Option<Duration> {
        Some(self.first_token?.saturating_sub(self.received))
    }

    /// From being received to the result's being stored.
    pub const fn total(&self) -> Duration {
        self.published.saturating_sub(self.received)
    }
}

/// One result, of a job that was worked or not: a row of `job_metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobMetric {
    /// The job.
    pub job_id: String,
    /// Identity of the result, the job's or of its backfill; that of the row.
    pub result_id: String,
    /// The restaurant.
    pub restaurant_id: String,
    /// Which worker made it.
    pub worker: String,
    /// The lane the job came in; absent if it came from a file.
    pub lane: Option<Lane>,
    /// The trace the job belongs to, 32 hexadecimal digits; absent if it came without one.
    pub trace_id: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// The model that answered, not the one configured.
    pub model: String,
    /// Digest of prompts, labels, aspects and seeds in force.
    pub prompt_version: String,
    /// What kind of device the model ran on.
    pub device: Cow<'static, str>,
    /// Digest of the settings that bear on speed and findings.
    pub config: String,
    /// How often the server had delivered the job; absent if it came from a file.
    pub deliveries: Option<u64>,
    /// When what happened.
    pub stamps: JobStamps,
    /// Whether it met the service level; absent when the model was not needed.
    pub within_sla: Option<bool>,
    /// What it cost.
    pub usage: Usage,
    /// When the row was made (UTC).
    pub created_at: OffsetDateTime,
}

impl JobMetric {
    /// The code of a failure; absent if it did not fail.
    pub fn error_code(&self) -> Option<&str> {
        error_code(&self.outcome)
    }
}

/// A look at a GPU: a row of `gpu_samples`. What the driver does not tell is absent.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuSampleRow {
    /// Which worker looked.
    pub worker: String,
    /// The device, counted from 0.
    pub device: u32,
    /// What the driver calls it.
    pub name: String,
    /// Share of the time in which it was at work, 0 to 1.
    pub utilization: Option<f64>,
    /// Bytes of its memory in use.
    pub memory_used_bytes: Option<u64>,
    /// Bytes of its memory.
    pub memory_total_bytes: Option<u64>,
    /// Power it draws, in watts.
    pub power_watts: Option<f64>,
    /// Its temperature, in degrees Celsius.
    pub temperature_celsius: Option<f64>,
    /// When (UTC).
    pub sampled_at: OffsetDateTime,
}

/// A worker wrote a dead letter: a row of `dead_letters`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRow {
    /// The job; absent if the message could not be read.
    pub job_id: Option<String>,
    /// The restaurant; absent if the message could not be read.
    pub restaurant_id: Option<String>,
    /// Which worker gave it up.
    pub worker: String,
    /// The lane it came in.
    pub lane: Lane,
    /// A short stable code.
    pub reason: String,
    /// Its place in the stream of jobs.
    pub sequence: u64,
    /// How often the server had delivered it.
    pub deliveries: u64,
    /// When (UTC).
    pub created_at: OffsetDateTime,
}

/// Throughput and goodput over a stretch of wall time: a row of `goodput_windows`.
#[derive(Debug, Clone, PartialEq)]
pub struct GoodputWindow {
    /// Which worker measured it.
    pub worker: String,
    /// When the window ended (UTC); its start follows from its length.
    pub ended_at: OffsetDateTime,
    /// What was counted.
    pub window: Window,
    /// Time in which the engine was at work during the window; absent if nobody measured it.
    pub busy: Option<Duration>,
}

impl GoodputWindow {
    /// When the window started (UTC).
    pub fn started_at(&self) -> OffsetDateTime {
        self.ended_at - self.window.wall()
    }
}

/// A worker began to work: a row of `workers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStart {
    /// Its name.
    pub worker: String,
    /// Version of the program.
    pub version: String,
    /// The language model it answers with.
    pub model: String,
    /// What kind of device the model runs on.
    pub device: Cow<'static, str>,
    /// Jobs in work at the same time.
    pub slots: u64,
    /// Requests to the engine in work at the same time.
    pub sequences: u64,
    /// Digest of the settings that bear on speed and findings.
    pub config: String,
    /// Longest time to the first answer that counts as good service.
    pub sla: Duration,
    /// When (UTC); with the name that of the row.
    pub started_at: OffsetDateTime,
}

/// A worker ended, and could tell: a row of `worker_ends`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerEnd {
    /// Its name.
    pub worker: String,
    /// As in its [`WorkerStart`].
    pub started_at: OffsetDateTime,
    /// When (UTC).
    pub ended_at: OffsetDateTime,
    /// How: `drained`, `aborted`, `stuck`.
    pub ending: &'static str,
}

/// One row of any table.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricRow {
    /// `llm_metrics`.
    Request(RequestMetric),
    /// `analysis_metrics`.
    Analysis(AnalysisMetric),
    /// `goodput_windows`.
    Goodput(GoodputWindow),
    /// `workers`.
    Worker(WorkerStart),
    /// `worker_ends`.
    WorkerEnd(WorkerEnd),
    /// `job_metrics`.
    Job(JobMetric),
    /// `gpu_samples`.
    Gpu(GpuSampleRow),
    /// `dead_letters`.
    DeadLetter(DeadLetterRow),
}

/// Home of metrics.
pub trait MetricStore: Send + Sync + 'static {
    /// Writes all rows or none. A row that is there already is left as it is, so that a batch whose outcome is
    /// unknown can be written again.
    fn record(&self, rows: &[MetricRow]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A date as SQLite keeps it: UTC, RFC 3339, milliseconds, of one width so that text order is time order.
pub(super) fn utc_text(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond(),
    )
}

/// A duration as every store keeps it.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
pub(super) mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::telemetry::TtftQuantiles;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    pub(in crate::store) fn request(id: &str) -> RequestMetric {
        RequestMetric {
            request_id: id.into(),
            job_id: "j-1".into(),
            result_id: "j-1".into(),
            restaurant_id: "r-1".into(),
            worker: "w-1".into(),
            lane: Some(Lane::Hi),
            trace_id: Some("0af7651916cd43dd8448eb211c80319c".into()),
            analysis: "summary".into(),
            kind: RequestKind::Generation,
            model: "m".into(),
            received: ms(70_000),
            times: RequestTimes { admitted: Some(ms(100)), first: Some(ms(350)), finished: ms(1350) },
            prompt_tokens: 60,
            cached_tokens: 200,
            forced_tokens: 4,
            generated_tokens: 11,
            outcome: "ok".into(),
            created_at: datetime!(2026-01-31 09:30:00.25 UTC),
        }
    }

    pub(in crate::store) fn analysis(job: &str, analysis: Analysis, outcome: Outcome) -> AnalysisMetric {
        AnalysisMetric {
            job_id: job.into(),
            result_id: job.into(),
            restaurant_id: "r-1".into(),
            worker: "w-1".into(),
            lane: None,
            trace_id: None,
            analysis,
            outcome,
            model: "m".into(),
            prompt_version: "p".into(),
            processing: ms(800),
            queue: ms(200),
            ttft: Some(ms(450)),
            usage: Usage {
                reviews: 20,
                reviews_read: 5,
                reviews_cached: 15,
                prompt_tokens: 90,
                reused_tokens: 700,
                forced_tokens: 4,
                generated_tokens: 6,
                baseline_tokens: 1000,
                ..Usage::default()
            },
            error_count: 2,
            warning_count: 1,
            created_at: datetime!(2026-01-31 18:30:00 +9),
        }
    }

    pub(in crate::store) fn job(id: &str, outcome: Outcome) -> JobMetric {
        JobMetric {
            job_id: id.into(),
            result_id: id.into(),
            restaurant_id: "r-1".into(),
            worker: "w-1".into(),
            lane: Some(Lane::Live),
            trace_id: None,
            outcome,
            model: "m".into(),
            prompt_version: "p".into(),
            device: "cpu".into(),
            config: "c".into(),
            deliveries: Some(1),
            stamps: JobStamps {
                received: ms(70_000),
                admitted: Some(ms(70_100)),
                first_token: Some(ms(70_350)),
                prefilled: Some(ms(71_000)),
                published: ms(71_400),
            },
            within_sla: Some(true),
            usage: Usage {
                reviews: 20,
                reviews_read: 5,
                reviews_cached: 15,
                requests: 9,
                prompt_tokens: 90,
                reused_tokens: 700,
                forced_tokens: 4,
                generated_tokens: 6,
                baseline_tokens: 1000,
                embedded_texts: 12,
                claims_written: 3,
                claims_kept: 2,
            },
            created_at: datetime!(2026-01-31 18:30:00 +9),
        }
    }

    pub(in crate::store) fn gpu() -> GpuSampleRow {
        GpuSampleRow {
            worker: "w-1".into(),
            device: 1,
            name: "A GPU".into(),
            utilization: Some(0.5),
            memory_used_bytes: Some(1 << 30),
            memory_total_bytes: Some(4 << 30),
            power_watts: None,
            temperature_celsius: Some(61.0),
            sampled_at: datetime!(2026-01-31 09:30:00.25 UTC),
        }
    }

    pub(in crate::store) fn dead_letter() -> DeadLetterRow {
        DeadLetterRow {
            job_id: Some("j-9".into()),
            restaurant_id: None,
            worker: "w-1".into(),
            lane: Lane::Hi,
            reason: "poison".into(),
            sequence: 7,
            deliveries: 3,
            created_at: datetime!(2026-01-31 09:30:00 UTC),
        }
    }

    pub(in crate::store) fn goodput() -> GoodputWindow {
        let ttft = Some(TtftQuantiles { p50: ms(300), p95: ms(1500), max: ms(2500) });
        GoodputWindow {
            worker: "w-1".into(),
            ended_at: datetime!(2026-01-31 09:31:00 UTC),
            window: Window {
                from: ms(5000),
                to: ms(15_000),
                jobs: 4,
                jobs_met: 3,
                tokens: 900,
                tokens_met: 600,
                ttft,
            },
            busy: Some(ms(4000)),
        }
    }

    pub(in crate::store) fn worker_start() -> WorkerStart {
        WorkerStart {
            worker: "w-1".into(),
            version: "0.1.0".into(),
            model: "m".into(),
            device: "cpu".into(),
            slots: 8,
            sequences: 16,
            config: "c".into(),
            sla: ms(2000),
            started_at: datetime!(2026-01-31 09:00 UTC),
        }
    }

    pub(in crate::store) fn worker_end() -> WorkerEnd {
        let start = worker_start();
        WorkerEnd {
            worker: start.worker,
            started_at: start.started_at,
            ended_at: datetime!(2026-01-31 10:00 UTC),
            ending: "drained",
        }
    }

    /// A row of each table.
    pub(in crate::store) fn one_of_each() -> Vec<MetricRow> {
        vec![
            MetricRow::Request(request("q")),
            MetricRow::Analysis(analysis("j", Analysis::Summary, Outcome::Ok)),
            MetricRow::Goodput(goodput()),
            MetricRow::Worker(worker_start()),
            MetricRow::WorkerEnd(worker_end()),
            MetricRow::Job(job("j", Outcome::Ok)),
            MetricRow::Gpu(gpu()),
            MetricRow::DeadLetter(dead_letter()),
        ]
    }

    #[test]
    fn the_parts_of_a_request_add_up_and_the_first_token_includes_the_queue() {
        let times = request("q").times;
        let parts = times.queue() + times.prefill().unwrap() + times.decode().unwrap();
        assert_eq!(parts, times.finished);
        assert_eq!(times.ttft(), Some(times.queue() + times.prefill().unwrap()));
    }

    #[test]
    fn a_request_that_was_never_admitted_only_queued() {
        let times = RequestTimes { admitted: None, first: None, finished: ms(70) };
        assert_eq!(
            (times.queue(), times.prefill(), times.decode(), times.ttft()),
            (ms(70), None, None, None)
        );
        assert_eq!(RequestMetric { times, ..request("q") }.tps(), None);
    }

    #[test]
    fn the_time_per_output_token_leaves_the_first_one_out() {
        assert_eq!(request("q").tpot(), Some(ms(100)));
        for generated_tokens in [0, 1] {
            assert_eq!(RequestMetric { generated_tokens, ..request("q") }.tpot(), None);
        }
    }

    #[test]
    fn tokens_per_second_count_what_was_computed_while_it_was_worked() {
        assert_eq!(request("q").tps(), Some(75.0 / 1.25));
    }

    #[test]
    fn a_jobs_spans_are_differences_of_its_stamps() {
        let stamps = job("j", Outcome::Ok).stamps;
        assert_eq!((stamps.queue(), stamps.ttft(), stamps.total()), (Some(ms(100)), Some(ms(350)), ms(1400)));
        let unasked = JobStamps { admitted: None, first_token: None, prefilled: None, ..stamps };
        assert_eq!((unasked.queue(), unasked.ttft(), unasked.total()), (None, None, ms(1400)));
    }

    #[test]
    fn a_window_starts_its_length_before_its_end() {
        assert_eq!(goodput().started_at(), datetime!(2026-01-31 09:30:50 UTC));
    }

    #[test]
    fn dates_are_written_in_utc_and_one_width() {
        assert_eq!(utc_text(datetime!(2026-01-31 18:30:00 +9)), "2026-01-31T09:30:00.000Z");
        assert_eq!(utc_text(datetime!(2026-01-31 09:30:00.123_9 UTC)), "2026-01-31T09:30:00.123Z");
    }
}
