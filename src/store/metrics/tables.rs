//! The columns of each table, said once: what a column is called, what it holds, where in the row that stands. Each home
//! makes its statement from these lists and binds by them. Units as in `migrations/`.

use time::OffsetDateTime;

use super::{
    AnalysisMetric, DeadLetterRow, GoodputWindow, GpuSampleRow, JobMetric, MetricRow, RequestMetric,
    WorkerEnd, WorkerStart, millis,
};
use crate::scheduler::Lane;

/// A column: its name, and its value in a row. What is absent is NULL.
pub(in crate::store) enum Column<R> {
    /// Any text.
    Text(&'static str, fn(&R) -> Option<&str>),
    /// A measure.
    Real(&'static str, fn(&R) -> Option<f64>),
    /// A count.
    Count(&'static str, fn(&R) -> Option<u64>),
    /// Yes or no.
    Flag(&'static str, fn(&R) -> Option<bool>),
    /// A date.
    Date(&'static str, fn(&R) -> OffsetDateTime),
}

/// A row of a table. In every table some columns together are unique, by which a row that is there already is known.
pub(in crate::store) trait Record: Sized + Sync + 'static {
    /// The table.
    const TABLE: &'static str;
    /// Its columns, but for those that the database fills by itself.
    const COLUMNS: &'static [Column<Self>];
}

impl<R> Column<R> {
    const fn name(&self) -> &'static str {
        match self {
            Self::Text(name, _)
            | Self::Real(name, _)
            | Self::Count(name, _)
            | Self::Flag(name, _)
            | Self::Date(name, _) => name,
        }
    }
}

/// The columns' names in their order.
pub(in crate::store) fn names<R: Record>() -> String {
    R::COLUMNS.iter().map(Column::name).collect::<Vec<_>>().join(", ")
}

/// Rows by their tables.
#[derive(Default)]
pub(in crate::store) struct ByTable<'r> {
    pub requests: Vec<&'r RequestMetric>,
    pub analyses: Vec<&'r AnalysisMetric>,
    pub jobs: Vec<&'r JobMetric>,
    pub windows: Vec<&'r GoodputWindow>,
    pub gpus: Vec<&'r GpuSampleRow>,
    pub letters: Vec<&'r DeadLetterRow>,
    pub starts: Vec<&'r WorkerStart>,
    pub ends: Vec<&'r WorkerEnd>,
}

impl<'r> ByTable<'r> {
    pub fn sort(rows: &'r [MetricRow]) -> Self {
        let mut sorted = Self::default();
        for row in rows {
            match row {
                MetricRow::Request(row) => sorted.requests.push(row),
                MetricRow::Analysis(row) => sorted.analyses.push(row),
                MetricRow::Job(row) => sorted.jobs.push(row),
                MetricRow::Goodput(row) => sorted.windows.push(row),
                MetricRow::Gpu(row) => sorted.gpus.push(row),
                MetricRow::DeadLetter(row) => sorted.letters.push(row),
                MetricRow::Worker(row) => sorted.starts.push(row),
                MetricRow::WorkerEnd(row) => sorted.ends.push(row),
            }
        }
        sorted
    }
}

impl Record for RequestMetric {
    const TABLE: &'static str = "llm_metrics";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::Text("request_id", |row| Some(&row.request_id)),
        Column::Text("job_id", |row| Some(&row.job_id)),
        Column::Text("result_id", |row| Some(&row.result_id)),
        Column::Text("restaurant_id", |row| Some(&row.restaurant_id)),
        Column::Text("worker", |row| Some(&row.worker)),
        Column::Text("lane", |row| row.lane.map(Lane::name)),
        Column::Text("trace_id", |row| row.trace_id.as_deref()),
        Column::Text("analysis", |row| Some(&row.analysis)),
        Column::Text("kind", |row| Some(row.kind.name())),
        Column::Text("model", |row| Some(&row.model)),
        Column::Real("queue_ms", |row| Some(millis(row.times.queue()))),
        Column::Real("prefill_ms", |row| row.times.prefill().map(millis)),
        Column::Real("decode_ms", |row| row.times.decode().map(millis)),
        Column::Real("total_ms", |row| Some(millis(row.times.finished))),
        Column::Real("ttft_ms", |row| row.times.ttft().map(millis)),
        Column::Real("tpot_ms", |row| row.tpot().map(millis)),
        Column::Real("tps", Self::tps),
        Column::Count("prompt_tokens", |row| Some(row.prompt_tokens)),
        Column::Count("cached_tokens", |row| Some(row.cached_tokens)),
        Column::Count("forced_tokens", |row| Some(row.forced_tokens)),
        Column::Count("generated_tokens", |row| Some(row.generated_tokens)),
        Column::Text("outcome", |row| Some(&row.outcome)),
        Column::Date("created_at", |row| row.created_at),
        Column::Real("at_received_ms", |row| Some(millis(row.received))),
    ];
}

impl Record for AnalysisMetric {
    const TABLE: &'static str = "analysis_metrics";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::Text("job_id", |row| Some(&row.job_id)),
        Column::Text("result_id", |row| Some(&row.result_id)),
        Column::Text("restaurant_id", |row| Some(&row.restaurant_id)),
        Column::Text("worker", |row| Some(&row.worker)),
        Column::Text("lane", |row| row.lane.map(Lane::name)),
        Column::Text("trace_id", |row| row.trace_id.as_deref()),
        Column::Text("analysis", |row| Some(row.analysis.name())),
        Column::Text("outcome", |row| Some(row.outcome.status())),
        Column::Text("error_code", Self::error_code),
        Column::Text("model", |row| Some(&row.model)),
        Column::Text("prompt_version", |row| Some(&row.prompt_version)),
        Column::Real("processing_ms", |row| Some(millis(row.processing))),
        Column::Real("queue_ms", |row| Some(millis(row.queue))),
        Column::Real("ttft_ms", |row| row.ttft.map(millis)),
        Column::Count("prompt_tokens", |row| Some(row.usage.prompt_tokens)),
        Column::Count("cached_tokens", |row| Some(row.usage.reused_tokens)),
        Column::Count("forced_tokens", |row| Some(row.usage.forced_tokens)),
        Column::Count("generated_tokens", |row| Some(row.usage.generated_tokens)),
        Column::Count("reviews", |row| Some(row.usage.reviews.into())),
        Column::Count("reviews_read", |row| Some(row.usage.reviews_read.into())),
        Column::Count("cache_hits", |row| Some(row.usage.reviews_cached.into())),
        Column::Count("baseline_tokens", |row| Some(row.usage.baseline_tokens)),
        Column::Count("warning_count", |row| Some(row.warning_count.into())),
        Column::Date("created_at", |row| row.created_at),
        Column::Count("error_count", |row| Some(row.error_count.into())),
    ];
}

