//! Metrics in SQLite. Columns and units as in `migrations/sqlite/`.

use sqlx::sqlite::SqliteConnection;

use super::{SqliteStore, integer};
use crate::scheduler::Lane;
use crate::store::StoreError;
use crate::store::metrics::{
    AnalysisMetric, DeadLetterRow, GoodputWindow, GpuSampleRow, JobMetric, MetricRow, MetricStore,
    RequestMetric, WorkerEnd, WorkerStart, millis, utc_text,
};

impl MetricStore for SqliteStore {
    async fn record(&self, rows: &[MetricRow]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut transaction = self.write().await?;
        for row in rows {
            match row {
                MetricRow::Request(row) => insert_request(&mut transaction, row).await,
                MetricRow::Analysis(row) => insert_analysis(&mut transaction, row).await,
                MetricRow::Goodput(row) => insert_goodput(&mut transaction, row).await,
                MetricRow::Worker(row) => insert_worker(&mut transaction, row).await,
                MetricRow::WorkerEnd(row) => insert_end(&mut transaction, row).await,
                MetricRow::Job(row) => insert_job(&mut transaction, row).await,
                MetricRow::Gpu(row) => insert_gpu(&mut transaction, row).await,
                MetricRow::DeadLetter(row) => insert_letter(&mut transaction, row).await,
            }
            .map_err(|error| self.explain(error))?;
        }
        self.commit(transaction).await
    }
}

