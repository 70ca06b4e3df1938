//! What counts and measures: one handle for every part of a worker that has something to tell.
//!
//! A handle that is off does nothing. Invariants: telling never waits and never fails; what is told of a job is told
//! once, when its result is in its stream, so that sums over the metrics are sums over the results; series whose labels
//! are known beforehand begin at zero, so that their first increase can be seen.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use super::SizeClass;
use super::goodput::{JobSample, Sla};
use super::names::{self, Kind, MetricInfo, label};
use crate::analysis::reader::RequestRecord;
use crate::engine::handle::Watcher;
use crate::job::Analysis;
use crate::result::{AnalysisResult, Outcome, Polarity, Usage};
use crate::scheduler::Lane;

/// The provider in GenAI attributes.
const PROVIDER: &str = "llama.cpp";
/// The broker in messaging attributes.
const BROKER: &str = "nats";

/// A job that has its result in its stream, or in its file.
#[derive(Debug, Clone, Copy)]
pub struct JobRecord<'a> {
    /// The lane it came in; absent if it came from a file. Then no label says `lane`, and nothing is told of messages.
    pub lane: Option<Lane>,
    /// Its result, as published.
    pub result: &'a AnalysisResult,
    /// The requests it was made of; none if it was not worked.
    pub requests: &'a [RequestRecord],
    /// From the start of its run to the published result.
    pub run: Duration,
}

/// What is done with the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A message is put into a stream.
    Publish,
    /// A job is settled as worked.
    Ack,
    /// A job is handed back.
    Nak,
    /// A job is never to come again.
    Term,
}

impl Operation {
    /// The value of [`label::MESSAGING_OPERATION`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Ack => "ack",
            Self::Nak => "nak",
            Self::Term => "term",
        }
    }
}

/// The handle. Cheap to clone.
#[derive(Clone, Default)]
pub struct Instruments(Option<Arc<Inner>>);

struct Inner {
    sla: Sla,
    jobs: Counter<u64>,
    job_ttft: Histogram<f64>,
    job_duration: Histogram<f64>,
    queue_wait: Histogram<f64>,
    jobs_within_sla: Counter<u64>,
    dead_letters: Counter<u64>,
    step_time: Histogram<f64>,
    step_tokens: Histogram<f64>,
    step_sequences: Histogram<f64>,
    cost_error: Histogram<f64>,
    first_token: Histogram<f64>,
    next_token: Histogram<f64>,
    request_duration: Histogram<f64>,
    request_tokens: Histogram<f64>,
    process_duration: Histogram<f64>,
    operation_duration: Histogram<f64>,
    consumed: Counter<u64>,
    sent: Counter<u64>,
    tokens: Counter<u64>,
    goodput_tokens: Counter<u64>,
    reviews: Counter<u64>,
    labels: Counter<u64>,
    claims: Counter<u64>,
    findings: Counter<u64>,
    baseline_tokens: Counter<u64>,
}

impl Instruments {
    /// A handle that does nothing.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Instruments of a meter; jobs are held against `sla` and come in these lanes, or in none.
    pub(super) fn new(meter: &Meter, sla: Sla, lanes: &[Option<Lane>]) -> Self {
        let (counter, histogram) = (|info| counter(meter, info), |info| histogram(meter, info));
        let inner = Inner {
            sla,
            jobs: counter(&names::JOBS),
            job_ttft: histogram(&names::JOB_TTFT),
            job_duration: histogram(&names::JOB_DURATION),
            queue_wait: histogram(&names::QUEUE_WAIT),
            jobs_within_sla: counter(&names::JOBS_WITHIN_SLA),
            dead_letters: counter(&names::DEAD_LETTERS),
            step_time: histogram(&names::STEP_TIME),
            step_tokens: histogram(&names::STEP_TOKENS),
            step_sequences: histogram(&names::STEP_SEQUENCES),
            cost_error: histogram(&names::COST_ERROR),
            first_token: histogram(&names::GEN_AI_TTFT),
            next_token: histogram(&names::GEN_AI_TPOT),
            request_duration: histogram(&names::GEN_AI_DURATION),
            request_tokens: histogram(&names::GEN_AI_TOKENS),
            process_duration: histogram(&names::PROCESS_DURATION),
            operation_duration: histogram(&names::OPERATION_DURATION),
            consumed: counter(&names::CONSUMED_MESSAGES),
            sent: counter(&names::SENT_MESSAGES),
            tokens: counter(&names::TOKENS),
            goodput_tokens: counter(&names::GOODPUT_TOKENS),
            reviews: counter(&names::REVIEWS),
            labels: counter(&names::LABELS),
            claims: counter(&names::CLAIMS),
            findings: counter(&names::FINDINGS),
            baseline_tokens: counter(&names::BASELINE_TOKENS),
        };
        inner.begin_at_zero(lanes);
        Self(Some(Arc::new(inner)))
    }