impl Record for JobMetric {
    const TABLE: &'static str = "job_metrics";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::Text("job_id", |row| Some(&row.job_id)),
        Column::Text("result_id", |row| Some(&row.result_id)),
        Column::Text("restaurant_id", |row| Some(&row.restaurant_id)),
        Column::Text("worker", |row| Some(&row.worker)),
        Column::Text("lane", |row| row.lane.map(Lane::name)),
        Column::Text("trace_id", |row| row.trace_id.as_deref()),
        Column::Text("outcome", |row| Some(row.outcome.status())),
        Column::Text("error_code", Self::error_code),
        Column::Text("model", |row| Some(&row.model)),
        Column::Text("prompt_version", |row| Some(&row.prompt_version)),
        Column::Text("device", |row| Some(&row.device)),
        Column::Text("config", |row| Some(&row.config)),
        Column::Count("deliveries", |row| row.deliveries),
        Column::Real("at_received_ms", |row| Some(millis(row.stamps.received))),
        Column::Real("at_admitted_ms", |row| row.stamps.admitted.map(millis)),
        Column::Real("at_first_token_ms", |row| row.stamps.first_token.map(millis)),
        Column::Real("at_prefilled_ms", |row| row.stamps.prefilled.map(millis)),
        Column::Real("at_published_ms", |row| Some(millis(row.stamps.published))),
        Column::Real("queue_ms", |row| row.stamps.queue().map(millis)),
        Column::Real("ttft_ms", |row| row.stamps.ttft().map(millis)),
        Column::Real("total_ms", |row| Some(millis(row.stamps.total()))),
        Column::Flag("within_sla", |row| row.within_sla),
        Column::Count("reviews", |row| Some(row.usage.reviews.into())),
        Column::Count("reviews_read", |row| Some(row.usage.reviews_read.into())),
        Column::Count("cache_hits", |row| Some(row.usage.reviews_cached.into())),
        Column::Count("embedded_texts", |row| Some(row.usage.embedded_texts.into())),
        Column::Count("requests", |row| Some(row.usage.requests.into())),
        Column::Count("prompt_tokens", |row| Some(row.usage.prompt_tokens)),
        Column::Count("cached_tokens", |row| Some(row.usage.reused_tokens)),
        Column::Count("forced_tokens", |row| Some(row.usage.forced_tokens)),
        Column::Count("generated_tokens", |row| Some(row.usage.generated_tokens)),
        Column::Count("baseline_tokens", |row| Some(row.usage.baseline_tokens)),
        Column::Count("claims_written", |row| Some(row.usage.claims_written.into())),
        Column::Count("claims_kept", |row| Some(row.usage.claims_kept.into())),
        Column::Date("created_at", |row| row.created_at),
    ];
}

