//! Rows for the metrics store from what working a job gave.

use std::borrow::Cow;
use std::time::Duration;

use time::OffsetDateTime;

use crate::analysis::reader::RequestRecord;
use crate::analyst::{Place, Worked};
use crate::config::Settings;
use crate::job::{Analysis, Job};
use crate::result::{AnalysisResult, Usage};
use crate::scheduler::{DeviceClass, Lane};
use crate::store::metric_writer::MetricSink;
use crate::store::metrics::{
    AnalysisMetric, JobMetric, JobStamps, MetricRow, RequestKind, RequestMetric, RequestTimes,
};
use crate::telemetry::goodput::Sla;

/// Which worker an embedded run is.
pub const WORKER: &str = "embedded";

/// Who works: the same in all rows of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maker {
    /// Its name.
    pub worker: String,
    /// What kind of device its model runs on.
    pub device: &'static str,
    /// Digest of the settings that bear on speed and findings.
    pub config: String,
    /// What counts as good service.
    pub sla: Sla,
}

impl Maker {
    /// A worker of that name under these settings.
    pub fn new(worker: String, device: DeviceClass, settings: &Settings) -> Self {
        let sla = Sla { ttft: settings.goodput.ttft };
        Self { worker, device: device.name(), config: settings.fingerprint(), sla }
    }
}

/// What a row says of the job's way besides what working it gave.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Who worked it.
    pub maker: &'a Maker,
    /// Identity of the result.
    pub result_id: &'a str,
    /// The lane it came in; absent if it came from a file.
    pub lane: Option<Lane>,
    /// The trace it belongs to.
    pub trace_id: Option<&'a str>,
    /// How often the server had delivered it; absent if it came from a file.
    pub deliveries: Option<u64>,
}

impl<'a> Source<'a> {
    /// A job from a file.
    pub fn file(maker: &'a Maker, job: &'a Job, trace_id: Option<&'a str>) -> Self {
        Self { maker, result_id: &job.job_id, lane: None, trace_id, deliveries: None }
    }
}

/// Offers a row for the job, and for each of its requests and analyses. `published`: when its result was stored, on the
/// engine's clock.
pub fn offer(sink: &MetricSink, job: &Job, worked: &Worked, source: Source<'_>, published: Duration) {
    let created_at = OffsetDateTime::now_utc();
    for (number, record) in worked.cost.requests.iter().enumerate() {
        sink.offer(MetricRow::Request(request(number, record, job, worked, source, created_at)));
    }
    for (place, analysis) in job.analyses.iter().enumerate() {
        if let Some(row) = analysis_row(*analysis, place == 0, job, worked, source, created_at) {
            sink.offer(MetricRow::Analysis(row));
        }
    }
    let prefilled = worked.cost.requests.iter().filter(|record| record.outcome.is_ok());
    let stamps = JobStamps {
        waited: worked.place.waited,
        received: worked.place.arrived,
        admitted: worked.cost.first_admission(),
        first_token: worked.cost.first_output(),
        prefilled: prefilled.map(|record| record.timing.first_output).max(),
        published,
    };
    let within_sla = source.maker.sla.verdict(&worked.sample());
    sink.offer(MetricRow::Job(job_row(job, &worked.result, source, stamps, within_sla, created_at)));
}

/// Offers the row of a job that ended without work: stale, or cancelled. The service level says nothing of it.
pub fn offer_unworked(
    sink: &MetricSink,
    job: &Job,
    result: &AnalysisResult,
    source: Source<'_>,
    place: Place,
    published: Duration,
) {
    let (received, waited) = (place.arrived, place.waited);
    let stamps =
        JobStamps { waited, received, admitted: None, first_token: None, prefilled: None, published };
    sink.offer(MetricRow::Job(job_row(job, result, source, stamps, None, OffsetDateTime::now_utc())));
}

fn job_row(
    job: &Job,
    result: &AnalysisResult,
    source: Source<'_>,
    stamps: JobStamps,
    within_sla: Option<bool>,
    created_at: OffsetDateTime,
) -> JobMetric {
    JobMetric {
        job_id: job.job_id.clone(),
        result_id: source.result_id.into(),
        restaurant_id: job.restaurant_id.clone(),
        worker: source.maker.worker.clone(),
        lane: source.lane,
        trace_id: source.trace_id.map(str::to_owned),
        outcome: result.outcome.clone(),
        model: result.model.name.clone(),
        prompt_version: result.model.prompt_version.clone(),
        device: source.maker.device.into(),
        config: source.maker.config.clone(),
        deliveries: source.deliveries,
        stamps,
        within_sla,
        // One that is unchanged has looked at none of its reviews, and is of its size all the same.
        usage: Usage { reviews: job.reviews.len() as u32, ..result.usage },
        created_at,
    }
}

fn request(
    number: usize,
    record: &RequestRecord,
    job: &Job,
    worked: &Worked,
    source: Source<'_>,
    created_at: OffsetDateTime,
) -> RequestMetric {
    let since = |at: Duration| at.saturating_sub(worked.place.arrived);
    let answered = record.outcome.is_ok();
    let kind = if record.is_generation() { RequestKind::Generation } else { RequestKind::Probe };
    RequestMetric {
        // A rerun of the same job asks anew: the engine's clock keeps its requests apart from the first run's.
        request_id: format!("{}-{number}", created_at.unix_timestamp_nanos()),
        job_id: job.job_id.clone(),
        result_id: source.result_id.into(),
        restaurant_id: job.restaurant_id.clone(),
        worker: source.maker.worker.clone(),
        lane: source.lane,
        trace_id: source.trace_id.map(str::to_owned),
        analysis: Cow::Borrowed(record.purpose),
        kind,
        model: worked.result.model.name.clone(),
        received: worked.place.arrived,
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
    let (own, unanswered) = own_usage(analysis, is_first, job, worked);
    let queue = worked.cost.first_admission().map_or(Duration::ZERO, |at| worked.place.since(at));
    Some(AnalysisMetric {
        job_id: job.job_id.clone(),
        result_id: source.result_id.into(),
        restaurant_id: job.restaurant_id.clone(),
        worker: source.maker.worker.clone(),
        lane: source.lane,
        trace_id: source.trace_id.map(str::to_owned),
        analysis,
        outcome: result.outcomes.get(&analysis)?.clone(),
        model: result.model.name.clone(),
        prompt_version: result.model.prompt_version.clone(),
        processing: worked.place.since(worked.finished).saturating_sub(queue),
        queue,
        ttft: worked.cost.first_output().map(|at| worked.place.since(at)),
        error_count: unanswered,
        warning_count: own.claims_written.saturating_sub(own.claims_kept),
        usage: own,
        created_at,
    })
}

/// What is charged to the analysis, and how many of its requests were not answered.
fn own_usage(analysis: Analysis, is_first: bool, job: &Job, worked: &Worked) -> (Usage, u32) {
    let is_own = |purpose: &str| match analysis {
        Analysis::Summary => purpose == "summary",
        Analysis::Strengths => purpose == "strengths",
        Analysis::Sentiment => false,
    };
    let is_shared = |purpose: &str| purpose != "summary" && purpose != "strengths";
    let asked = |analysis| job.analyses.contains(&analysis);
    let mut usage = Usage::default();
    let mut unanswered = 0;
    for record in &worked.cost.requests {
        if is_own(record.purpose) || (is_first && is_shared(record.purpose)) {
            usage.requests += 1;
            unanswered += u32::from(record.outcome.is_err());
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
    (usage, unanswered)
}