    /// Whether this handle does anything.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A job has its result.
    pub fn job_settled(&self, job: &JobRecord<'_>) {
        let Some(inner) = &self.0 else { return };
        inner.job(job);
        inner.quality(job.result);
        let model = &job.result.model.name;
        for request in job.requests {
            inner.request(request, model);
        }
    }

    /// A dead letter was written.
    pub fn dead_letter(&self, code: &str) {
        let Some(inner) = &self.0 else { return };
        inner.dead_letters.add(1, &[KeyValue::new(label::REASON, code.to_owned())]);
    }

    /// These codes may occur: their series begin at zero, so that the first letter can be seen.
    pub fn expect_dead_letters(&self, codes: impl IntoIterator<Item = &'static str>) {
        let Some(inner) = &self.0 else { return };
        for code in codes {
            inner.dead_letters.add(0, &[KeyValue::new(label::REASON, code)]);
        }
    }

    /// Jobs were delivered.
    pub fn consumed(&self, lane: Lane, count: usize) {
        let Some(inner) = &self.0 else { return };
        inner.consumed.add(count as u64, &messaging(lane.name(), "receive"));
    }

    /// A message is in its stream.
    pub fn sent(&self, stream: &'static str) {
        let Some(inner) = &self.0 else { return };
        inner.sent.add(1, &messaging(stream, Operation::Publish.name()));
    }

    /// Something with the broker took so long, to its confirmation. `destination` is a lane or a stream.
    pub fn operation(&self, operation: Operation, destination: &'static str, took: Duration) {
        let Some(inner) = &self.0 else { return };
        inner.operation_duration.record(took.as_secs_f64(), &messaging(destination, operation.name()));
    }

    /// What an engine is to be watched by; `None` if this handle is off. It runs between two decode calls, so it does
    /// little: a few histograms whose attributes are made beforehand.
    pub fn step_watcher(&self) -> Option<Watcher> {
        let inner = Arc::clone(self.0.as_ref()?);
        let phase = |name| [KeyValue::new(label::PHASE, name)];
        let (prefill, decode) = (phase("prefill"), phase("decode"));
        Some(Box::new(move |report| {
            let step = &report.step;
            inner.step_time.record(step.total_time.as_secs_f64(), &[]);
            inner.step_sequences.record(step.sequences.into(), &[]);
            for (tokens, phase) in [(step.prefill_tokens, &prefill), (step.decode_tokens, &decode)] {
                if tokens > 0 {
                    inner.step_tokens.record(tokens.into(), phase);
                }
            }
            let actual = step.decode_time.as_secs_f64();
            if actual > 0.0 {
                inner.cost_error.record(report.predicted / actual, &[]);
            }
        }))
    }
}