impl Record for GoodputWindow {
    const TABLE: &'static str = "goodput_windows";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::Text("worker", |row| Some(&row.worker)),
        Column::Date("started_at", Self::started_at),
        Column::Date("ended_at", |row| row.ended_at),
        Column::Real("wall_seconds", |row| Some(row.window.wall().as_secs_f64())),
        Column::Count("jobs", |row| Some(row.window.jobs)),
        Column::Count("jobs_met", |row| Some(row.window.jobs_met)),
        Column::Count("tokens", |row| Some(row.window.tokens)),
        Column::Count("tokens_met", |row| Some(row.window.tokens_met)),
        Column::Real("throughput_tps", |row| row.window.throughput_tps()),
        Column::Real("goodput_tps", |row| row.window.goodput_tps()),
        Column::Real("compliance", |row| row.window.compliance()),
        Column::Real("ttft_p50_ms", |row| row.window.ttft.map(|ttft| millis(ttft.p50))),
        Column::Real("ttft_p95_ms", |row| row.window.ttft.map(|ttft| millis(ttft.p95))),
        Column::Real("busy_seconds", |row| row.busy.map(|busy| busy.as_secs_f64())),
    ];
}

impl Record for GpuSampleRow {
    const TABLE: &'static str = "gpu_samples";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::Text("worker", |row| Some(&row.worker)),
        Column::Count("device", |row| Some(row.device.into())),
        Column::Text("name", |row| Some(&row.name)),
        Column::Real("utilization", |row| row.utilization),
        Column::Count("memory_used_bytes", |row| row.memory_used_bytes),
        Column::Count("memory_total_bytes", |row| row.memory_total_bytes),
        Column::Real("power_watts", |row| row.power_watts),
        Column::Real("temperature_celsius", |row| row.temperature_celsius),
        Column::Date("sampled_at", |row| row.sampled_at),
    ];
}

impl Record for DeadLetterRow {
    const TABLE: &'static str = "dead_letters";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::Text("job_id", |row| row.job_id.as_deref()),
        Column::Text("restaurant_id", |row| row.restaurant_id.as_deref()),
        Column::Text("worker", |row| Some(&row.worker)),
        Column::Text("lane", |row| Some(row.lane.name())),
        Column::Text("reason", |row| Some(&row.reason)),
        Column::Count("sequence", |row| Some(row.sequence)),
        Column::Count("deliveries", |row| Some(row.deliveries)),
        Column::Date("created_at", |row| row.created_at),
    ];
}

impl Record for WorkerStart {
    const TABLE: &'static str = "workers";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::Text("worker", |row| Some(&row.worker)),
        Column::Text("version", |row| Some(&row.version)),
        Column::Text("model", |row| Some(&row.model)),
        Column::Date("started_at", |row| row.started_at),
        Column::Text("device", |row| Some(&row.device)),
        Column::Count("slots", |row| Some(row.slots)),
        Column::Count("sequences", |row| Some(row.sequences)),
        Column::Text("config", |row| Some(&row.config)),
        Column::Real("sla_ms", |row| Some(millis(row.sla))),
    ];
}

impl Record for WorkerEnd {
    const TABLE: &'static str = "worker_ends";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::Text("worker", |row| Some(&row.worker)),
        Column::Date("started_at", |row| row.started_at),
        Column::Date("ended_at", |row| row.ended_at),
        Column::Text("ending", |row| Some(row.ending)),
    ];
}
