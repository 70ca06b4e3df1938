//! Rows for the metrics store from what working a job gave.

use std::borrow::Cow;
use std::time::Duration;

use time::OffsetDateTime;

use crate::analysis::reader::RequestRecord;
use crate::analyst::Worked;
use crate::job::{Analysis, Job};
use crate::result::Usage;
use crate::scheduler::Lane;
use crate::store::metric_writer::MetricSink;
use crate::store::metrics::{
    AnalysisMetric, GoodputWindow, MetricRow, RequestKind, RequestMetric, RequestTimes,
};
use crate::telemetry::goodput::Window;

/// Which worker an embedded run is.
pub const WORKER: &str = "embedded";

/// What a row says of the job's way besides what working it gave.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Identity of the result.
    pub result_id: &'a str,
    /// Who worked it.
    pub worker: &'a str,
    /// The lane it came in; absent if it came from a file.
    pub lane: Option<Lane>,
    /// The trace it belongs to.
    pub trace_id: Option<&'a str>,
}

impl<'a> Source<'a> {
    /// A job from a file.
    pub fn file(job: &'a Job) -> Self {
        Self { result_id: &job.job_id, worker: WORKER, lane: None, trace_id: None }
    }
}

/// Offers a row for each request and each analysis of the job.
pub fn offer(sink: &MetricSink, job: &Job, worked: &Worked, source: Source<'_>) {
    let created_at = OffsetDateTime::now_utc();
    for (number, record) in worked.cost.requests.iter().enumerate() {
        sink.offer(MetricRow::Request(request(number, record, job, worked, source, created_at)));
    }
    for (place, analysis) in job.analyses.iter().enumerate() {
        if let Some(row) = analysis_row(*analysis, place == 0, job, worked, source, created_at) {
            sink.offer(MetricRow::Analysis(row));
        }
    }
}

/// Offers the run's goodput.
pub fn offer_window(sink: &MetricSink, window: Window) {
    let row = GoodputWindow { worker: WORKER.into(), ended_at: OffsetDateTime::now_utc(), window };
    sink.offer(MetricRow::Goodput(row));
}

fn request(
    number: usize,
    record: &RequestRecord,
    job: &Job,
    worked: &Worked,
    source: Source<'_>,
    created_at: OffsetDateTime,
) -> RequestMetric {
    let since = |at: Duration| at.saturating_sub(worked.arrived);
    let answered = record.outcome.is_ok();
    let kind = if record.is_generation() { RequestKind::Generation } else { RequestKind::Probe };
    RequestMetric {
        // A rerun of the same job asks anew: the engine's clock keeps its requests apart from the first run's.
        request_id: format!("{}-{number}", created_at.unix_timestamp_nanos()),
        job_id: job.job_id.clone(),
        result_id: source.result_id.into(),
        restaurant_id: job.restaurant_id.clone(),
        worker: source.worker.into(),
        lane: source.lane,
        trace_id: source.trace_id.map(str::to_owned),
        analysis: Cow::Borrowed(record.purpose),
        kind,
        model: worked.result.model.name.clone(),
        times: RequestTimes {
            admitted: answered.then(|| since(record.timing.admitted)),
            first: answered.then(|| since(record.timing.first_output)),
            finished: if answered { since(record.timing.finished) } else { since(worked.finished) },
        },
        prompt_tokens: record.usage.prompt.into(),
        cached_tokens: record.usage.reused.into(),
        forced_tokens: record.usage.forced.into(),
        generated_tokens: record.usage.generated.into(),
        outcome: match &record.outcome {
            Ok(()) => Cow::Borrowed("ok"),
            Err(error) => Cow::Owned(error.clone()),
        },
        created_at,
    }
}

/// The row of one analysis. What all analyses share, above all the reading, is charged to the first.
fn analysis_row(
    analysis: Analysis,
    is_first: bool,
    job: &Job,
    worked: &Worked,
    source: Source<'_>,
    created_at: OffsetDateTime,
) -> Option<AnalysisMetric> {
    let result = &worked.result;
    let own = own_usage(analysis, is_first, job, worked);
    let queue = worked.cost.first_admission().map_or(Duration::ZERO, |at| at.saturating_sub(worked.arrived));
    Some(AnalysisMetric {
        job_id: job.job_id.clone(),
        result_id: source.result_id.into(),
        restaurant_id: job.restaurant_id.clone(),
        worker: source.worker.into(),
        lane: source.lane,
        trace_id: source.trace_id.map(str::to_owned),
        analysis,
        outcome: result.outcomes.get(&analysis)?.clone(),
        model: result.model.name.clone(),
        prompt_version: result.model.prompt_version.clone(),
        processing: worked.finished.saturating_sub(worked.arrived).saturating_sub(queue),
        queue,
        ttft: worked.cost.first_output().map(|at| at.saturating_sub(worked.arrived)),
        usage: own,
        warning_count: worked.cost.requests.iter().filter(|record| record.outcome.is_err()).count() as u32,
        created_at,
    })
}

fn own_usage(analysis: Analysis, is_first: bool, job: &Job, worked: &Worked) -> Usage {
    let is_own = |purpose: &str| match analysis {
        Analysis::Summary => purpose == "summary",
        Analysis::Strengths => purpose == "strengths",
        Analysis::Sentiment => false,
    };
    let is_shared = |purpose: &str| purpose != "summary" && purpose != "strengths";
    let asked = |analysis| job.analyses.contains(&analysis);
    let mut usage = Usage::default();
    for record in &worked.cost.requests {
        if is_own(record.purpose) || (is_first && is_shared(record.purpose)) {
            usage.requests += 1;
            usage.prompt_tokens += u64::from(record.usage.prompt);
            usage.reused_tokens += u64::from(record.usage.reused);
            usage.forced_tokens += u64::from(record.usage.forced);
            usage.generated_tokens += u64::from(record.usage.generated);
        }
    }
    let all = &worked.result.usage;
    if is_first {
        usage.reviews = all.reviews;
        usage.reviews_read = all.reviews_read;
        usage.reviews_cached = all.reviews_cached;
        usage.embedded_texts = all.embedded_texts;
        usage.baseline_tokens = all.baseline_tokens;
    }
    // Claims are written for summary and strengths together; the count goes to the summary where both are asked.
    if analysis == Analysis::Summary || (analysis == Analysis::Strengths && !asked(Analysis::Summary)) {
        usage.claims_written = all.claims_written;
        usage.claims_kept = all.claims_kept;
    }
    usage
}