impl Inner {
    /// A counter that was never added to has no series, and the first increase of one that appears cannot be seen.
    fn begin_at_zero(&self, lanes: &[Option<Lane>]) {
        for lane in lanes {
            for outcome in Outcome::STATUSES {
                self.jobs.add(0, &in_lane(*lane, Some((label::OUTCOME, outcome))));
            }
            for size in SizeClass::ALL.map(SizeClass::name) {
                self.jobs_within_sla.add(0, &in_lane(*lane, Some((label::SIZE, size))));
            }
        }
        for source in ["read", "cached"] {
            self.reviews.add(0, &[KeyValue::new(label::SOURCE, source)]);
        }
        for polarity in [Polarity::Positive, Polarity::Negative, Polarity::Neutral] {
            self.labels.add(0, &[KeyValue::new(label::LABEL, polarity.name())]);
        }
        for outcome in ["kept", "replaced"] {
            self.claims.add(0, &[KeyValue::new(label::OUTCOME, outcome)]);
        }
        for analysis in Analysis::ALL {
            self.findings.add(0, &[KeyValue::new(label::ANALYSIS, analysis.name())]);
        }
        for counter in [&self.tokens, &self.goodput_tokens, &self.baseline_tokens] {
            counter.add(0, &[]);
        }
    }

    fn job(&self, job: &JobRecord<'_>) {
        let (result, timings) = (job.result, &job.result.timings);
        let size = SizeClass::of(result.usage.reviews.into()).name();
        let by_size = in_lane(job.lane, Some((label::SIZE, size)));
        self.jobs.add(1, &in_lane(job.lane, Some((label::OUTCOME, result.outcome.status()))));
        if let Some(lane) = job.lane {
            self.process_duration.record(job.run.as_secs_f64(), &messaging(lane.name(), "process"));
        }
        let tokens = result.usage.worked_tokens();
        self.tokens.add(tokens, &[]);
        self.baseline_tokens.add(result.usage.baseline_tokens, &[]);
        if timings.total_ms > 0.0 {
            self.job_duration.record(timings.total_ms / 1e3, &by_size);
        }
        if let Some(ttft) = timings.ttft_ms {
            self.job_ttft.record(ttft / 1e3, &by_size);
            self.queue_wait.record(timings.queue_ms / 1e3, &in_lane(job.lane, None));
        }
        if self.sla.verdict(&sample(result)) == Some(true) {
            self.jobs_within_sla.add(1, &by_size);
            self.goodput_tokens.add(tokens, &[]);
        }
    }

    fn quality(&self, result: &AnalysisResult) {
        let Usage { reviews_read, reviews_cached, claims_written, claims_kept, .. } = result.usage;
        for (source, count) in [("read", reviews_read), ("cached", reviews_cached)] {
            self.reviews.add(count.into(), &[KeyValue::new(label::SOURCE, source)]);
        }
        let replaced = claims_written.saturating_sub(claims_kept);
        for (outcome, count) in [("kept", claims_kept), ("replaced", replaced)] {
            self.claims.add(count.into(), &[KeyValue::new(label::OUTCOME, outcome)]);
        }
        for (analysis, count) in findings(result) {
            self.findings.add(count, &[KeyValue::new(label::ANALYSIS, analysis.name())]);
        }
        let Some(sentiment) = result.sentiment.as_ref().filter(|_| is_new(result, Analysis::Sentiment))
        else {
            return;
        };
        for (polarity, count) in [
            (Polarity::Positive, sentiment.positive),
            (Polarity::Negative, sentiment.negative),
            (Polarity::Neutral, sentiment.neutral),
        ] {
            self.labels.add(count.into(), &[KeyValue::new(label::LABEL, polarity.name())]);
        }
    }