async fn insert_request(connection: &mut SqliteConnection, row: &RequestMetric) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO llm_metrics
             (request_id, job_id, result_id, restaurant_id, worker, lane, trace_id, analysis, kind, model,
              queue_ms, prefill_ms, decode_ms, total_ms, ttft_ms, tpot_ms, tps,
              prompt_tokens, cached_tokens, forced_tokens, generated_tokens, outcome, created_at, at_received_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (result_id, request_id) DO NOTHING",
    )
    .bind(&row.request_id)
    .bind(&row.job_id)
    .bind(&row.result_id)
    .bind(&row.restaurant_id)
    .bind(&row.worker)
    .bind(row.lane.map(Lane::name))
    .bind(&row.trace_id)
    .bind(&*row.analysis)
    .bind(row.kind.name())
    .bind(&row.model)
    .bind(millis(row.times.queue()))
    .bind(row.times.prefill().map(millis))
    .bind(row.times.decode().map(millis))
    .bind(millis(row.times.finished))
    .bind(row.times.ttft().map(millis))
    .bind(row.tpot().map(millis))
    .bind(row.tps())
    .bind(integer(row.prompt_tokens))
    .bind(integer(row.cached_tokens))
    .bind(integer(row.forced_tokens))
    .bind(integer(row.generated_tokens))
    .bind(&*row.outcome)
    .bind(utc_text(row.created_at))
    .bind(millis(row.received))
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_analysis(connection: &mut SqliteConnection, row: &AnalysisMetric) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO analysis_metrics
             (job_id, result_id, restaurant_id, worker, lane, trace_id, analysis, outcome, error_code, model,
              prompt_version,
              processing_ms, queue_ms, ttft_ms,
              prompt_tokens, cached_tokens, forced_tokens, generated_tokens,
              reviews, reviews_read, cache_hits, baseline_tokens, warning_count, created_at, error_count)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (result_id, analysis) DO NOTHING",
    )
    .bind(&row.job_id)
    .bind(&row.result_id)
    .bind(&row.restaurant_id)
    .bind(&row.worker)
    .bind(row.lane.map(Lane::name))
    .bind(&row.trace_id)
    .bind(row.analysis.name())
    .bind(row.outcome.status())
    .bind(row.error_code())
    .bind(&row.model)
    .bind(&row.prompt_version)
    .bind(millis(row.processing))
    .bind(millis(row.queue))
    .bind(row.ttft.map(millis))
    .bind(integer(row.usage.prompt_tokens))
    .bind(integer(row.usage.reused_tokens))
    .bind(integer(row.usage.forced_tokens))
    .bind(integer(row.usage.generated_tokens))
    .bind(row.usage.reviews)
    .bind(row.usage.reviews_read)
    .bind(row.usage.reviews_cached)
    .bind(integer(row.usage.baseline_tokens))
    .bind(row.warning_count)
    .bind(utc_text(row.created_at))
    .bind(row.error_count)
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_goodput(connection: &mut SqliteConnection, row: &GoodputWindow) -> Result<(), sqlx::Error> {
    let window = &row.window;
    sqlx::query(
        "INSERT INTO goodput_windows
             (worker, started_at, ended_at, wall_seconds, jobs, jobs_met, tokens, tokens_met,
              throughput_tps, goodput_tps, compliance, ttft_p50_ms, ttft_p95_ms, busy_seconds)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (worker, started_at, ended_at) DO NOTHING",
    )
    .bind(&row.worker)
    .bind(utc_text(row.started_at()))
    .bind(utc_text(row.ended_at))
    .bind(window.wall().as_secs_f64())
    .bind(integer(window.jobs))
    .bind(integer(window.jobs_met))
    .bind(integer(window.tokens))
    .bind(integer(window.tokens_met))
    .bind(window.throughput_tps())
    .bind(window.goodput_tps())
    .bind(window.compliance())
    .bind(window.ttft.map(|ttft| millis(ttft.p50)))
    .bind(window.ttft.map(|ttft| millis(ttft.p95)))
    .bind(row.busy.map(|busy| busy.as_secs_f64()))
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_worker(connection: &mut SqliteConnection, row: &WorkerStart) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO workers (worker, version, model, started_at, device, slots, sequences, config, sla_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (worker, started_at) DO NOTHING",
    )
    .bind(&row.worker)
    .bind(&row.version)
    .bind(&row.model)
    .bind(utc_text(row.started_at))
    .bind(&*row.device)
    .bind(integer(row.slots))
    .bind(integer(row.sequences))
    .bind(&row.config)
    .bind(millis(row.sla))
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_end(connection: &mut SqliteConnection, row: &WorkerEnd) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO worker_ends (worker, started_at, ended_at, ending) VALUES (?, ?, ?, ?)
         ON CONFLICT (worker, started_at) DO NOTHING",
    )
    .bind(&row.worker)
    .bind(utc_text(row.started_at))
    .bind(utc_text(row.ended_at))
    .bind(row.ending)
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_job(connection: &mut SqliteConnection, row: &JobMetric) -> Result<(), sqlx::Error> {
    let (stamps, usage) = (&row.stamps, &row.usage);
    sqlx::query(
        "INSERT INTO job_metrics
             (job_id, result_id, restaurant_id, worker, lane, trace_id, outcome, error_code, model, prompt_version,
              device, config, deliveries, at_received_ms, at_admitted_ms, at_first_token_ms, at_prefilled_ms,
              at_published_ms, queue_ms, ttft_ms, total_ms, within_sla,
              reviews, reviews_read, cache_hits, embedded_texts, requests,
              prompt_tokens, cached_tokens, forced_tokens, generated_tokens, baseline_tokens,
              claims_written, claims_kept, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (result_id) DO NOTHING",
    )
    .bind(&row.job_id)
    .bind(&row.result_id)
    .bind(&row.restaurant_id)
    .bind(&row.worker)
    .bind(row.lane.map(Lane::name))
    .bind(&row.trace_id)
    .bind(row.outcome.status())
    .bind(row.error_code())
    .bind(&row.model)
    .bind(&row.prompt_version)
    .bind(&*row.device)
    .bind(&row.config)
    .bind(row.deliveries.map(integer))
    .bind(millis(stamps.received))
    .bind(stamps.admitted.map(millis))
    .bind(stamps.first_token.map(millis))
    .bind(stamps.prefilled.map(millis))
    .bind(millis(stamps.published))
    .bind(stamps.queue().map(millis))
    .bind(stamps.ttft().map(millis))
    .bind(millis(stamps.total()))
    .bind(row.within_sla)
    .bind(usage.reviews)
    .bind(usage.reviews_read)
    .bind(usage.reviews_cached)
    .bind(usage.embedded_texts)
    .bind(usage.requests)
    .bind(integer(usage.prompt_tokens))
    .bind(integer(usage.reused_tokens))
    .bind(integer(usage.forced_tokens))
    .bind(integer(usage.generated_tokens))
    .bind(integer(usage.baseline_tokens))
    .bind(usage.claims_written)
    .bind(usage.claims_kept)
    .bind(utc_text(row.created_at))
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_gpu(connection: &mut SqliteConnection, row: &GpuSampleRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO gpu_samples
             (worker, device, name, utilization, memory_used_bytes, memory_total_bytes, power_watts,
              temperature_celsius, sampled_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (worker, device, sampled_at) DO NOTHING",
    )
    .bind(&row.worker)
    .bind(row.device)
    .bind(&row.name)
    .bind(row.utilization)
    .bind(row.memory_used_bytes.map(integer))
    .bind(row.memory_total_bytes.map(integer))
    .bind(row.power_watts)
    .bind(row.temperature_celsius)
    .bind(utc_text(row.sampled_at))
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_letter(connection: &mut SqliteConnection, row: &DeadLetterRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO dead_letters
             (job_id, restaurant_id, worker, lane, reason, sequence, deliveries, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (sequence, created_at) DO NOTHING",
    )
    .bind(&row.job_id)
    .bind(&row.restaurant_id)
    .bind(&row.worker)
    .bind(row.lane.name())
    .bind(&row.reason)
    .bind(integer(row.sequence))
    .bind(integer(row.deliveries))
    .bind(utc_text(row.created_at))
    .execute(connection)
    .await
    .map(drop)
}
