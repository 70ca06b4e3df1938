//! Metrics in SQLite. Columns and units as in `migrations/sqlite/`.

use sqlx::sqlite::SqliteConnection;

use super::{SqliteStore, integer};
use crate::scheduler::Lane;
use crate::store::StoreError;
use crate::store::metrics::{
    AnalysisMetric, GoodputWindow, MetricRow, MetricStore, RequestMetric, WorkerStart, millis, utc_text,
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
              prompt_tokens, cached_tokens, forced_tokens, generated_tokens, outcome, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
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
              reviews, reviews_read, cache_hits, baseline_tokens, warning_count, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
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
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_goodput(connection: &mut SqliteConnection, row: &GoodputWindow) -> Result<(), sqlx::Error> {
    let window = &row.window;
    sqlx::query(
        "INSERT INTO goodput_windows
             (worker, started_at, ended_at, wall_seconds, jobs, jobs_met, tokens, tokens_met,
              throughput_tps, goodput_tps, compliance, ttft_p50_ms, ttft_p95_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
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
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_worker(connection: &mut SqliteConnection, row: &WorkerStart) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO workers (worker, version, model, started_at) VALUES (?, ?, ?, ?)
         ON CONFLICT (worker, started_at) DO NOTHING",
    )
    .bind(&row.worker)
    .bind(&row.version)
    .bind(&row.model)
    .bind(utc_text(row.started_at))
    .execute(connection)
    .await
    .map(drop)
}