    /// A request that failed has neither times nor tokens.
    fn request(&self, record: &RequestRecord, model: &str) {
        if record.outcome.is_err() {
            return;
        }
        let attributes = gen_ai(record, model);
        let (timing, usage) = (&record.timing, &record.usage);
        if !timing.first_output.is_zero() {
            self.first_token.record(seconds(timing.admitted, timing.first_output), &attributes);
        }
        self.request_duration.record(seconds(timing.queued, timing.finished), &attributes);
        if usage.generated > 1 {
            let decode = seconds(timing.first_output, timing.finished);
            self.next_token.record(decode / f64::from(usage.generated - 1), &attributes);
        }
        // By the convention, input tokens are all of the prompt, those of a cache included.
        let input = u64::from(usage.prompt) + u64::from(usage.reused) + u64::from(usage.forced);
        let [operation, provider, model] = attributes;
        for (kind, tokens) in [("input", input), ("output", usage.generated.into())] {
            let kind = KeyValue::new(label::GEN_AI_TOKEN_TYPE, kind);
            self.request_tokens
                .record(tokens as f64, &[operation.clone(), provider.clone(), model.clone(), kind]);
        }
    }
}

/// How the job stands to the service level.
fn sample(result: &AnalysisResult) -> JobSample {
    JobSample {
        // Of no concern to one job's standing.
        finished_at: Duration::ZERO,
        ttft: result.timings.ttft_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok()),
        tokens: result.usage.worked_tokens(),
        ok: !matches!(result.outcome, Outcome::Failed { .. }),
    }
}

/// Whether this part of the result was found now, and is no repetition.
fn is_new(result: &AnalysisResult, analysis: Analysis) -> bool {
    matches!(result.outcomes.get(&analysis), Some(Outcome::Ok | Outcome::Partial { .. }))
}

fn findings(result: &AnalysisResult) -> impl Iterator<Item = (Analysis, u64)> {
    let count = |analysis| match analysis {
        Analysis::Sentiment => usize::from(result.sentiment.is_some()),
        Analysis::Summary => result.summary.as_ref().map_or(0, |summary| summary.aspects.len()),
        Analysis::Strengths => result.strengths.as_ref().map_or(0, |strengths| strengths.items.len()),
    };
    let new = Analysis::ALL.into_iter().filter(|analysis| is_new(result, *analysis));
    new.map(move |analysis| (analysis, count(analysis) as u64))
}

/// Labels of a job: its lane, if it came in one, and another.
fn in_lane(lane: Option<Lane>, other: Option<(&'static str, &'static str)>) -> Vec<KeyValue> {
    let lane = lane.map(|lane| (label::LANE, lane.name()));
    lane.into_iter().chain(other).map(|(name, value)| KeyValue::new(name, value)).collect()
}

pub(super) fn gen_ai(record: &RequestRecord, model: &str) -> [KeyValue; 3] {
    let operation = if record.is_generation() { "text_completion" } else { "classification" };
    [
        KeyValue::new(label::GEN_AI_OPERATION, operation),
        KeyValue::new(label::GEN_AI_PROVIDER, PROVIDER),
        KeyValue::new(label::GEN_AI_MODEL, model.to_owned()),
    ]
}

fn messaging(destination: &'static str, operation: &'static str) -> [KeyValue; 3] {
    [
        KeyValue::new(label::MESSAGING_SYSTEM, BROKER),
        KeyValue::new(label::MESSAGING_DESTINATION, destination),
        KeyValue::new(label::MESSAGING_OPERATION, operation),
    ]
}

fn seconds(from: Duration, to: Duration) -> f64 {
    to.saturating_sub(from).as_secs_f64()
}

fn counter(meter: &Meter, info: &MetricInfo) -> Counter<u64> {
    debug_assert_eq!(info.kind, Kind::Counter, "{}", info.name);
    meter.u64_counter(info.name).with_unit(info.unit).with_description(info.help).build()
}

fn histogram(meter: &Meter, info: &MetricInfo) -> Histogram<f64> {
    let Kind::Histogram(bounds) = info.kind else {
        debug_assert!(false, "{} is no histogram", info.name);
        return meter.f64_histogram(info.name).build();
    };
    let builder = meter.f64_histogram(info.name).with_unit(info.unit).with_description(info.help);
    builder.with_boundaries(bounds.to_vec()).build()
}
